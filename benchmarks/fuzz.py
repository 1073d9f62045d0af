"""Run the whole loop with an untrained model, which writes anything the schema allows, and count violations.

The model is a tiny random Qwen-VL (``tests/models``) at temperature 1, the tools are the real ones with a real Whisper, the video is a real
file. The replies follow the grammar of each prompt pack in turn; prompts are one line each, because a random model
ignores them. A figure other than 0 behind "violations" is a bug.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final

from gguf import GGUFReader

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, Event, NoAnswer, Notice, StepStarted, ToolCalled, ToolFinished
from sage_cli.agent.protocol import ContextReply, ReasonerReply
from sage_cli.model.base import Prompt, Reply, StreamItem
from sage_cli.model.llama import LlamaModel
from sage_cli.prompts import PACKS, PLACEHOLDERS, Prompts, Style
from sage_cli.speech import Transcriber, Transcript
from sage_cli.tools import TOOLS
from sage_cli.tools.reply import WRAP
from sage_cli.video import Video
from tests.media import make_video
from tests.models import write_qwen2_5_vl, write_qwen3_vl
from tests.models.tiny_whisper import write_whisper

WRITERS = {"qwen3-vl": write_qwen3_vl, "qwen2.5-vl": write_qwen2_5_vl}
MAX_STEPS: Final = 4
FRAME_TOKENS: Final = 12
# The prompt, and the raised odds that a string ends: otherwise every first string would run to its limit, and the rest would not be random.
_PROMPT: Final = "Answer the question."
_BREVITY: Final = 1.2


class Recording(LlamaModel):
    """A model that remembers the replies of the agent's own steps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.replies: list[str] = []

    def stream(self, prompt: Prompt, *, schema: Mapping[str, Any] | None = None, **options: Any) -> Generator[StreamItem]:
        own = "recommended_tools" in json.dumps(schema)  # not a question that a tool asks
        for item in super().stream(prompt, schema=schema, **options):
            if own and isinstance(item, Reply):
                self.replies.append(item.text)
            yield item


@dataclass
class Findings:
    """Counts over all runs.

    Attributes:
        seen: counts of outcomes, for the report.
        violations: counts of what must not happen.
    """

    seen: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)

    def check(self, events: list[Event], replies: list[str], video: Video, style: Style) -> None:
        """Check one finished run."""
        self.seen["runs"] += 1
        self.seen["answered"] += isinstance(events[-1], Answer)
        self.violations["runs that did not end in one answer or none"] += [isinstance(e, Answer | NoAnswer) for e in events].count(
            True
        ) != 1 or not isinstance(events[-1], Answer | NoAnswer)
        steps = [event for event in events if isinstance(event, StepStarted)]
        self.seen["steps"] += len(steps)
        self.violations["runs past the step limit"] += max(event.step for event in steps) > MAX_STEPS
        self.seen["turns"] += len(replies)
        self.seen["answers without sense"] += sum(isinstance(event, Notice) and "no sense" in event.text for event in events)
        self.violations["replies that could not be read"] += sum(
            isinstance(event, Notice) and "could not be read" in event.text for event in events
        )
        for step, reply in zip(steps, replies, strict=False):
            self.violations["invalid replies"] += not _valid(reply, step.step == 0, style)
        made: set[str] = set()
        for event in events:
            match event:
                case ToolCalled(tool=tool, arguments=arguments, span=span):
                    self.seen[f"calls of {tool}"] += 1
                    self.violations["invalid arguments"] += not _valid_arguments(tool, arguments)
                    self.violations["paths outside the run"] += not _inside(arguments, made, video)
                    self.violations["times outside the video"] += span is not None and not 0 <= span.start <= span.end <= video.duration
                case ToolFinished(ok=ok, result=result, repeated=repeated):
                    made |= set(result.get("media_paths", ()))
                    self.violations["failed tools"] += not ok
                    self.seen["repeated calls"] += repeated
                case Notice():
                    self.seen["notices"] += 1


def _valid(reply: str, first: bool, style: Style) -> bool:
    """The wrapping literal, the keys in an order of the pack, the types exact."""
    before, after = WRAP
    if not (reply.startswith(before) and reply.endswith(after)):
        return False
    body = json.loads(reply.removeprefix(before).removesuffix(after))
    ordered = tuple(body) in (style.first if first else style.later)
    for call in body["recommended_tools"]["tool_calls"]:
        reason = next((name for name in style.rationale if name in call), "")
        order = tuple("rationale" if key == reason else key for key in call)
        ordered = ordered and order in (style.first_call if first else style.later_call)
        call["rationale"] = call.pop(reason, None)
    kind: type[ContextReply] | type[ReasonerReply] = ContextReply if first else ReasonerReply
    try:
        parsed = kind.model_validate_json(json.dumps(body))
    except ValueError:
        return False
    return ordered and (parsed.recommended_tools.call is not None) == parsed.recommended_tools.needed


def _valid_arguments(name: str, arguments: Mapping[str, Any]) -> bool:
    tool = next(tool for tool in TOOLS if tool.name == name)
    try:
        tool.arguments.model_validate(arguments, strict=True)
    except ValueError:
        return False
    return True


def _inside(arguments: Mapping[str, Any], made: set[str], video: Video) -> bool:
    paths = set(arguments.get("media_paths", ()))
    relative = not any(PurePath(path).is_absolute() or ".." in PurePath(path).parts for path in paths)
    return paths <= {*made, video.path.name} and relative and arguments.get("video_path", video.path.name) == video.path.name


def fuzz(turns: int, folder: Path, *, first_seed: int = 0) -> Findings:
    """Run with the grammar of each pack, half with each model family, until the model has written ``turns`` replies for each."""
    video = Video(make_video(folder / "holiday.mp4", seconds=20, fps=5, size=(96, 64), audio="tone"))
    whisper = write_whisper(folder / "ggml-tiny.bin")
    prompts = _short_prompts(folder / "prompts")
    findings = Findings()
    with closing(Transcriber(whisper, threads=1)) as transcriber:
        transcript = Transcript(transcriber, video, video.id)
        for family, write in WRITERS.items():
            files = write(folder / family)
            _shorten_strings(files.text)
            with closing(Recording(files.text, files.mmproj, context_size=4096, threads=1)) as recording:
                for pack in PACKS:
                    name = f"turns, {pack}, {family}"
                    seed = first_seed
                    while findings.seen[name] < turns / len(WRITERS):
                        settings = Settings(
                            frames=4,
                            frame_tokens=FRAME_TOKENS,
                            max_steps=MAX_STEPS,
                            reply_tokens=700,
                            temperature=1.0,
                            seed=seed,
                            prompts=Prompts(prompts, pack),
                        )
                        agent = Agent(recording, video, settings=settings, transcriber=lambda: transcript)
                        recording.replies.clear()
                        seed += 1
                        try:
                            events = list(agent.run("What happens?"))
                        except Exception as error:  # noqa: BLE001 - an exception is a finding
                            findings.violations[f"exceptions ({type(error).__name__}: {error}, {name}, seed {seed - 1})"] += 1
                            findings.seen[name] += 1
                            continue
                        findings.seen[name] += len(recording.replies)
                        findings.check(events, recording.replies, video, agent.prompts.style)
    return findings


def _short_prompts(folder: Path) -> Path:
    folder.mkdir()
    for name, placeholders in PLACEHOLDERS.items():
        shown = [f"<<<{placeholder}>>>" for placeholder in sorted(placeholders - {"tools"})]
        (folder / f"{name}.txt").write_text(" ".join([_PROMPT, *shown]), encoding="utf-8")
    return folder


def _shorten_strings(model: Path) -> None:
    """Raise the odds of tokens that begin with a quotation mark, by one dimension of the hidden state that is made a constant."""
    reader = GGUFReader(model, "r+")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    field = reader.fields["tokenizer.ggml.tokens"]
    quotes = [number for number, at in enumerate(field.data) if bytes(field.parts[at]).startswith(b'"')]
    tensors["token_embd.weight"][:, 0] = 8.0
    tensors["output.weight"][:, 0] = 0.0
    tensors["output.weight"][quotes, 0] = _BREVITY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2000, help="replies under the grammar of each pack")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        findings = fuzz(options.turns, Path(folder), first_seed=options.seed)
    print(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    for name, count in sorted(findings.seen.items()):
        print(f"{name:<45} {count:6}")
    print(f"{'violations':<45} {sum(findings.violations.values()):6}")
    for name, count in sorted(findings.violations.items()):
        print(f"  {name:<43} {count:6}")


if __name__ == "__main__":
    main()

"""Decoding speed compared with llama.cpp's own programs: ``python -m benchmarks.decoding WORK``.

Unconstrained, compared with llama-mtmd-cli: tokens after a short prompt with one frame. Constrained, compared with llama-server under the
same ``json_schema``: a whole reply with a tool call. Its free texts have a fixed length, so both sides write the same number of characters
except for escapes. The weights are random, so the model's first choice never fits the schema, and llama-server searches the whole
vocabulary for every token; with a trained model that happens less often. Times are processor time including sampling, since the machine may
be shared.

Run after ``python -m benchmarks.peers``. The server starts last, because its memory use would slow the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.models import model
from benchmarks.report import median, ratio, show
from benchmarks.second_question import write_frames
from tests.media import make_video

CONTEXT = 2048
SIZE = (64, 64)  # a small frame, as its encoding would only add noise
QUESTION = "Tell what you see."


def text(length: int) -> dict[str, Any]:
    return {"type": "string", "minLength": length, "maxLength": length}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# A tool-calling reply of the reasoner, as a run with this video allows it, except for the lengths.
CALL = record(
    rationale=text(80),
    name={"const": "identify_timestamps_visually"},
    arguments=record(
        event=text(30),
        video_path={"const": "holiday.mp4"},
        timestamp_start={"enum": ["00:00:10", "00:00:20"]},
        timestamp_end={"enum": ["00:00:30", "00:00:40"]},
    ),
)
SCHEMA = record(
    answerable=record(verdict={"const": False}, reasoning=text(120)),
    final_answer={"type": "null"},
    recommended_tools=record(
        needed={"const": True}, why_no_tool={"type": "null"}, tool_calls={"type": "array", "items": CALL, "minItems": 1, "maxItems": 1}
    ),
)


@dataclass(frozen=True)
class Written:
    """A reply.

    Attributes:
        token_s: processor seconds per token of free text.
        seconds: processor seconds of a reply under the schema.
        tokens, forced: of that reply.
        characters: of that reply.
    """

    token_s: float
    seconds: float
    tokens: int
    forced: int
    characters: int


def write_here(work: Path, image: Path, name: str, threads: int, tokens: int) -> Written:
    import cv2
    import numpy as np

    from sage_cli.model.base import Delta, Frames, Message, Reply, Text
    from sage_cli.model.llama import LlamaModel
    from sage_cli.video import Frame

    files = model(work, name)
    read = cv2.imread(str(image))
    assert read is not None, image
    pixels = np.ascontiguousarray(read[..., ::-1], np.uint8)
    prompt = [Message("user", (Frames((Frame(0.0, pixels, "frame"),), pairs=False), Text(QUESTION)))]
    with LlamaModel(files.text, files.mmproj, context_size=CONTEXT, threads=threads) as loaded:

        def write(**more: Any) -> tuple[float, Reply]:
            """The processor seconds of a reply, from its first text on."""
            began = 0.0
            for item in loaded.stream(prompt, **more):
                if isinstance(item, Delta) and not began:
                    began = time.process_time()
            assert isinstance(item, Reply)
            return time.process_time() - began, item

        free_s, free = write(max_tokens=tokens + 1)
        bound_s, bound = write(schema=SCHEMA, max_tokens=1000)
    json.loads(bound.text)
    # The last token of a reply is not decoded.
    token_s = free_s / (free.usage.output_tokens - 1)
    return Written(token_s, bound_s, bound.usage.output_tokens, bound.usage.output_forced, len(bound.text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--tokens", type=int, default=128, help="of an unconstrained reply")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="qwen3-vl-2b")
    parser.add_argument("--child", type=Path, metavar="IMAGE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work, threads = options.work, options.threads
    if options.child:
        print(json.dumps(asdict(write_here(work, options.child, options.model, threads, options.tokens))))
        return

    files = model(work, options.model)
    (image,), _ = write_frames(work, make_video(work / "decoding.mp4", seconds=2, fps=25, size=SIZE), 1, SIZE)
    command = [sys.executable, "-m", "benchmarks.decoding", str(work), "--threads", str(threads), "--tokens", str(options.tokens)]
    command += ["--model", options.model, "--child", str(image)]
    sizes: dict[str, Any] = {"threads": threads, "context": CONTEXT}
    ours: list[Written] = []
    plain: list[float] = []
    bound: list[float] = []
    lengths: list[int] = []

    def write_there(tokens: int) -> float:
        return peers.cli(work, files.text, files.mmproj, f"<__media__>{QUESTION}", [image], tokens=tokens, **sizes).processor

    for _ in range(options.runs):
        ours.append(Written(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)))
        # A run of one token measures everything but decoding.
        plain.append((write_there(options.tokens + 1) - write_there(1)) / options.tokens)
    with peers.server(work, files.text, files.mmproj, **sizes) as running:
        prompt = f"<|im_start|>user\n{running.marker}{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        png = image.read_bytes()
        running.first_token(prompt, [png], n_predict=1)
        for _ in range(options.runs):
            began = running.cost()
            reply = running.complete(prompt, [png], json_schema=SCHEMA, n_predict=1000)
            bound.append((running.cost() - began).processor)
            json.loads(reply["content"])
            lengths.append(len(reply["content"]))

    # Texts of the same length may need more or fewer escapes.
    ours_each = [1000 * written.seconds / written.characters for written in ours]
    theirs_each = [1000 * spent / length for spent, length in zip(bound, lengths, strict=True)]
    free, seconds, last = [written.token_s for written in ours], [written.seconds for written in ours], ours[-1]
    show(
        f"Decoding: {options.model}, medians of {options.runs} runs",
        threads,
        ["processor time", "sage", "llama.cpp", "sage / llama.cpp"],
        [
            [
                f"a token of free text ({options.tokens} of them), llama-mtmd-cli",
                f"{1000 * median(free):.1f} ms",
                f"{1000 * median(plain):.1f} ms",
                f"{ratio(free, plain):.2f}",
            ],
            ["a reply under a schema, llama-server", f"{median(seconds):.2f} s", f"{median(bound):.2f} s", f"{ratio(seconds, bound):.2f}"],
            [
                "the same, a character",
                f"{median(ours_each):.1f} ms",
                f"{median(theirs_each):.1f} ms",
                f"{ratio(ours_each, theirs_each):.2f}",
            ],
        ],
        f"Under the schema sage writes {last.characters} characters as {last.tokens} tokens, {last.forced} of them forced and not sampled; "
        f"llama-server writes {len(reply['content'])} characters as {reply['timings']['predicted_n']} tokens.",
    )


if __name__ == "__main__":
    main()

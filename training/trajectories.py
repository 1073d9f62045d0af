"""What an ideal agent would have said: for a question, every call of the model on the way to the answer, prompt and reply.

Prompts are laid out by the same files, and results written in the same words, as ``sage`` uses at inference; ``tests/training`` drives the
real agent and its real tools with these replies and compares every prompt. Replies are what the constrained decoder would let through,
character for character.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sage_cli.agent.results import Call, Results
from sage_cli.assets import NANO
from sage_cli.prompts import Prompts
from sage_cli.speech.segment import Progress, Segment
from sage_cli.tools.base import Outcome
from sage_cli.video.sampling import uniform_times
from training.questions import TRANSCRIBABLE, Question, article, clock, hours, seconds, sentence
from training.speech import FACTS
from training.world import SIZE, Line, Thing, World, degrade

FRAMES: Final = 16  # most frames the nano model looks at in one call
CONTENT, FORM = "\x02", "\x03"  # mark where content begins and ends in a reply; the rest is forced by the schema

# Why a call is made; for people to read in the terminal.
RATIONALES: Final = {
    "verbal_transcript": "Listen to what is said.",
    "identify_timestamps_visually": "Find when it is there.",
    "extract_parts_from_timestamp": "Look closer at that moment.",
    "perform_reasoning": "Analyze the clip.",
}
INTENTS: Final = {
    "colour": "a color", "shape": "a shape", "count": "a number", "first": "an order", "last": "an order", "appears": "a moment",
    "when": "a time",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """One call of the model.

    Attributes:
        system: the system message; ``None`` for none.
        text: the user message, after the frames.
        reply: with content marked by :data:`CONTENT` and :data:`FORM`.
        times: of the frames shown, in seconds.
        role: ``"look"``, ``"reason"``, ``"ground"`` or ``"analyze"``.
    """

    system: str | None
    text: str
    reply: str
    times: tuple[float, ...]
    role: str

    @property
    def plain_reply(self) -> str:
        return self.reply.replace(CONTENT, "").replace(FORM, "")


@cache
def nano_prompts() -> Prompts:
    """The nano model's prompt pack, as ``sage --model nano`` reads it."""
    return Prompts(NANO.name)


# ---- frames --------------------------------------------------------------------------------------------------------


def visible(world: World, times: Sequence[float]) -> list[Thing]:
    """The things that frames at these times show, each once, in order of appearance."""
    return list(dict.fromkeys(world.shown(time).thing for time in times))


def render_slices(world: World, times: Sequence[float], noise: np.random.Generator) -> NDArray[np.uint8]:
    """Frames in pairs, shape ``(slices, 2, 96, 96, 3)``; a last frame without a partner is its own."""
    frames = degrade(np.stack([world.render(time) for time in times]), noise)
    if len(frames) % 2:
        frames = np.concatenate([frames, frames[-1:]])
    return frames.reshape(-1, 2, SIZE, SIZE, 3)


def slice_times(times: Sequence[float]) -> list[float]:
    """Mean time of each pair."""
    return [sum(times[i : i + 2]) / len(times[i : i + 2]) for i in range(0, len(times), 2)]


# ---- replies -------------------------------------------------------------------------------------------------------


def _content(value: object) -> str:
    return f"{CONTENT}{json.dumps(value)}{FORM}"


def _tools(call: tuple[str, dict[str, Any]] | None) -> str:
    if call is None:
        return '{"needed": false, "why_no_tool": null, "tool_calls": []}'
    name, arguments = call
    given = ", ".join(f'"{key}": {json.dumps(value) if key == "video_path" else _content(value)}' for key, value in arguments.items())
    return (
        f'{{"needed": true, "why_no_tool": null, "tool_calls": [{{"rationale": {_content(RATIONALES[name])}, '
        f'"name": {_content(name)}, "arguments": {{{given}}}}}]}}'
    )


def _wrap(body: str) -> str:
    return f"<json>\n{body}\n</json>"


def look_reply(context: str, intent: str, answer: str | None, call: tuple[str, dict[str, Any]] | None) -> str:
    """Stage 1."""
    return _wrap(
        f'{{"video_context": {_content(context)}, "query_intent": {_content(intent)}, '
        f'"final_answer": {_content(answer)}, "recommended_tools": {_tools(call)}}}'
    )


def reason_reply(answer: str | None, call: tuple[str, dict[str, Any]] | None) -> str:
    """Stage 2."""
    reason = "This is known." if call is None else "This is not enough."
    return _wrap(
        f'{{"answerable": {{"verdict": {_content(call is None)}, "reasoning": {_content(reason)}}}, '
        f'"final_answer": {_content(answer)}, "recommended_tools": {_tools(call)}}}'
    )


# ---- trajectories --------------------------------------------------------------------------------------------------

Asked: TypeAlias = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Faults:
    """What the teacher does wrong in one trajectory, where the question gives occasion; :class:`training.config.Teacher` explains each."""

    superfluous: bool = False
    guess: bool = False
    window: bool = False
    idle: bool = False
    repeat: bool = False


def needs_tools(world: World, question: Question) -> bool:
    """Whether the first look cannot answer: what a question is about may or may not be in the sampled frames."""
    if question.form != "colour":
        return question.kind != "visual"
    shape = question.subject.split()[-1]
    return all(world.shown(time).thing.shape != shape for time in uniform_times(world.duration, FRAMES))


class Trajectory:
    """The calls for one question, in order.

    Args:
        name: the video's file name.
        faults: of the teacher; none by default.
    """

    def __init__(self, world: World, question: Question, name: str, faults: Faults = Faults()) -> None:
        self.world, self.question, self.name, self.faults = world, question, name, faults
        self.prompts = nano_prompts()
        self.info = f"Video Path: {name} of duration {hours(world.duration)}."
        self.results = Results()
        self.times = tuple(uniform_times(world.duration, FRAMES))
        self.context = f"Shapes: {', '.join(map(str, visible(world, self.times)))}."

    def turns(self) -> Iterator[Turn]:
        question = self.question
        needed = needs_tools(self.world, question)
        first = self._first_call() if (not self.faults.guess if needed else self.faults.superfluous) else None
        answer = None if first is not None else self._guess() if needed else question.answer
        intent = INTENTS.get(question.form, "speech")
        if question.form in ("before", "after"):
            # Looked up here, where the list is near and the thing itself the last word but one; the answer says it again.
            intent = f"what comes {question.form} {question.subject.split()[-1]} is {' '.join(question.answer.split()[1:3])}"
        system = self.prompts.render("context_vlm", tools="")
        yield Turn(system, f"{question.text}\n{self.info}", look_reply(self.context, intent, answer, first), self.times, "look")
        if first is None:
            return
        if first[0] == "identify_timestamps_visually":
            yield from self._ground(first)
        elif first[0] == "extract_parts_from_timestamp":
            yield from self._examine(first, self.question.text)
        else:
            yield from self._listen(first)

    def _guess(self) -> str:
        """What a teacher answers that trusts its first look too much."""
        question, shape = self.question, self.question.subject.split()[-1]
        match question.form:
            case "appears":
                assert question.window is not None
                scene = next(scene for scene in self.world.scenes if question.window[0] < scene.end)
                return sentence(f"{article(scene.thing)} appears")
            case "when":
                return f"The {question.subject} does not appear."
            case "colour":
                return f"There is no {shape}."
        return FACTS[question.subject].missing

    def _first_call(self) -> Asked:
        question = self.question
        start, end = (clock(time) for time in question.window or (0, min(self.world.duration, TRANSCRIBABLE)))
        window = {"timestamp_start": start, "timestamp_end": end}
        match question.form:
            case "when":
                return "identify_timestamps_visually", {"video_path": self.name, "event": question.subject, **window}
            case "appears":
                return "extract_parts_from_timestamp", {"video_path": self.name, **window, "extract_type": "subclips"}
        if self.faults.window and question.window:
            window = {"timestamp_start": clock(0), "timestamp_end": clock(300)}
        return "verbal_transcript", {"video_path": self.name, **window}

    def _reason(self, answer: str | None, call: Asked | None = None) -> Turn:
        results = self.results.kept()
        text = self.prompts.render(
            "iterative_reasoner_msg",
            previous_tool_call="",
            visual_context=self.context,
            query=self.question.text,
            video_info=self.info,
            tools_so_far="".join(f"{result.key} output: {result.output}\n" for result in results),
        )
        return Turn(self.prompts.render("iterative_reasoner", tools=""), text, reason_reply(answer, call), (), "reason")

    def _result(self, asked: Asked, result: dict[str, Any]) -> Iterator[Turn]:
        """Keep a result; a teacher that repeats itself makes the call again."""
        call = Call(*asked, span=None)
        self.results.add(call, Outcome(result, ""))
        if self.faults.repeat:
            yield self._reason(None, asked)
            self.results.add_again(call)

    def _ground(self, asked: Asked) -> Iterator[Turn]:
        subject = self.question.subject
        start, end = self.question.window or (0.0, float(int(self.world.duration)))
        turn = ground_turn(self.world, subject, float(start), float(end))
        yield turn
        found = json.loads(turn.plain_reply.removeprefix("<json>\n").removesuffix("\n</json>"))["timestamps"]
        times = {key: value and f"00:{value}" for key, value in found.items()}
        yield from self._result(asked, {"name": subject, "timestamps": times})
        if times["start"] is None:
            yield self._reason(f"The {subject} does not appear.")
        else:
            yield self._reason(f"The {subject} appears from {times['start']} to {times['end']}.")

    def _examine(self, asked: Asked, query: str) -> Iterator[Turn]:
        """After the call to extract: its result, the call to analyze, the analysis, the answer."""
        arguments = asked[1]
        yield from self._result(asked, {"media_paths": ["c1.mp4"]})
        analysis = ("perform_reasoning", {"query": query, "media_paths": ["c1.mp4"]})
        yield self._reason(None, analysis)
        start, end = (60 * int(text[:2]) + int(text[3:]) for text in (arguments["timestamp_start"], arguments["timestamp_end"]))
        yield analyze_turn(self.world, query, self.question.answer, start, end)
        self.results.add(Call(*analysis, span=None), Outcome({"answer": self.question.answer}, ""))
        yield self._reason(self.question.answer)

    def _listen(self, asked: Asked) -> Iterator[Turn]:
        question = self.question
        start, end = (seconds(asked[1][key]) for key in ("timestamp_start", "timestamp_end"))
        reach = self.world.duration if end >= int(self.world.duration) else end
        lines = [line for line in self.world.lines if start <= line.start and line.end <= reach]
        yield from self._result(asked, transcript(lines))
        cue = next((line for line in lines if line.kind == "cue" and question.kind == "cue"), None)
        if cue is None or self.faults.idle:
            heard = question.kind != "speech" or any(line.kind == question.subject for line in lines)
            yield self._reason(question.answer if heard and question.kind != "cue" else self._guess())
            return
        call = {"video_path": self.name, "timestamp_start": clock(cue.start), "timestamp_end": clock(cue.end), "extract_type": "subclips"}
        extract = ("extract_parts_from_timestamp", call)
        yield self._reason(None, extract)
        # The clip is asked the bare question: a window in it would only distract.
        yield from self._examine(extract, f"What color is the {cue.value}?")


def transcript(lines: Sequence[Line]) -> dict[str, str]:
    """The result of the transcript tool in its wire shape."""
    if not lines:
        return {"transcript": "Nobody speaks in this part of the video, so there is nothing to transcribe."}
    segments = {i: {"text": line.text, "start": clock(line.start), "end": clock(line.end)} for i, line in enumerate(lines)}
    return {"transcript": str(segments)}


def ground_turn(world: World, event: str, start: float, end: float) -> Turn:
    """The grounding call: the first and last slice that show the thing, or null."""
    times = uniform_times(world.duration, FRAMES, start=start, end=end)
    shown = [mean for i, mean in enumerate(slice_times(times)) if any(str(world.shown(t).thing) == event for t in times[2 * i : 2 * i + 2])]
    found = {"start": clock(shown[0]), "end": clock(min(shown[-1] + 0.99, end))} if shown else {"start": None, "end": None}
    text = nano_prompts().render("visual_temporal_grounding", event=event, begin=hours(start), end=hours(end))
    stamps = f'{{"start": {_content(found["start"])}, "end": {_content(found["end"])}}}'
    return Turn(None, text, _wrap(f'{{"name": {json.dumps(event)}, "timestamps": {stamps}}}'), tuple(times), "ground")


def analyze_turn(world: World, query: str, answer: str, start: float, end: float) -> Turn:
    """The analysis of a clip."""
    times = uniform_times(world.duration, FRAMES, start=start, end=end)
    return Turn(nano_prompts().render("analyze"), query, f"{CONTENT}{answer}{FORM}", tuple(times), "analyze")


def some_name(rng: random.Random) -> str:
    """A file name as users have them."""
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))
    return (
        f"{rng.choice(['clip', 'video', 'demo', word, word])}{rng.choice(['', '-', '_'])}{rng.choice(['', str(rng.randint(0, 999))])}.mp4"
    )


class Listener:
    """Transcribes a world without sound: every line as it was said.

    Args:
        cut: seconds of a line that a window may cut off without losing the line.
    """

    source = "the world"

    def __init__(self, world: World, cut: float = 0.0) -> None:
        self._world, self._cut = world, cut

    def is_cached(self, start: float, end: float) -> bool:
        return False

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        for line in self._world.lines:
            if start <= line.start and line.end <= end + self._cut:
                yield Progress((Segment(line.start, line.end, line.text, 1.0),), min(line.end, end))

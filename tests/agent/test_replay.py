"""Replies and calls in the shapes that published traces of trained models have: none is refused that the reference accepts.

The words are ours; keys, orders, types and habits are theirs. Each shape is read by the tolerant reader, as from a server without schemas,
and played through the whole loop; those that trained weights write must also be possible under the grammar that a local model is held to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, NoAnswer, Span, TextDelta, ToolCalled, ToolFinished
from sage_cli.agent.protocol import ContextReply, ReasonerReply, context_schema, reasoner_schema
from sage_cli.agent.reading import read
from sage_cli.prompts import Prompts
from sage_cli.speech.segment import Progress, Segment
from sage_cli.tools import TOOLS, Workspace
from sage_cli.tools.reply import WRAP
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, accepts

WINDOW = {"video_path": "holiday.mp4", "timestamp_start": "00:05", "timestamp_end": "00:00:15"}
CALLS: dict[str, dict[str, Any]] = {
    "transcript": {"name": "verbal_transcript", "arguments": WINDOW},
    "ground": {"name": "identify_timestamps_visually", "arguments": {"video_path": "holiday.mp4", "event": "a jump", **WINDOW}},
    "frames": {"name": "extract_parts_from_timestamp", "arguments": {**WINDOW, "extract_type": "frames"}},
    "clip": {"name": "extract_parts_from_timestamp", "arguments": {**WINDOW, "extract_type": "subclips"}},
    "think": {"name": "perform_reasoning", "arguments": {"query": "6 times 7?", "media_paths": []}},
    "whole video": {"name": "perform_reasoning", "arguments": {"query": "Who?", "media_paths": ["holiday.mp4"]}},
}
NONE = {"needed": False, "why_no_tool": "It can be seen.", "tool_calls": []}
REASON = "To hear it."
KEYS = ("rationale", "rationing", "reason_id")
ANSWERS = ("He left.", "(B) text", "b) text", "D", "Two", "Could not produce it")


class Listener:
    source = "a script"

    def is_cached(self, start: float, end: float) -> bool:
        return False

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        yield Progress((Segment(start + 1, start + 2, "Look at that.", 1.0),), end)


def trained(call: dict[str, Any]) -> dict[str, Any]:
    """A call in the order of the Qwen weights."""
    return {**call, "rationale": REASON}


def prompted(call: dict[str, Any], key: str = "rationale") -> dict[str, Any]:
    """A call in the order of the prompt."""
    return {key: REASON, **call}


def wants(*calls: dict[str, Any], why: str | None = None) -> dict[str, Any]:
    return {"needed": True, "why_no_tool": why, "tool_calls": list(calls)}


def first(recommended: Any, answer: Any = None) -> dict[str, Any]:
    return {"video_context": "A man.", "query_intent": "To know.", "final_answer": answer, "recommended_tools": recommended}


def later(recommended: Any, answer: Any = None, *, qwen: bool = True, verdict: bool = False) -> dict[str, Any]:
    answerable = {"verdict": verdict, "reasoning": "So it is."}
    if qwen:
        return {"answerable": answerable, "recommended_tools": recommended, "final_answer": answer}
    return {"answerable": answerable, "final_answer": answer, "recommended_tools": recommended}


# ---- what the grammar lets a local model write ---------------------------------------------------------------------

FIRST = {
    **{
        f"{name}, {key}": first(wants(prompted(call, key)))
        for name, call in CALLS.items()
        for key in ("rationale", "rationing", "reason_id")
    },
    "with a reason against tools": first(wants(prompted(CALLS["transcript"]), why="The frames show little.")),
    "an answer": first(NONE, "(B) Two"),
    "an answer without a reason": first({**NONE, "why_no_tool": None}, "D"),
}
LATER = {
    **{f"{name}, as Qwen": later(wants(trained(call))) for name, call in CALLS.items()},
    **{f"{name}, as Molmo": later(wants(prompted(call)), qwen=False) for name, call in CALLS.items()},
    "with a reason against tools": later(wants(trained(CALLS["transcript"]), why="Enough is known.")),
    **{
        f"answer {text}": later(NONE, text, verdict=True)
        for text in ("He left.", "(B) text", "b) text", "D", "Two", "Could not produce it")
    },
    "an answer, as Molmo": later(NONE, "He left.", qwen=False, verdict=True),
}


@pytest.mark.parametrize("name", FIRST)
def test_a_first_reply_of_trained_weights_can_be_written(video: Video, name: str) -> None:
    workspace = Workspace(ScriptedModel(), video)
    assert accepts(context_schema(TOOLS, workspace), WRAP[0] + json.dumps(FIRST[name]) + WRAP[1], WRAP)


@pytest.mark.parametrize("name", LATER)
def test_a_later_reply_of_trained_weights_can_be_written(video: Video, name: str) -> None:
    workspace = Workspace(ScriptedModel(), video)
    assert accepts(reasoner_schema(TOOLS, workspace, last=False), WRAP[0] + json.dumps(LATER[name]) + WRAP[1], WRAP)


def test_other_packs_keep_to_their_own_order(video: Video) -> None:
    molmo = WRAP[0] + json.dumps(LATER["an answer, as Molmo"]) + WRAP[1]
    qwen = WRAP[0] + json.dumps(LATER["answer D"]) + WRAP[1]
    nano = reasoner_schema(TOOLS, Workspace(ScriptedModel(), video, prompts=Prompts("nano")), last=False)
    assert accepts(nano, molmo, WRAP)
    assert not accepts(nano, qwen, WRAP)


# ---- what the loop makes of it -------------------------------------------------------------------------------------

ODD_CALLS: dict[str, dict[str, Any]] = {
    "silent twin": {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": "holiday_no_audio.mp4"}},
    "their path": {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": "/data/videos/holiday.mp4"}},
    "swapped": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": "00:20", "timestamp_end": "00:10"}},
    "the same": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": "00:20", "timestamp_end": "00:20"}},
    "milliseconds": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": "00:10:875", "timestamp_end": "00:12:875"}},
    "seconds": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": "5", "timestamp_end": "20"}},
    "decimals": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": "0.0:5.0", "timestamp_end": "0.0:20.0"}},
    "half an hour": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_end": "29:00"}},
    "numbers": {"name": "verbal_transcript", "arguments": {**WINDOW, "timestamp_start": 5, "timestamp_end": 20}},
    "no type": {"name": "extract_parts_from_timestamp", "arguments": WINDOW},
    "null type": {"name": "extract_parts_from_timestamp", "arguments": {**WINDOW, "extract_type": None}},
    "no media": {"name": "perform_reasoning", "arguments": {"query": "6 times 7?"}},
    "null media": {"name": "perform_reasoning", "arguments": {"query": "6 times 7?", "media_paths": None}},
    "more than it has": {"name": "perform_reasoning", "arguments": {"query": "6 times 7?", "media_paths": [], "language": "en"}},
    "arguments in a list": {"name": "verbal_transcript", "arguments": [WINDOW]},
    "arguments as text": {"name": "verbal_transcript", "arguments": json.dumps(WINDOW)},
}
GROUNDED = {"name": "a jump", "timestamps": {"start": "00:00:12", "end": "00:00:14"}}


@pytest.mark.parametrize("name", [*CALLS, *ODD_CALLS])
def test_no_call_is_refused_that_the_reference_accepts(video: Video, name: str) -> None:
    wanted = {**CALLS, **ODD_CALLS}[name]
    inner: list[Any] = [] if wanted["name"] in ("verbal_transcript", "extract_parts_from_timestamp") else ["Yes."]
    if wanted["name"] == "identify_timestamps_visually":
        inner = [GROUNDED]
    replies = [first(wants(prompted(wanted, "rationing"))), *inner, later(NONE, "Red.", verdict=True)]
    model = ScriptedModel(*replies, strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    [called] = [event for event in events if isinstance(event, ToolCalled)]
    [finished] = [event for event in events if isinstance(event, ToolFinished)]
    assert finished.ok, finished.result
    assert called.rationale == REASON
    assert "".join(event.text for event in events if isinstance(event, TextDelta) and event.field == "rationale") == REASON
    assert isinstance(events[-1], Answer)
    assert events[-1].answer == "Red."


OWN_MEDIA: dict[str, tuple[str, dict[str, Any]]] = {
    "a frame by its path there": (
        "frames",
        {"name": "perform_reasoning", "arguments": {"query": "Who?", "media_paths": ["d/holiday_frame_125_00:05.jpg"]}},
    ),
    "a clip": ("clip", {"name": "perform_reasoning", "arguments": {"query": "Who?", "media_paths": ["c1.mp4"]}}),
    "a clip with a frame": (
        "clip",
        {"name": "perform_reasoning", "arguments": {"query": "Who?", "media_paths": ["c1.mp4", "holiday.mp4"]}},
    ),
    "speech of a clip": ("clip", {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": "c1.mp4"}}),
    "frames of a clip": ("clip", {"name": "extract_parts_from_timestamp", "arguments": {**WINDOW, "video_path": "c1.mp4"}}),
}


@pytest.mark.parametrize("name", OWN_MEDIA)
def test_what_a_call_extracted_is_a_file_for_the_next(video: Video, name: str) -> None:
    made, wanted = OWN_MEDIA[name]
    inner: list[Any] = ["Yes."] if wanted["name"] == "perform_reasoning" else []
    replies = [first(wants(prompted(CALLS[made]))), later(wants(trained(wanted))), *inner, later(NONE, "Red.", verdict=True)]
    events = list(Agent(ScriptedModel(*replies, strict=False), video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    finished = [event for event in events if isinstance(event, ToolFinished)]
    assert [event.ok for event in finished] == [True, True], finished[-1].result
    assert all(5 <= event.span.start <= event.span.end <= 15 for event in finished if event.span)


CALL = {**CALLS["transcript"], "rationale": REASON}


@pytest.mark.parametrize(
    ("calls", "tools"),
    [
        (CALL, [True, True]),
        ([None, CALL], [True, True]),
        (["verbal_transcript"], [False, True]),
        ("verbal_transcript", [False, True]),
        ([[CALL]], [True, True]),
    ],
)
def test_calls_of_any_shape_lead_to_the_next_step(video: Video, calls: Any, tools: list[bool]) -> None:
    """A tool that is named alone lacks its arguments: the model is told which."""
    recommended = {"needed": True, "why_no_tool": None, "tool_calls": calls}
    script = [first(recommended), later(wants(CALL)), later(NONE, "Red.", verdict=True)]
    events = list(Agent(ScriptedModel(*script, strict=False), video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    assert [event.ok for event in events if isinstance(event, ToolFinished)] == tools
    assert isinstance(events[-1], Answer)
    assert events[-1].steps == 2


@pytest.mark.parametrize("path", ["birthday.mp4", "/etc/passwd", "holiday.avi", "HOLIDAY.MP4", "the video", ""])
def test_whatever_the_video_is_called_there_is_one(video: Video, path: str) -> None:
    wanted = {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": path}}
    model = ScriptedModel(first(wants(prompted(wanted))), later(NONE, "Red.", verdict=True), strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    [finished] = [event for event in events if isinstance(event, ToolFinished)]
    assert finished.ok
    assert finished.span == Span(5.0, 15.0)


@pytest.mark.parametrize("path", ["c1.mp4", "clips/c2.mp4", "f1/00:05.jpg", "frame.png"])
def test_an_invented_medium_is_a_result_that_says_so(video: Video, path: str) -> None:
    wanted = {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": path}}
    model = ScriptedModel(first(wants(prompted(wanted))), later(NONE, "Red.", verdict=True), strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    [finished] = [event for event in events if isinstance(event, ToolFinished)]
    assert not finished.ok
    assert path in finished.result["error"]
    assert isinstance(events[-1], Answer)


FRUITLESS: dict[str, Any] = {
    "needed without a call": later({"needed": True, "why_no_tool": None, "tool_calls": []}),
    "calls absent": later({"needed": True}),
    "tools null": later(None),
    "tools absent": {"answerable": {"verdict": False, "reasoning": "No."}, "final_answer": None},
    "a name unknown": later(wants({"name": "look_harder", "arguments": {}})),
    "neither": later(NONE),
    "a verdict without an answer": later(NONE, None, verdict=True),
    "an answer and a verdict against it": later(NONE, "Red."),
}


@pytest.mark.parametrize("name", FRUITLESS)
def test_replies_without_a_step_go_on_to_the_next(video: Video, name: str) -> None:
    call = first(wants(prompted(CALLS["transcript"])))
    model = ScriptedModel(call, *[FRUITLESS[name]] * 9, later(NONE, "Red.", verdict=True), strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    assert isinstance(events[-1], Answer)
    assert events[-1].steps == 10
    model = ScriptedModel(call, *[FRUITLESS[name]] * 3, strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4, max_steps=3)).run("Why?"))
    assert isinstance(events[-1], NoAnswer)


def test_of_two_calls_the_first_runs_and_a_refused_one_may_come_again(video: Video) -> None:
    refused = {"name": "verbal_transcript", "arguments": {**WINDOW, "video_path": "c7.mp4"}}
    both = first(wants(prompted(CALLS["transcript"]), prompted(CALLS["frames"])))
    model = ScriptedModel(both, *[later(wants(trained(refused)))] * 4, later(NONE, "Red.", verdict=True), strict=False)
    events = list(Agent(model, video, transcriber=Listener, settings=Settings(frames=4)).run("Why?"))
    finished = [event for event in events if isinstance(event, ToolFinished)]
    assert [(event.tool, event.ok) for event in finished] == [("transcribe-speech", True)] + [("transcribe-speech", False)] * 4
    assert isinstance(events[-1], Answer)


@pytest.mark.parametrize("answer", ["He left.", "(B) text", "b) text", "D", "Two", ["a", "b"], 7, "Could not produce an answer"])
def test_answers_of_any_kind_are_read(answer: Any) -> None:
    expected = ", ".join(answer) if isinstance(answer, list) else str(answer)
    assert read(ReasonerReply, json.dumps(later(NONE, answer, verdict=True))).final_answer == expected
    assert read(ContextReply, f"Well.\n<json>\n{json.dumps(first(NONE, answer))}\n</json>").final_answer == expected

"""A run as a script of events, for renderers."""

from __future__ import annotations

from sage_cli.agent.events import (
    Answer,
    Budget,
    Event,
    Evidence,
    FramesSampled,
    NoAnswer,
    Notice,
    RunStarted,
    Span,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    Working,
)
from sage_cli.model.base import ModelInfo, Usage

MODEL = ModelInfo("Qwen3-VL-4B-Instruct-Q4_K_M", "qwen3-vl", 16384, "CUDA0", "CUDA0")
BUDGET = Budget(128, 416, 224, 16384, 10, 300.0, ("ground-event", "extract-video-parts", "analyze"))
CONTEXT = (
    "A woman in a red coat walks through a crowded railway station, looks at the departure board twice and sits down on a bench. "
    "After a while a man with a suitcase joins her; they talk.\nThen she gets up and leaves through the side door."
)
QUESTION = "Why did she leave before the train came?"
HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m red \u202e gnp \ud800 \x00 \r overwritten \x7f"

ANSWER = Answer(
    75.5, QUESTION, "She saw on the board that the train was cancelled.", 2, (Evidence(Span(45, 65), "frames analyzed"),), Usage(9000, 7000)
)
NO_ANSWER = NoAnswer(75.5, QUESTION, "none was found in 3 steps", 3, (), Usage())


def words(step: int, field: str, text: str, start: float) -> list[Event]:
    """The text as a model streams it, some five characters at a time."""
    return [TextDelta(start + at / 100, step, field, text[at : at + 5]) for at in range(0, len(text), 5)]


RUN: list[Event] = [
    RunStarted(0.0, QUESTION, "/home/ana/videos/station.mp4", 125.0, Span(0, 125), MODEL, BUDGET),
    Working(0.1, 0, "frames", 1, 3),
    FramesSampled(0.4, (0.0, 0.5, 60.0), "seek"),
    StepStarted(0.4, 0),
    Working(0.9, 0, "encode", 40, 64),
    Working(2.9, 0, "prefill", 2048, 7600),
    *words(0, "video_context", CONTEXT, 3.2),
    *words(0, "query_intent", "What made her leave.", 7.0),
    *words(0, "rationale", "I need to find when she leaves.", 8.0),
    StepFinished(9.0, 0, Usage(7600, 0, 64, 0, 210, 40)),
    ToolCalled(
        9.1,
        0,
        "ground-event",
        {"video_path": "station.mp4", "event": "the woman leaves", "timestamp_start": "00:00:30", "timestamp_end": "00:02:05"},
        "I need to find when she leaves.",
        Span(30, 125),
    ),
    Working(10.0, 0, "encode", 3, 20),
    ToolFinished(12.0, 0, "ground-event", True, False, {}, "found at 00:00:45-00:01:05", Span(30, 125), Usage(900)),
    StepStarted(12.0, 1),
    *words(1, "answerable.reasoning", "It is known when, but not why.", 13.0),
    StepFinished(14.0, 1, Usage(900)),
    ToolCalled(59.96, 1, "analyze", {"query": "What does the board say?", "media_paths": ["f1/0045.jpg"] * 10}, "", Span(45, 65)),
    Notice(61.0, "analyze: start and end were the same"),
    ToolFinished(74.0, 1, "analyze", False, True, {"error": "no such media"}, "no such media", Span(45, 65), Usage()),
    StepStarted(74.0, 2),
    *words(2, "final_answer", "She saw", 74.5),
    StepFinished(75.0, 2, Usage(900)),
    ANSWER,
]

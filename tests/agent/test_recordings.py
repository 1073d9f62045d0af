"""A recording of sound is a video without frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sage_cli.agent import Agent, Event, Settings
from sage_cli.agent.events import Answer, Evidence, FramesSampled, NoAnswer, Notice, RunStarted, Span, StepStarted, ToolCalled, ToolFinished
from sage_cli.errors import ModelError, VideoError
from sage_cli.prompts import TRAINED, Prompts
from sage_cli.speech.segment import Progress, Segment
from sage_cli.video import SilentError, Video
from tests.agent.scripted import RandomModel, ScriptedModel, TestModel, call, context, general, later, reasoner
from tests.media import make_audio, make_video, tone


class Listener:
    """Hears a sentence in each part that lasts a second."""

    source = "a script"
    said = "We meet on Tuesday."

    def is_cached(self, start: float, end: float) -> bool:
        return False

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        yield Progress((Segment(start, end, self.said, 1.0),) if self.said else (), end)


class Deaf(Listener):
    said = ""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(make_audio(tmp_path_factory.mktemp("talk") / "talk.wav", tone(4.5)))


WHOLE = call("verbal_transcript", video_path="talk.wav", timestamp_start="00:00:00", timestamp_end="00:00:05")


def run(
    model: TestModel, video: Video, listener: Callable[[], Listener] = Listener, *, prompts: str = TRAINED, **settings: Any
) -> list[Event]:
    span = settings.pop("span", None)
    limits = Settings(prompts=Prompts(prompts), **settings)
    return list(Agent(model, video, transcriber=listener, span=span, settings=limits).run("When do they meet?"))


def test_a_question_that_is_too_long_is_told_to_be_so(talk: Video, tmp_path: Path) -> None:
    for video in talk, Video(make_video(tmp_path / "v.mp4", seconds=1)):
        model = ScriptedModel(context("Red."), context_size=20_000)
        with pytest.raises(ModelError, match="do not fit a context of 20000 tokens: shorten it, or raise --ctx-size"):
            [*Agent(model, video, transcriber=Listener).run("why? " * 4000)]
        assert not model.asked


@pytest.mark.parametrize(
    ("pack", "script"),
    [
        ("sage-mm", [context(None, WHOLE, "A recording."), reasoner("On Tuesday.")]),
        ("general", [general(None, WHOLE, "A recording."), later("On Tuesday."), '{"answer": "yes"}']),
    ],
)
def test_a_recording_is_answered_from_its_words(talk: Video, pack: str, script: list[Any]) -> None:
    model = ScriptedModel(*script)
    events = run(model, talk, prompts=pack)
    started, end = events[0], events[-1]
    assert isinstance(started, RunStarted)
    assert (started.budget.frames, started.budget.frame_width, started.budget.frame_height) == (0, 0, 0)
    assert started.budget.tools == ("transcribe-speech",)
    assert [(event.times, event.method) for event in events if isinstance(event, FramesSampled)] == [((), "none")]
    assert isinstance(end, Answer)
    assert (end.answer, end.steps) == ("On Tuesday.", 1)
    assert end.evidence == (Evidence(Span(0.0, 4.5), "speech transcribed", "We meet on Tuesday."),)
    assert not any(isinstance(event, Notice) for event in events)
    assert all(not part.frames for asked in model.asked for part in asked.frames)
    system, message = model.asked[0].texts
    assert "verbal_transcript" in system
    assert not any(name in system for name in ("identify_timestamps_visually", "extract_parts_from_timestamp", "perform_reasoning"))
    for text in (message, model.asked[1].texts[-1]):
        assert "Video Path: talk.wav of duration 00:00:04. It has no picture, only sound." in text
    assert ("You see no frames of it." in message) == (pack == "general")
    assert "We meet on Tuesday." in model.asked[1].texts[-1]


@pytest.mark.parametrize(("pack", "guess"), [("sage-mm", context("On Friday.")), ("general", general("On Friday."))])
def test_nothing_is_answered_before_it_was_listened_to(talk: Video, pack: str, guess: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="schema forbids"):
        run(ScriptedModel(guess), talk, prompts=pack)


def test_a_served_model_that_guesses_is_asked_again(talk: Video) -> None:
    """Servers may take no schema."""
    model = ScriptedModel(general("On Friday."), general(None, WHOLE), later("On Tuesday."), '{"answer": "yes"}', strict=False)
    end = run(model, talk, prompts="general")[-1]
    assert isinstance(end, Answer)
    assert end.answer == "On Tuesday."
    end = run(ScriptedModel(context("On Friday."), strict=False), talk)[-1]  # trained models have one way
    assert isinstance(end, Answer)
    assert end.evidence == ()


def test_as_much_is_transcribed_at_once_as_the_context_holds(talk: Video) -> None:
    part = call("verbal_transcript", video_path="talk.wav", timestamp_start="00:00:01", timestamp_end="00:00:03")
    script = context(None, part), reasoner("On Tuesday.")
    with pytest.raises(AssertionError, match="schema forbids"):
        run(ScriptedModel(*script), talk)
    (called,) = (event for event in run(ScriptedModel(*script), talk, span=(1.0, 3.0)) if isinstance(event, ToolCalled))
    assert called.span == Span(1.0, 3.0)


@pytest.mark.parametrize("pack", ["sage-mm", "general"])
def test_silence_is_told(talk: Video, pack: str) -> None:
    first = general(None, WHOLE) if pack == "general" else context(None, WHOLE)
    with pytest.raises(SilentError, match=r"talk\.wav: there is no picture, and nothing is said"):
        run(ScriptedModel(first), talk, Deaf, prompts=pack)
    assert issubclass(SilentError, VideoError)


def test_silence_beside_a_picture_or_in_a_part_is_a_result(video: Video, tmp_path: Path) -> None:
    whole = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00", timestamp_end="00:30")
    assert isinstance(run(ScriptedModel(context(None, whole), reasoner("Nothing.")), video, Deaf)[-1], Answer)
    long = Video(make_audio(tmp_path / "long.wav", tone(40.0, rate=8000), rate=8000))
    part = call("verbal_transcript", video_path="long.wav", timestamp_start="00:00", timestamp_end="00:30")
    model = TinyContext(context(None, part), reasoner("Nothing."))
    assert isinstance(run(model, long, Deaf)[-1], Answer)


class TinyContext(ScriptedModel):
    """Says that its context is too small for the transcript of half a minute."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script, context_size=8 * 30)

    def count_tokens(self, prompt: Any) -> int:
        return 0


@pytest.mark.parametrize("pack", ["sage-mm", "general"])
@pytest.mark.parametrize("seed", range(3))
def test_random_runs_end_properly(talk: Video, seed: int, pack: str) -> None:
    events = run(RandomModel(seed), talk, max_steps=4, prompts=pack)
    assert isinstance(events[-1], Answer | NoAnswer)
    assert sum(isinstance(event, StepStarted) for event in events) >= 2
    assert all(event.ok for event in events if isinstance(event, ToolFinished))
    assert {one.what for one in events[-1].evidence} <= {"speech transcribed"}

from __future__ import annotations

import errno
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from inspect import GEN_CLOSED, GEN_SUSPENDED, getgeneratorstate
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sage_cli.agent import Agent, Event, Settings, as_record
from sage_cli.agent.events import (
    Answer,
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
from sage_cli.errors import ModelError, VideoError
from sage_cli.model.base import Finish, Frames, Prompt, Reply, StreamItem, Usage
from sage_cli.prompts import TRAINED, Prompts
from sage_cli.speech.segment import Progress, Segment
from sage_cli.speech.subtitles import Subtitles
from sage_cli.text import Note
from sage_cli.tools import TOOLS, GroundEvent
from sage_cli.tools.base import AnyTool
from sage_cli.video import Video
from sage_cli.video.captions import Line
from tests.agent.scripted import Asked, ScriptedModel, Stopped, accepts, call, context, general, later, reasoner
from tests.media import make_video, tone

E = TypeVar("E")

TRANSCRIBE = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00", timestamp_end="00:10")
GROUND = call("identify_timestamps_visually", video_path="holiday.mp4", event="a jump", timestamp_start="00:10", timestamp_end="00:20")
EXTRACT = call(
    "extract_parts_from_timestamp", video_path="holiday.mp4", timestamp_start="00:02", timestamp_end="00:20", extract_type="frames"
)


class Listener:
    source = "a script"

    def is_cached(self, start: float, end: float) -> bool:
        return False

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        assert start < end
        yield Progress((Segment(start + 1, start + 2, "Look at that.", 1.0),), end)


class Clock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def only(kind: type[E], events: Sequence[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def analyze(paths: Sequence[str], query: str = "Which colour?") -> dict[str, Any]:
    return call("perform_reasoning", query=query, media_paths=list(paths))


def run(model: ScriptedModel, video: Video, question: str = "Why?", *, prompts: str = TRAINED, **settings: Any) -> list[Event]:
    limits = Settings(prompts=Prompts(prompts), **settings)
    return list(Agent(model, video, transcriber=Listener, settings=limits).run(question))


def test_what_a_long_conversation_leaves_out_is_told(video: Video) -> None:
    for turns, told in (2, False), (40, True):
        model = ScriptedModel(context("Red."), context_size=12_000)
        events = [*Agent(model, video, settings=Settings(frames=2)).run("Why?", [("Who?", "She. " * 30)] * turns)]
        assert any("the conversation is long" in notice.text for notice in only(Notice, events)) == told
        assert 2 <= model.asked[0].texts[1].count("Question: Who?") < turns + (not told)


# ---- single turn ---------------------------------------------------------------------------------------------------


def test_both_last_events_have_the_same_attributes() -> None:
    answered = Answer(1.0, "Why?", "So.", 0, (), Usage())
    unanswered = NoAnswer(1.0, "Why?", "none was found", 0, (), Usage())
    assert {name for name in dir(answered) if name[0] != "_"} == {name for name in dir(unanswered) if name[0] != "_"}
    assert (answered.value, answered.reason) == (unanswered.value, unanswered.answer) == (None, None)


def test_an_answer_at_first_sight(video: Video) -> None:
    model = ScriptedModel(context("Red."))
    events = run(model, video, "Which colour is the car?", frames=16)
    started, sampled, answer = events[0], only(FramesSampled, events)[0], events[-1]
    assert isinstance(started, RunStarted)
    assert started.budget.frames == 16
    assert (started.budget.frame_width, started.budget.frame_height) == (64, 32)
    assert started.budget.tools == ("transcribe-speech", "ground-event", "extract-video-parts", "analyze")
    assert len(sampled.times) == 16
    assert isinstance(answer, Answer)
    assert (answer.answer, answer.steps) == ("Red.", 0)
    assert answer.evidence == (Evidence(Span(sampled.times[0], sampled.times[-1]), "frames sampled"),)
    assert [type(event) for event in events if not isinstance(event, Working | TextDelta)] == [
        RunStarted,
        FramesSampled,
        StepStarted,
        StepFinished,
        Answer,
    ]


def test_the_first_prompt_is_frames_then_question_then_video(video: Video) -> None:
    model = ScriptedModel(context("Red."))
    run(model, video, "Which colour?", frames=16)
    [asked] = model.asked
    assert [message.role for message in asked.prompt] == ["system", "user"]
    assert "<tools>\n{" in asked.texts[0]
    assert "verbal_transcript" in asked.texts[0]
    assert asked.prompt[1].parts[0] is asked.frames[0]
    assert asked.texts[1] == "Which colour?\nVideo Path: holiday.mp4 of duration 00:00:30."
    assert asked.frames[0].pairs
    assert asked.wrap == ("<json>\n", "\n</json>")


def test_text_is_told_as_it_is_written(video: Video) -> None:
    events = run(ScriptedModel(context("It is red.", seen="A car stands there.")), video)
    said: dict[str, str] = {}
    for event in only(TextDelta, events):
        said[event.field] = said.get(event.field, "") + event.text
    assert said == {"video_context": "A car stands there.", "query_intent": "To know.", "final_answer": "It is red."}
    assert len(only(TextDelta, events)) > 5


def test_without_tools_the_first_look_must_answer(video: Video) -> None:
    for options in ({"tools": ()}, {"settings": Settings(max_steps=0)}):
        model = ScriptedModel(context("Red."))
        events = list(Agent(model, video, **options).run("Which?"))
        assert isinstance(events[-1], Answer)
        assert only(RunStarted, events)[0].budget.tools == ()
        assert "<tools>\n</tools>" in model.asked[0].texts[0]
        with pytest.raises(AssertionError, match="schema forbids"):
            list(Agent(ScriptedModel(context(None, TRANSCRIBE)), video, **options).run("Which?"))


def test_a_first_look_without_answer_or_call_is_no_answer(video: Video) -> None:
    events = run(ScriptedModel(context(None), context(None), strict=False), video)
    assert isinstance(events[-1], NoAnswer)
    assert events[-1].reason == "the model gave none"
    (notice,) = [event.text for event in only(Notice, events) if not event.general]
    assert "neither an answer nor a tool call" in notice
    events = run(ScriptedModel(context(None), context("Red."), strict=False), video)
    assert isinstance(events[-1], Answer)


# ---- many turns ----------------------------------------------------------------------------------------------------


def test_every_tool_on_the_way_to_an_answer(video: Video) -> None:
    names = [f"f1/00:{second:02}.jpg" for second in range(2, 21, 2)]
    model = ScriptedModel(
        context(None, TRANSCRIBE, "A man talks."),
        reasoner(None, GROUND),
        {"name": "a jump", "timestamps": {"start": "00:00:12", "end": "00:14"}},
        reasoner(None, EXTRACT),
        reasoner(None, analyze(names)),
        "The car is red.",
        reasoner("Red."),
    )
    events = run(model, video, "Which colour?")
    assert not model.script
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert (answer.answer, answer.steps) == ("Red.", 4)
    assert [event.tool for event in only(ToolCalled, events)] == ["transcribe-speech", "ground-event", "extract-video-parts", "analyze"]
    assert [event.step for event in only(ToolCalled, events)] == [0, 1, 2, 3]
    assert [event.span for event in only(ToolCalled, events)] == [Span(0, 10), Span(10, 20), Span(2, 20), Span(2, 20)]
    finished = only(ToolFinished, events)
    assert all(event.ok and not event.repeated for event in finished)
    assert finished[0].result == {"transcript": "{0: {'text': ' Look at that.', 'start': '00:01', 'end': '00:02'}}"}
    assert finished[1].result == {"name": "a jump", "timestamps": {"start": "00:00:12", "end": "00:00:14"}}
    assert finished[2].result == {"media_paths": names}
    assert finished[3].result == {"answer": "The car is red."}
    assert answer.evidence == (
        Evidence(Span(0, 10), "speech transcribed"),
        Evidence(Span(2, 20), "frames analyzed"),
        Evidence(Span(12, 14), "event grounded"),
    )
    parts = [event.usage for event in events if isinstance(event, StepFinished | ToolFinished)]
    assert answer.usage == sum(parts, Usage())
    assert answer.usage.output_tokens > 0
    assert len({*events}) == len(events)  # events can be kept in sets


def test_the_reasoner_reads_context_question_and_every_result(video: Video) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE, "A man talks."), reasoner(None, EXTRACT), reasoner("Red."))
    run(model, video, "Which colour?")
    asked = model.asked[-1]
    assert not asked.frames
    assert [message.role for message in asked.prompt] == ["system", "user"]
    text = asked.texts[1]
    order = [
        "extract_parts_from_timestamp_#1 with arguments {'video_path': 'holiday.mp4',",
        "A man talks.",
        "Which colour?\nVideo Path: holiday.mp4 of duration 00:00:30.",
        "verbal_transcript_#1 output: {'transcript': \"{0: {'text': ' Look at that.'",
        "extract_parts_from_timestamp_#1 output: {'media_paths': ['f1/00:02.jpg',",
    ]
    assert [text.find(piece) for piece in order] == sorted(text.find(piece) for piece in order)
    assert text.find(order[0]) > 0
    assert "last step" not in text


def test_a_part_of_the_video(video: Video) -> None:
    model = ScriptedModel(
        context(None, call("verbal_transcript", **{**TRANSCRIBE["tool_calls"][0]["arguments"], "timestamp_start": "00:08"}))
    )
    events = Agent(model, video, span=(8.0, 20.0), transcriber=Listener).run("Why?")
    seen: list[Event] = []
    with pytest.raises(IndexError):  # the script is over
        seen.extend(events)
    assert only(RunStarted, seen)[0].span == Span(8.0, 20.0)
    times = only(FramesSampled, seen)[0].times
    assert (times[0], times[-1]) == (8.0, 20.0)
    assert model.asked[0].texts[1].endswith("Only the part from 00:00:08 to 00:00:20 is asked about.")
    with pytest.raises(AssertionError, match="schema forbids"):
        list(Agent(ScriptedModel(context(None, TRANSCRIBE)), video, span=(8.0, 20.0)).run("Why?"))


def test_only_the_newest_ten_results_are_shown(video: Video) -> None:
    calls = [analyze([], f"Question {number}?") for number in range(12)]
    model = ScriptedModel(
        context(None, calls[0]),
        *(line for recommended in calls[1:] for line in ("Yes.", reasoner(None, recommended))),
        "Yes.",
        reasoner("Red."),
    )
    events = run(model, video, max_steps=20)
    assert isinstance(events[-1], Answer)
    text = model.asked[-1].texts[1]
    shown = [number for number in range(1, 14) if f"perform_reasoning_#{number} output" in text]
    assert shown == list(range(3, 13))


def test_a_repeated_call_is_not_run_again(video: Video) -> None:
    again = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00:00", timestamp_end="00:10")
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner(None, again), reasoner("Red."))
    loaded: list[Listener] = []

    class Once(Listener):
        def parts(self, start: float, end: float) -> Iterator[Progress]:
            loaded.append(self)
            return super().parts(start, end)

    events = list(Agent(model, video, transcriber=Once).run("Why?"))
    first, second = only(ToolFinished, events)
    assert (first.repeated, second.repeated) == (False, True)
    assert first.result == second.result
    assert len(loaded) == 1
    assert "same call as verbal_transcript_#1" in model.asked[-1].texts[1]


def test_another_question_sees_the_same_frames_and_starts_anew(video: Video) -> None:
    model = ScriptedModel(context(None, EXTRACT), reasoner("One."), context(None, EXTRACT), reasoner("Two."))
    agent = Agent(model, video)
    first, second = list(agent.run("First?")), list(agent.run("Second?"))
    assert [event.answer for event in only(Answer, [*first, *second])] == ["One.", "Two."]
    assert only(FramesSampled, first)[0].times == only(FramesSampled, second)[0].times
    assert only(FramesSampled, second)[0].method == "reused"
    assert all(one is two for one, two in zip(model.asked[0].frames[0].frames, model.asked[2].frames[0].frames, strict=True))
    assert model.asked[0].prompt[0] == model.asked[2].prompt[0]
    assert only(ToolFinished, second)[0].repeated is False
    assert "First?" not in "".join(model.asked[3].texts)


def test_a_prompt_is_prepared_while_its_frames_are_decoded(video: Video) -> None:
    model = ScriptedModel(context("One."), context("Two."))
    agent = Agent(model, video, settings=Settings(frames=7))
    events = agent.run("First?")
    next(event for event in events if isinstance(event, Working) and event.done == 4)
    assert len(model.prefetched) == 2
    list(events)
    list(agent.run("Second?"))
    (system, user), (shown, question) = model.asked[0].prompt, model.asked[0].prompt[1].parts
    assert isinstance(shown, Frames)
    # The last frame has no partner, so it only comes with the prompt itself.
    assert model.prefetched == [[system, replace(user, parts=(Frames(shown.frames[:end]), question))] for end in (2, 4, 6)]


def test_the_speech_model_is_loaded_once_for_all_questions(video: Video) -> None:
    loaded: list[Listener] = []

    def load() -> Listener:
        loaded.append(Listener())
        return loaded[-1]

    model = ScriptedModel(context("One."), context(None, TRANSCRIBE), reasoner("Two."), context(None, TRANSCRIBE), reasoner("Three."))
    agent = Agent(model, video, transcriber=load)
    assert isinstance(list(agent.run("First?"))[-1], Answer)
    assert not loaded
    for question in ("Second?", "Third?"):
        assert only(ToolFinished, list(agent.run(question)))[0].ok
    assert len(loaded) == 1


def test_a_choice_of_subtitles_is_told_of_the_file_and_once(video: Video) -> None:
    subtitles = Subtitles("talk.de.srt", "de", False, lambda: [(1.0, 2.0, [Line("Hallo.")])], choice=Note("talk.de.srt is used", "set it"))
    second = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:10", timestamp_end="00:20")
    agent = Agent(ScriptedModel(*2 * [context(None, TRANSCRIBE), reasoner(None, second), reasoner("Hallo.")]), video, subtitles=subtitles)
    for question in ("First?", "Second?"):  # whoever shows both tells it once, as damage
        told = [event for event in agent.run(question) if isinstance(event, Notice)]
        assert [(event.line, event.media) for event in told] == [("transcribe-speech: talk.de.srt is used; set it", True)]


# ---- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_failing_tool_is_a_result_and_the_run_goes_on(video: Video) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner("Red."))
    events = list(Agent(model, video).run("Why?"))
    [finished] = only(ToolFinished, events)
    assert not finished.ok
    assert finished.result == {"error": "speech recognition is not available in this run"}
    assert isinstance(events[-1], Answer)
    told = "Error executing verbal_transcript_#1: speech recognition is not available in this run\n for argument {'video_path': "
    assert f"verbal_transcript_#1 output: {told}" in model.asked[-1].texts[1]


def test_a_speech_model_that_cannot_be_loaded_ends_the_run(video: Video) -> None:
    def broken() -> Listener:
        raise ModelError("the speech model is broken")

    with pytest.raises(ModelError, match="is broken"):
        list(Agent(ScriptedModel(context(None, TRANSCRIBE)), video, transcriber=broken).run("Why?"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "video_path: Field required; timestamp_start: Field required; timestamp_end: Field required"),
        ({"video_path": "holiday.mp4", "timestamp_start": "00:00", "timestamp_end": None}, "timestamp_end"),
        ({"video_path": "f1/00:03.jpg", "timestamp_start": "00:00", "timestamp_end": "00:10"}, "no video"),
        ({"video_path": "holiday.mp4", "timestamp_start": "soon", "timestamp_end": "00:10"}, "not a time"),
    ],
)
def test_invalid_arguments_are_a_result(video: Video, arguments: dict[str, Any], message: str) -> None:
    model = ScriptedModel(context(None, call("verbal_transcript", **arguments)), reasoner("Red."), strict=False)
    events = run(model, video)
    [finished] = only(ToolFinished, events)
    assert not finished.ok
    assert message in finished.result["error"]
    assert isinstance(events[-1], Answer)


def test_arguments_that_a_tool_does_not_have_or_that_are_null_are_ignored(video: Video) -> None:
    given = {**EXTRACT["tool_calls"][0]["arguments"], "extract_type": None, "language": "en"}
    model = ScriptedModel(context(None, call("extract_parts_from_timestamp", **given)), reasoner("42."), strict=False)
    events = run(model, video)
    assert only(ToolFinished, events)[0].ok
    assert only(ToolCalled, events)[0].arguments.keys() == given.keys() - {"extract_type", "language"}


@pytest.mark.parametrize(
    ("reply", "key"),
    [
        (reasoner(None), "None"),
        ({**reasoner("x"), "final_answer": None}, "None"),
        ({**reasoner("x", call("verbal_transcript")), "final_answer": None}, "None"),
        (reasoner(None, call("fly", height=3)), "None_#1"),
        (reasoner(None, {"needed": True, "tool_calls": []}), "None_#1"),
        ({"answerable": {"verdict": False}, "recommended_tools": None}, "None"),
    ],
)
def test_a_reply_without_call_and_answer_is_said_to_the_model(video: Video, reply: dict[str, Any], key: str) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE), reply, reasoner("Red."), strict=False)
    events = run(model, video)
    assert isinstance(events[-1], Answer)
    text = model.asked[-1].texts[1]
    assert f"{key} with arguments {{}}\n" in text
    assert f"\n{key} output: No tool calls found" in text


def test_an_unknown_tool_at_first_goes_on_with_the_reasoner(video: Video) -> None:
    model = ScriptedModel(context("Red?", call("describe_scene", query="x")), reasoner("Red."), strict=False)
    events = run(model, video)
    assert "describe_scene" in only(Notice, events)[0].text
    assert not only(ToolCalled, events)
    assert isinstance(events[-1], Answer)


def test_a_reply_that_cannot_be_read_is_asked_for_once_more_less_greedily(video: Video) -> None:
    model = ScriptedModel("Well, red.", context("Red."), strict=False)
    events = run(model, video)
    assert isinstance(events[-1], Answer)
    assert [(asked.temperature, asked.seed) for asked in model.asked] == [(0.0, 0), (0.7, 1)]
    assert len(only(Notice, events)) == 1
    model = ScriptedModel("Well, red.", context("Red."), strict=False)
    run(model, video, temperature=0.9, seed=5)
    assert [(asked.temperature, asked.seed) for asked in model.asked] == [(0.9, 5), (0.9, 6)]
    events = run(ScriptedModel("{red", "{red", strict=False), video)
    assert isinstance(events[-1], NoAnswer)
    assert "could not be read" in events[-1].reason


@pytest.mark.parametrize("script", [("Well, red.", "Red."), ("Red.", "<think>Red or"), ("", "<think>Hm.</think>Red.")])
def test_plain_text_is_the_answer_of_a_model_that_writes_no_json(video: Video, script: tuple[str, str]) -> None:
    for before in ((), (context(None, TRANSCRIBE),)):
        events = run(ScriptedModel(*before, *script, strict=False), video)
        answer = events[-1]
        assert isinstance(answer, Answer)
        assert answer.answer == "Red."
        assert "its words are taken for its answer" in only(Notice, events)[-1].text
    events = run(ScriptedModel("", "<think>Red.", strict=False), video)
    assert isinstance(events[-1], NoAnswer)


def test_thinking_is_no_part_of_an_answer_or_of_a_result(video: Video) -> None:
    thought = '<think>Is it {"final_answer": "blue"}? </think>\n'
    model = ScriptedModel(
        thought + json.dumps(context(None, EXTRACT)),
        thought + json.dumps(reasoner(None, analyze(["f1/00:02.jpg"]))),
        thought + "It is red.",
        thought + json.dumps(reasoner("Red.")),
        strict=False,
    )
    events = run(model, video)
    assert only(ToolFinished, events)[1].result == {"answer": "It is red."}
    assert isinstance(events[-1], Answer)
    assert events[-1].answer == "Red."
    assert "blue" not in "".join(event.text for event in only(TextDelta, events))


def test_a_general_model_is_told_which_tools_there_are(video: Video) -> None:
    for pack, told in (("general", "There is no tool 'fly'; the tools are verbal_transcript, "), ("sage-mm", "No tool calls found")):
        model = ScriptedModel(context(None, call("fly", height=3)), reasoner("Red."), strict=False)
        run(model, video, prompts=pack)
        assert f"None_#1 output: {told}" in model.asked[1].texts[-1]
        model = ScriptedModel(context(None, EXTRACT), later(None), later("Red."), strict=False)
        run(model, video, prompts=pack)
        assert "None output: No tool calls found" in model.asked[2].texts[-1]


def test_an_answer_that_is_a_list_is_text(video: Video) -> None:
    model = ScriptedModel({**context("x"), "final_answer": ["a red car", "a dog"]}, strict=False)
    answer = run(model, video)[-1]
    assert isinstance(answer, Answer)
    assert answer.answer == "a red car, a dog"


# ---- limits --------------------------------------------------------------------------------------------------------


def test_the_last_step_can_only_answer_or_give_up(video: Video) -> None:
    script: list[Any] = [context(None, analyze([], "a?")), "Yes.", reasoner(None, analyze([], "b?")), "Yes."]
    model = ScriptedModel(*script, reasoner("Red."))
    assert isinstance(run(model, video, max_steps=2)[-1], Answer)
    assert "This is the last step" not in model.asked[-1].texts[1]  # trained models never read it
    with pytest.raises(AssertionError, match="schema forbids"):
        run(ScriptedModel(*script, reasoner(None, analyze([], "c?"))), video, max_steps=2)
    events = run(ScriptedModel(*script, reasoner(None)), video, max_steps=2)
    assert isinstance(events[-1], NoAnswer)
    assert (events[-1].steps, events[-1].reason) == (2, "none was found in 2 steps")


def test_untrained_models_are_told_which_step_is_the_last(video: Video) -> None:
    look = call("perform_reasoning", query="a?", media_paths=["holiday.mp4"])
    model = ScriptedModel(general(None, HEARD), later(None, look), "Yes.", later("It is not shown."))
    assert isinstance(run(model, video, max_steps=2, prompts="general")[-1], Answer)
    assert [text.count("This is the last step") for text in (model.asked[1].texts[1], model.asked[-1].texts[1])] == [0, 1]


def test_a_model_that_never_answers_stops_at_the_step_limit(video: Video) -> None:
    endless = [reasoner(None, analyze([], f"{number}?")) for number in range(30)]
    model = ScriptedModel(context(None, analyze([], "?")), *(line for reply in endless for line in ("Yes.", reply)), strict=False)
    events = run(model, video)
    assert isinstance(events[-1], NoAnswer)
    assert len(only(StepStarted, events)) == 11
    assert len(only(ToolCalled, events)) == 10


@pytest.mark.parametrize("limit", [3, 10, 20, 30, 40])
def test_the_time_limit_ends_the_run_wherever_it_is(video: Video, limit: int) -> None:
    model = ScriptedModel(context(None, EXTRACT), reasoner(None, TRANSCRIBE), reasoner("Red."))
    clock = Clock()
    agent = Agent(model, video, settings=Settings(timeout_s=limit, frames=4), transcriber=Listener, clock=clock)
    events = list(agent.run("Why?"))
    assert isinstance(events[-1], NoAnswer)
    assert f"time limit of {limit} s" in events[-1].reason
    assert limit < events[-1].elapsed <= limit + 4


def test_the_time_limit_is_noticed_inside_a_tool_and_its_folder_is_removed(video: Video) -> None:
    model = ScriptedModel(context(None, EXTRACT))
    now = [0.0]
    agent = Agent(model, video, settings=Settings(timeout_s=5, frames=4), clock=lambda: now[0])
    seen: list[Event] = []
    for event in agent.run("Why?"):
        seen.append(event)
        if isinstance(event, Working) and only(ToolCalled, seen):
            now[0] = 6.0
    assert isinstance(seen[-1], NoAnswer)
    assert not only(ToolFinished, seen)


def test_the_time_limit_is_noticed_while_a_tool_has_its_model_write(video: Video) -> None:
    now = [0.0]

    def ramble(asked: Asked) -> str:
        now[0] = 6.0
        return "Yes. " * (asked.max_tokens // 10)

    model = ScriptedModel(context(None, analyze([], "a?")), ramble)
    events = list(Agent(model, video, settings=Settings(timeout_s=5, frames=4), clock=lambda: now[0]).run("Why?"))
    assert isinstance(events[-1], NoAnswer)
    assert only(ToolCalled, events)
    assert not only(ToolFinished, events)


def test_elapsed_times_come_from_the_clock_and_never_go_back(video: Video) -> None:
    model = ScriptedModel(context(None, EXTRACT), reasoner("Red."))
    events = list(Agent(model, video, clock=Clock()).run("Why?"))
    times = [event.elapsed for event in events]
    assert times == sorted(times)
    assert len(set(times)) == len(times)


def test_keyframes_stand_in_where_the_user_says_so(tmp_path: Path) -> None:
    even = {"x264-params": "scenecut=0"}
    video = Video(make_video(tmp_path / "even.mp4", seconds=8, size=(64, 48), gop=25, codec_options=even))
    events = run(ScriptedModel(context("Red.")), video, frames=16, sampling="keyframe")
    sampled = only(FramesSampled, events)[0]
    assert (sampled.method, sampled.times) == ("keyframe", (0, 1, 2, 3, 4, 5, 6, 7))
    assert only(Notice, events)[0].text.startswith("8 keyframes instead of 16 frames")
    events = run(ScriptedModel(context("Red.")), video, frames=2, sampling="auto")
    assert (only(FramesSampled, events)[0].method, only(Notice, events)) == ("keyframe", [])
    events = run(ScriptedModel(context("Red.")), video, frames=16, sampling="auto")
    assert only(FramesSampled, events)[0].method != "keyframe"
    assert len(only(FramesSampled, events)[0].times) == 16


def test_frames_are_decoded_where_there_is_no_keyframe(tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "one.mp4", seconds=8, size=(64, 48), gop=1000, codec_options={"x264-params": "scenecut=0"}))
    agent = Agent(ScriptedModel(context("Red.")), video, span=(2.0, 6.0), settings=Settings(frames=4, sampling="keyframe"))
    events = list(agent.run("Why?"))
    assert only(FramesSampled, events)[0].times == pytest.approx([2.0, 3.32, 4.64, 6.0], abs=0.03)
    assert "no keyframe" in only(Notice, events)[0].text


def room(video: Video, frames: int) -> int:
    """The context size that holds the first prompt with so many frames, and a reply."""
    model = ScriptedModel(context("x"))
    run(model, video, frames=frames, reply_tokens=100)
    return model.count_tokens(model.asked[0].prompt) + 100


def test_fewer_frames_are_sampled_where_the_context_is_small(video: Video) -> None:
    model = ScriptedModel(context("Red."), context("Blue."), context_size=room(video, 20))
    agent = Agent(model, video, settings=Settings(frames=60, reply_tokens=100))
    events = list(agent.run("Why?"))
    assert only(RunStarted, events)[0].budget.frames == 20
    assert len(only(FramesSampled, events)[0].times) == 20
    assert "20 of 60 frames" in only(Notice, events)[0].text
    events = list(agent.run("Why is it so?"))
    assert len(only(FramesSampled, events)[0].times) == only(RunStarted, events)[0].budget.frames == 10
    assert "10 of 60 frames" in only(Notice, events)[0].text
    assert isinstance(events[-1], Answer)


def test_a_long_question_costs_only_itself_frames(video: Video) -> None:
    """The second question has room for more frames than the first one had, and gets them."""
    model = ScriptedModel(context("Red."), context("Blue."), context("Blue."), context_size=room(video, 20))
    agent = Agent(model, video, settings=Settings(frames=60, reply_tokens=100))
    seen = [only(FramesSampled, list(agent.run(question)))[0] for question in ("Why is it so?", "Why?", "Why is it so?")]
    assert [(len(event.times), event.method == "reused") for event in seen] == [(10, False), (20, False), (10, True)]


def test_a_context_too_small_for_one_frame_is_said_before_any_is_decoded(video: Video) -> None:
    seen: list[Event] = []
    with pytest.raises(ModelError, match="--ctx-size"):
        seen.extend(Agent(ScriptedModel(context_size=room(video, 2) - 10), video, settings=Settings(reply_tokens=100)).run("Why?"))
    assert [type(event) for event in seen] == [RunStarted]


def test_a_reply_that_is_cut_off_is_told(video: Video) -> None:
    model = ScriptedModel(context(", ".join(map(str, range(40)))), context_size=room(video, 20))
    events = run(model, video, frames=4, reply_tokens=100)
    assert isinstance(events[-1], Answer)
    assert "cut off" in only(Notice, events)[-1].text
    assert "--ctx-size" not in only(Notice, events)[-1].text  # the limit is another one


class Advising(ScriptedModel):
    """Knows better what to do."""

    def stream(self, prompt: Prompt, **options: Any) -> Generator[StreamItem]:
        for item in super().stream(prompt, **options):
            yield replace(item, advice="turn its thinking off") if isinstance(item, Reply) else item


def test_a_reply_that_is_cut_off_for_want_of_context_says_what_to_do(video: Video) -> None:
    model = ScriptedModel(context(", ".join(map(str, range(300)))), context_size=8000)
    events = run(model, video, frames=1)
    assert model.asked[0].max_tokens == 2000
    assert only(Notice, events) == []
    for kind, told in ((ScriptedModel, "raise --ctx-size"), (Advising, "turn its thinking off")):
        events = run(kind(context(", ".join(map(str, range(300)))), context_size=6000), video, frames=1)
        assert only(Notice, events)[0].advice == told


def test_old_results_give_way_where_the_context_is_small(video: Video) -> None:
    long = "Yes. " * 300
    script: list[Any] = [context(None, analyze([], "a?"))]
    script += [long, reasoner(None, analyze([], "b?")), long, reasoner(None, analyze([], "c?")), long, reasoner("Red.")]
    model = ScriptedModel(*script, context_size=8000)
    events = run(model, video, frames=4, reply_tokens=100)
    assert isinstance(events[-1], Answer)
    assert any("newest 2 of 3 tool results" in notice.text for notice in only(Notice, events))
    assert "perform_reasoning_#1" not in model.asked[-1].texts[1]


def test_a_result_longer_than_the_context_is_cut(video: Video) -> None:
    model = ScriptedModel(context(None, analyze([], "a?")), "Yes. " * 3000, reasoner("Red."), context_size=8000)
    events = run(model, video, frames=4, reply_tokens=100)
    assert isinstance(events[-1], Answer)
    assert any("perform_reasoning_#1 was cut" in notice.text for notice in only(Notice, events))


# ---- replies that are stopped --------------------------------------------------------------------------------------

ROUND = "It jumps over the wall. " * 5
FORCED = context("The", seen=ROUND)
CALL = context(None, TRANSCRIBE)


@pytest.mark.parametrize("finish", ["loop", "length"])
@pytest.mark.parametrize(
    ("before", "forced", "at"),
    [
        ((), FORCED, ', "final_answer"'),
        ((), FORCED, 'The"'),
        ((), context(None, GROUND), ':10"'),
        ((CALL,), reasoner("The", reasoning=ROUND), ', "final_answer"'),
        ((CALL,), reasoner(None, GROUND), ', "timestamp_start"'),
    ],
)
def test_what_was_written_to_close_a_reply_is_not_its_answer_or_call(
    video: Video, finish: Finish, before: tuple[Any, ...], forced: dict[str, Any], at: str
) -> None:
    stopped = Stopped(forced, finish, at)
    model = ScriptedModel(*before, stopped, reasoner("Red.") if before else context("Red."), strict=False)
    events = run(model, video)
    assert only(Answer, events)[0].answer == "Red."
    assert [asked.temperature for asked in model.asked] == [0.0] * (len(before) + 1) + [0.7]
    events = run(ScriptedModel(*before, stopped, stopped, strict=False), video)
    assert "stopped before" in only(NoAnswer, events)[0].reason
    assert len(only(ToolCalled, events)) == len(before)


def test_an_answer_after_a_loop_in_another_field_is_the_models_own(video: Video) -> None:
    model = ScriptedModel(Stopped(context("Red.", seen=ROUND)))
    events = run(model, video)
    assert (only(Answer, events)[0].answer, len(model.asked)) == ("Red.", 1)
    assert [notice.text for notice in only(Notice, events)] == [
        "the model repeated itself and was stopped there: its answer may be wrong or incomplete"
    ]


def test_a_loop_is_not_handed_on(video: Video) -> None:
    asked = call("perform_reasoning", query=ROUND, media_paths=[])
    model = ScriptedModel(Stopped(context(None, asked, seen=ROUND)), "Yes.", reasoner("Red."))
    events = run(model, video)
    assert only(ToolCalled, events)[0].arguments["query"] == "It jumps over the wall."
    assert ROUND.strip() not in "".join(model.asked[-1].texts)
    meant = ScriptedModel(context(None, asked), "Yes.", reasoner("Red."))  # the model ended it by itself
    assert only(ToolCalled, run(meant, video))[0].arguments["query"] == ROUND


@pytest.mark.parametrize("at", ["", ', "recommended_tools"'])
def test_a_loop_in_the_answer_is_cut_from_it(video: Video, at: str) -> None:
    events = run(ScriptedModel(Stopped(context(ROUND), at=at)), video)
    assert only(Answer, events)[0].answer == "It jumps over the wall."
    assert len(only(Notice, events)) == 1
    direct = Agent(ScriptedModel(Stopped(ROUND)), video, tools=(), settings=Settings(direct_prompt=True))
    events = list(direct.run("Why?"))
    assert only(Answer, events)[0].answer == "It jumps over the wall."
    assert len(only(Notice, events)) == 1


# ---- the event stream ----------------------------------------------------------------------------------------------


def test_every_event_is_json(video: Video) -> None:
    model = ScriptedModel(context(None, EXTRACT), reasoner("Red."))
    for event in run(model, video):
        record = as_record(event)
        assert json.loads(json.dumps(record)) == record
        assert next(iter(record)) == "type"


@pytest.mark.parametrize("after", [StepStarted, ToolCalled])
def test_stopping_early_closes_the_models_stream(video: Video, after: type[Event]) -> None:
    """A native model's stream holds memory that is freed with the model: it may not outlive its consumer."""
    streams: list[Generator[StreamItem]] = []

    class Watched(ScriptedModel):
        def stream(self, prompt: Prompt, **options: Any) -> Generator[StreamItem]:
            streams.append(super().stream(prompt, **options))  # held here, a stream ends only if it is closed
            return streams[-1]

    model = Watched(context(None, analyze([])), "Yes.")
    with closing(Agent(model, video).run("Why?")) as events:
        next(event for event in events if isinstance(event, after))
        next(event for event in events if isinstance(event, Working) and event.stage == "prefill")
        assert getgeneratorstate(streams[-1]) == GEN_SUSPENDED
    assert len(streams) == (1 if after is StepStarted else 2)
    assert {getgeneratorstate(stream) for stream in streams} == {GEN_CLOSED}


# ---- answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonsense", ["]", " ... ", "\n", "no spa " * 40, "why what is known is enough, or what is still missing"])
def test_an_answer_without_sense_is_asked_for_again_and_then_is_none(video: Video, nonsense: str) -> None:
    model = ScriptedModel(context(nonsense), context("Red."), strict=False)
    events = run(model, video)
    assert isinstance(events[-1], Answer)
    assert [asked.temperature for asked in model.asked] == [0.0, 0.7]
    events = run(ScriptedModel(context(nonsense), context(nonsense), strict=False), video)
    assert isinstance(events[-1], NoAnswer)
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner(nonsense), reasoner(nonsense), strict=False)
    events = run(model, video, max_steps=2)
    assert isinstance(events[-1], NoAnswer)


def test_what_is_cut_off_an_answer_is_told(video: Video) -> None:
    events = run(ScriptedModel(context("It jumps over the wall. " * 5)), video)
    assert only(Answer, events)[0].answer == "It jumps over the wall."
    assert "repeated itself" in only(Notice, events)[-1].text
    for length, told in ((1998, []), (1999, [2000]), (2000, [2000]), (2001, [])):  # a server may write more: nothing is missing then
        said = ("A new sentence. " + "".join(map(str, range(900))))[:length]
        events = run(ScriptedModel(context(said), strict=False), video, reply_tokens=3000)
        assert only(Answer, events)[0].answer == said
        assert [event.text for event in only(Notice, events)] == [f"the model's answer was cut off at {limit} characters" for limit in told]
    listed = "1. Red\n2. Blue\n3. Red\n4. Green\n5. Red\n6. Yellow"
    events = run(ScriptedModel(context(listed)), video)
    assert (only(Answer, events)[0].answer, only(Notice, events)) == (listed, [])


@pytest.mark.parametrize("first", [True, False])
def test_the_text_for_no_answer_is_none(video: Video, first: bool) -> None:
    text = "Could not produce an answer to the question."
    script = [context(text)] if first else [context(None, TRANSCRIBE), reasoner(text)]
    events = run(ScriptedModel(*script), video)
    assert isinstance(events[-1], NoAnswer)
    assert "could not produce" in events[-1].reason


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<think>A car.</think>\n<answer> Red. </answer>", "Red."),
        ("<think>Or <answer>blue</answer>?</think><answer>Red.</answer>", "Red."),
        ("<think>A car.</think> Red.", "Red."),
        ("Red.", "Red."),
        ("<answer>Red.", "Red."),
        ("<think>Hm.</think><answer></answer>", None),
    ],
)
def test_the_papers_direct_prompt(video: Video, reply: str, answer: str | None) -> None:
    model = ScriptedModel(reply)
    settings = Settings(frames=4, direct_prompt=True)
    events = list(Agent(model, video, tools=(), settings=settings).run("Which colour?"))
    assert getattr(events[-1], "answer", None) == answer
    [asked] = model.asked
    assert asked.schema is None
    assert asked.wrap == ("", "")
    _, text = asked.texts
    assert "Question: Which colour?" in text
    assert "<answer>" in text


# ---- models that were not trained to call tools --------------------------------------------------------------------


def test_a_first_look_that_finds_no_answer_has_to_call_a_tool(video: Video) -> None:
    whole = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00:00", timestamp_end="00:00:30")
    denial = general("Man sieht nicht, was er sagt.", found=False)
    model = ScriptedModel(denial, general(None, whole), later("Look at that."), YES)
    events = run(model, video, prompts="general")
    assert [event.tool for event in only(ToolCalled, events)] == ["transcribe-speech"]
    assert isinstance(events[-1], Answer)
    assert "asked to call a tool" in only(Notice, events)[0].text
    first, again = model.asked[0].prompt, model.asked[1].prompt
    assert again[: len(first)] == first
    assert [message.role for message in again[len(first) :]] == ["assistant", "user"]
    with pytest.raises(AssertionError, match="schema forbids"):
        run(ScriptedModel(denial, denial), video, prompts="general")


HEARD = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00:00", timestamp_end="00:00:30")


NOT_SAID = later("Die Farbe wird nicht erw\u00e4hnt.", found=False)


YES, NO = '{"answer": "yes"}', '{"answer": "no"}'
WATCH = call("perform_reasoning", query="Which colour?", media_paths=["holiday.mp4"])


def test_an_untrained_model_is_asked_whether_the_video_holds_its_answer(video: Video) -> None:
    """What was heard and what was seen: a right answer about the pictures is not in a transcript."""
    model = ScriptedModel(general(None, HEARD, "A woman in a blue shirt."), later("Her shirt is blue."), YES)
    end = run(model, video, "What colour is the shirt?", prompts="general", temperature=0.5)[-1]
    assert isinstance(end, Answer)
    assert [asked.temperature for asked in model.asked] == [0.5, 0.5, 0.0]
    [text] = model.asked[-1].texts
    assert all(part in text for part in ("A woman in a blue shirt.", "Look at that.", "What colour is the shirt?", '"yes"', "JSON"))


def test_an_answer_that_is_not_found_leads_to_the_next_step(video: Video) -> None:
    model = ScriptedModel(general(None, HEARD), later("Forty."), NO, later(None, WATCH), "Her shirt is red.", later("Red."))
    events = run(model, video, prompts="general")
    assert isinstance(events[-1], Answer)
    assert (events[-1].answer, events[-1].steps) == ("Red.", 3)  # a transcript need not hold what a tool saw
    assert "goes on" in only(Notice, events)[0].text
    assert 'check output: The answer "Forty." was found neither in the description nor in the results.' in model.asked[3].texts[1]
    denied = run(ScriptedModel(general(None, HEARD), later("Forty."), NO, NOT_SAID), video, prompts="general")
    assert isinstance(denied[-1], Answer)


@pytest.mark.parametrize(
    ("script", "steps", "guess"),
    [
        ([later("Forty."), NO], 1, "Forty."),
        ([later("Forty."), NO, later("Fifty."), NO], 10, "Fifty."),
        ([later("Forty."), NO, later("Fifty."), NO], 2, "Fifty."),
        ([later("Forty."), NO, later(None)], 2, "Forty."),
    ],
)
def test_no_answer_is_given_that_was_not_found_twice_or_in_the_last_step(video: Video, script: list[Any], steps: int, guess: str) -> None:
    end = run(ScriptedModel(general(None, HEARD), *script), video, prompts="general", max_steps=steps)[-1]
    assert isinstance(end, NoAnswer)
    assert f"its guess: {guess}" in end.reason


def test_a_summary_is_an_answer(video: Video) -> None:
    model = ScriptedModel(general(None, HEARD), later("Somebody asks to look at something. It is short."), YES)
    assert isinstance(run(model, video, "Summarize the talk.", prompts="general")[-1], Answer)


def test_untrained_models_read_the_arguments_that_a_result_is_for(video: Video) -> None:
    model = ScriptedModel(general(None, HEARD), later(None, WATCH), "Red.", later("Red."))
    run(model, video, prompts="general")
    text = model.asked[-1].texts[1]
    assert f"verbal_transcript_#1 with arguments {HEARD['tool_calls'][0]['arguments']} output: {{'transcript'" in text
    assert (
        "perform_reasoning_#1 with arguments {'query': 'Which colour?', 'media_paths': ['holiday.mp4']} output: {'answer': 'Red.'}" in text
    )


def test_untrained_models_read_how_many_frames_they_see_and_an_example_of_this_video(video: Video) -> None:
    model = ScriptedModel(general("Red."))
    list(Agent(model, video, span=(5.0, 19.5), settings=Settings(prompts=Prompts("general"), frames=10)).run("Why?"))
    system, message = model.asked[0].texts
    assert '"video_path": "holiday.mp4", "timestamp_start": "00:00:05", "timestamp_end": "00:00:20"' in system
    assert "It has sound. You see 10 frames of it, one every 1.6 s." in message


class Talk(Listener):
    """A long video in whose samples is said what is given."""

    def __init__(self, *said: str) -> None:
        self.said = said
        self.asked: list[tuple[float, float]] = []

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        said = self.said[len(self.asked)]
        self.asked.append((start, end))
        yield Progress((Segment(start + 1, start + 2, said, 1.0),) if said else (), end)


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("lecture") / "holiday.mp4"
    return Video(make_video(path, times=[0, 1000], size=(64, 48), fps=1, audio=tone(1, rate=8000), audio_rate=8000))


def may_look(model: ScriptedModel) -> list[bool]:
    """Whether the replies may be calls that look."""
    return [accepts(asked.schema or {}, f"<json>\n{json.dumps(general(None, GROUND))}\n</json>", asked.wrap) for asked in model.asked]


def test_an_untrained_model_listens_first_where_people_speak_all_along(lecture: Video) -> None:
    talk = Talk("Good morning.", "", "And now.", "So that is it.")
    model = ScriptedModel(general("Red."), general("Blue."))
    agent = Agent(model, lecture, transcriber=lambda: talk, settings=Settings(prompts=Prompts("general")))
    events = list(agent.run("Why?"))
    list(agent.run("And how?"))
    assert isinstance(events[0], RunStarted)
    assert [event.done for event in only(Working, events) if event.stage == "speech"] == [0, 12, 24, 36]
    assert talk.asked == [(8.0, 20.0), (308.0, 320.0), (608.0, 620.0), (908.0, 920.0)]
    assert may_look(model) == [False, False]


@pytest.mark.parametrize(
    ("pack", "tools", "said"),
    [
        ("sage-mm", TOOLS, ("Good morning.",) * 4),  # was trained to choose
        ("general", (GroundEvent(),), ("Good morning.",) * 4),  # cannot listen
        ("general", TOOLS, ("Good morning.", "", "", "So.")),  # not all along
        ("general", TOOLS, None),
    ],
)
def test_other_models_and_videos_leave_the_choice(lecture: Video, pack: str, tools: Sequence[AnyTool], said: Sequence[str] | None) -> None:
    def load() -> Talk:
        if said is None:
            raise ModelError("the speech model is broken")
        return Talk(*said)

    reply = general if pack == "general" else context
    model = ScriptedModel(reply(None, GROUND), "no idea", reasoner("Red.") if pack == "sage-mm" else later("Red."), strict=False)
    events = list(Agent(model, lecture, transcriber=load, tools=tools, settings=Settings(prompts=Prompts(pack))).run("Why?"))
    assert only(ToolCalled, events)[0].tool == "ground-event"
    schema = model.asked[0].schema
    assert schema is not None
    assert accepts(schema, f"<json>\n{json.dumps(reply(None, GROUND))}\n</json>", model.asked[0].wrap)


def test_that_something_is_not_said_rests_on_all_that_was_heard(video: Video) -> None:
    """Regression: on a sentence that merely shares words with the question."""
    quotes = []
    for found in (True, False):
        model = ScriptedModel(general(None, HEARD), later("He says: look at that.", found=found), YES)
        end = run(model, video, "What does he say?", prompts="general")[-1]
        assert isinstance(end, Answer)
        quotes.append([one.said for one in end.evidence])
    assert quotes == [["Look at that."], [""]]


def test_frames_that_are_far_apart_are_counted_in_whole_seconds(tmp_path: Path) -> None:
    """Regression: "one every 3e+03 s", and calls for three seconds of hours."""
    long = Video(make_video(tmp_path / "long.mp4", seconds=9000, fps=0.01, size=(32, 32)))
    model = ScriptedModel(general("Red."))
    run(model, long, prompts="general", frames=4)
    assert "You see 4 frames of it, one every 2967 s." in model.asked[0].texts[1]


def test_denials_and_trained_models_are_not_asked_again(video: Video) -> None:
    assert isinstance(run(ScriptedModel(general(None, HEARD), NOT_SAID), video, prompts="general")[-1], Answer)
    assert isinstance(run(ScriptedModel(context(None, HEARD), reasoner("Forty minutes.")), video)[-1], Answer)


@pytest.mark.parametrize(("found", "settings"), [(True, {}), (False, {"max_steps": 0})])
def test_other_first_answers_stand(video: Video, found: bool, settings: dict[str, Any]) -> None:
    end = run(ScriptedModel(general("It is not shown.", found=found)), video, prompts="general", **settings)[-1]
    assert isinstance(end, Answer)
    assert end.answer == "It is not shown."


FOUND, MISSING = '{"answer": "found"}', '{"answer": "missing"}'


def test_a_model_that_does_not_tell_whether_its_answer_is_one_is_asked(video: Video) -> None:
    """Servers may take no schema."""
    denial, answer = general("It is not shown."), general("Red.")
    last = later("Nothing is said.")
    for reply, found in ((denial, {}), (answer, {"found": None}), (last, {})):
        del reply["found"]
        reply |= found
    model = ScriptedModel(denial, MISSING, general(None, HEARD), last, MISSING, strict=False)
    end = run(model, video, "Which colour?", prompts="general")[-1]
    assert isinstance(end, Answer)
    assert end.answer == "Nothing is said."
    [text] = model.asked[1].texts
    assert all(part in text for part in ("Which colour?", "It is not shown.", "missing"))
    end = run(ScriptedModel(answer, FOUND, strict=False), video, prompts="general")[-1]
    assert isinstance(end, Answer)
    assert end.answer == "Red."


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (FOUND, True),
        ("**Missing.**", False),
        ('{"answer": "Missing"}', False),
        ("It is found, not missing.", True),
        ("I do not know.", True),
    ],
)
def test_a_model_that_knows_no_json_is_asked_too(video: Video, said: str, found: bool) -> None:
    model = ScriptedModel("It is red.", "It is red.", said, general(None, HEARD), later("Red."), YES, strict=False)
    assert isinstance(run(model, video, prompts="general")[-1], Answer)
    assert len(model.asked) == (3 if found else 6)


# ---- failures ------------------------------------------------------------------------------------------------------


class Failing(Listener):
    """Fails in the given way the first time."""

    def __init__(self, error: Exception) -> None:
        self.errors = [error]

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        if self.errors:
            raise self.errors.pop()
        yield from super().parts(start, end)


def test_a_call_that_failed_runs_again_when_it_is_made_again(video: Video) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner(None, TRANSCRIBE), reasoner("That."))
    listener = Failing(VideoError("a part of it cannot be decoded"))
    events = list(Agent(model, video, transcriber=lambda: listener).run("What is said?"))
    assert [(event.ok, event.repeated) for event in only(ToolFinished, events)] == [(False, False), (True, False)]
    assert isinstance(events[-1], Answer)


def test_what_a_call_that_failed_cost_is_counted(video: Video) -> None:
    model = ScriptedModel(context(None, GROUND), "no idea at all", reasoner("Red."), strict=False)
    events = run(model, video)
    (failed,) = only(ToolFinished, events)
    assert not failed.ok
    assert failed.usage.output_tokens == len("no idea at all")
    assert isinstance(events[-1], Answer)
    assert events[-1].usage.prompt_tokens == sum(model.count_tokens(asked.prompt) for asked in model.asked)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), OSError(errno.EIO, "Input/output error"), ModelError("no")]
)
def test_an_error_of_the_machine_is_not_a_result(video: Video, error: Exception) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner("Nothing."))
    listener = Failing(error)
    with pytest.raises(type(error)):
        list(Agent(model, video, transcriber=lambda: listener).run("What is said?"))
    assert len(model.script) == 1


def test_a_long_transcript_is_searched_for_the_question_and_the_one_before(video: Video) -> None:
    agent = Agent(ScriptedModel(), video)
    assert agent.workspace("And when?", ["Where was the whale?"]).asked == "And when? Where was the whale?"
    assert agent.workspace("See https://example.com/a").addresses == ["https://example.com/a"]

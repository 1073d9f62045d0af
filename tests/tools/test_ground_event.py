from __future__ import annotations

from typing import Any

import pytest

from sage_cli.prompts import Prompts
from sage_cli.tools import GroundEvent, ToolError, Workspace, complete
from sage_cli.tools.base import EvidenceSpan, ToolNotice
from sage_cli.tools.ground_event import GroundEventArguments
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, Stopped


def arguments(start: str = "00:10", end: str = "00:20", event: str = "a dog jumps") -> GroundEventArguments:
    return GroundEventArguments(video_path="holiday.mp4", event=event, timestamp_start=start, timestamp_end=end)


def found(start: Any, end: Any, event: str = "a dog jumps") -> dict[str, Any]:
    return {"name": event, "timestamps": {"start": start, "end": end}}


def test_shows_the_window_and_gives_times_of_the_video(video: Video) -> None:
    model = ScriptedModel(found("00:00:12", "00:14"))
    with Workspace(model, video) as workspace:
        outcome = complete(GroundEvent().run(arguments(), workspace))
    assert outcome.result == found("00:00:12", "00:00:14")
    assert outcome.evidence == (EvidenceSpan(12.0, 14.0, "event grounded"),)
    assert workspace.usage.output_tokens > 0
    [asked] = model.asked
    [frames] = asked.frames
    assert frames.pairs
    assert len(frames.frames) == 50
    # Trained models see the window as a clip of its own.
    assert (frames.frames[0].time, frames.frames[-1].time) == (0.0, 10.0)
    system, question = asked.texts
    assert system == workspace.prompts.render("system")
    assert all(word in question for word in ("a dog jumps", "00:00:10", "00:00:20"))


def test_the_reply_has_room_for_an_event_of_any_length(video: Video) -> None:
    event = "a dog jumps " * 100
    model = ScriptedModel(found("00:00:12", "00:14", event))
    with Workspace(model, video) as workspace:
        assert complete(GroundEvent().run(arguments(event=event), workspace)).evidence
    assert model.asked[0].max_tokens > 2 * len(event)


@pytest.mark.parametrize(("at", "span"), [("00:00:14", (14.0, 15.0)), ("00:00:20", (19.0, 20.0))])
def test_evidence_lasts_a_second_at_least(video: Video, at: str, span: tuple[float, float]) -> None:
    with Workspace(ScriptedModel(found(at, at)), video) as workspace:
        outcome = complete(GroundEvent().run(arguments(), workspace))
    assert outcome.result == found(at, at)  # as in training
    assert outcome.evidence == (EvidenceSpan(*span, "event grounded"),)


def test_an_event_that_is_not_there_has_no_times(video: Video) -> None:
    with Workspace(ScriptedModel(found(None, None)), video) as workspace:
        outcome = complete(GroundEvent().run(arguments(), workspace))
    assert outcome.result == found(None, None)
    assert outcome.evidence == ()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("00:00:02", "00:00:04", ("00:00:12", "00:00:14")),  # counted from the beginning of the window
        ("00:00:14", "00:00:12", ("00:00:12", "00:00:14")),
        ("00:00:12", "00:00:29", ("00:00:12", "00:00:20")),
        (12, 14, ("00:00:12", "00:00:14")),
        ("00:00:25", "00:00:29", (None, None)),
    ],
)
def test_an_unconstrained_reply_is_understood(video: Video, start: Any, end: Any, expected: tuple[Any, Any]) -> None:
    with Workspace(ScriptedModel(found(start, end), strict=False), video) as workspace:
        outcome = complete(GroundEvent().run(arguments(), workspace))
    assert outcome.result == found(*expected)


@pytest.mark.parametrize("reply", ["I see a dog.", '{"timestamps": [1, 2]}', '{"timestamps": {"start": "soon", "end": "later"}}'])
def test_a_reply_without_sense_is_a_tool_error(video: Video, reply: str) -> None:
    with Workspace(ScriptedModel(reply, strict=False), video) as workspace, pytest.raises(ToolError, match="no times"):
        complete(GroundEvent().run(arguments(), workspace))


def test_times_that_only_close_a_reply_are_none(video: Video) -> None:
    forced = Stopped(found("00:00:10", "00:00:11"), "length", at=', "timestamps"')
    with Workspace(ScriptedModel(forced), video) as workspace, pytest.raises(ToolError, match="no times"):
        complete(GroundEvent().run(arguments(), workspace))


def test_the_schema_holds_the_times_inside_the_window_and_the_name_to_the_event(video: Video) -> None:
    for reply in (found("00:00:21", "00:00:22"), found("00:00:12", None), found("00:00:12", "00:00:14", "a cat")):
        with Workspace(ScriptedModel(reply), video) as workspace, pytest.raises(AssertionError, match="schema forbids"):
            complete(GroundEvent().run(arguments(), workspace))


def test_fewer_frames_are_shown_where_the_context_is_small(video: Video) -> None:
    with Workspace(ScriptedModel(found("00:12", "00:14"), context_size=1200), video) as workspace:
        question = workspace.prompts.render("visual_temporal_grounding", event="a dog jumps", begin="00:00:10", end="00:00:20")
        question += workspace.prompts.render("system")
    model = ScriptedModel(found("00:12", "00:14"), context_size=len(question) + 256 + 2 * len("a dog jumps") + 8)
    with Workspace(model, video) as workspace:
        run = GroundEvent().run(arguments(), workspace)
        notices = [item for item in run if isinstance(item, ToolNotice)]
    assert len(model.asked[0].frames[0].frames) == 8
    assert "8 of 50 frames" in notices[0].text


@pytest.mark.parametrize(("pack", "roles"), [("sage-mm", ["system", "user"]), ("general", ["user"]), ("nano", ["user"])])
def test_only_models_that_were_trained_with_a_system_turn_see_one(video: Video, pack: str, roles: list[str]) -> None:
    model = ScriptedModel(found("00:12", "00:14"))
    with Workspace(model, video, prompts=Prompts(pack)) as workspace:
        complete(GroundEvent().run(arguments(), workspace))
    assert [message.role for message in model.asked[0].prompt] == roles


def test_a_context_without_room_for_one_frame_is_a_tool_error(video: Video) -> None:
    with Workspace(ScriptedModel(context_size=400), video) as workspace, pytest.raises(ToolError, match="does not fit"):
        complete(GroundEvent().run(arguments(), workspace))

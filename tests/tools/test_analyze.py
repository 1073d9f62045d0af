from __future__ import annotations

import json

import pytest

from sage_cli.model.base import Frames
from sage_cli.prompts import Prompts
from sage_cli.tools import Analyze, ToolError, Workspace, complete
from sage_cli.tools.analyze import AnalyzeArguments
from sage_cli.tools.base import EvidenceSpan, ToolNotice
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, Stopped, accepts


def test_frames_are_looked_at_one_by_one_in_time_order(video: Video) -> None:
    model = ScriptedModel(" It is red.\n")
    with Workspace(model, video) as workspace:
        frames = list(video.frames([5.0, 6.0, 7.0], workspace.sizes.first))
        names = workspace.add_frames(frames)
        outcome = complete(Analyze().run(AnalyzeArguments(query="Which colour?", media_paths=[*reversed(names), names[0]]), workspace))
    assert outcome.result == {"answer": "It is red."}
    assert outcome.evidence == (EvidenceSpan(5.0, 7.0, "frames analyzed"),)
    [asked] = model.asked
    [shown] = asked.frames
    assert not shown.pairs
    assert list(shown.frames) == frames
    assert asked.texts[-1] == "Which colour?"
    assert asked.temperature == 0.0


def test_a_clip_is_shown_as_the_videos_own_frames(video: Video) -> None:
    model = ScriptedModel("Yes.")
    with Workspace(model, video) as workspace:
        name = workspace.add_clip(10.0, 14.0)
        outcome = complete(Analyze().run(AnalyzeArguments(query="Did it?", media_paths=[name]), workspace))
        again = {frame.key for frame in video.frames([10.0, 14.0], workspace.sizes.first)}
    [shown] = model.asked[0].frames
    assert shown.pairs
    assert len(shown.frames) == 20
    assert again <= {frame.key for frame in shown.frames}
    assert outcome.evidence == (EvidenceSpan(10.0, 14.0, "clip analyzed"),)


def test_a_clip_among_frames_is_looked_at_alone(video: Video) -> None:
    model = ScriptedModel("Yes.")
    with Workspace(model, video) as workspace:
        names = [*workspace.add_frames(list(video.frames([1.0], workspace.sizes.first))), workspace.add_clip(10.0, 14.0)]
        items = list(Analyze().run(AnalyzeArguments(query="Did it?", media_paths=names), workspace))
    assert any(isinstance(item, ToolNotice) and "c1.mp4" in item.text for item in items)
    assert len(model.asked[0].frames) == 1


def test_groups_of_frames_are_told_apart(video: Video) -> None:
    with Workspace(ScriptedModel("Yes."), video) as workspace:
        names = [name for times in ([1.0, 2.0], [20.0, 22.0]) for name in workspace.add_frames(list(video.frames(times, (64, 32))))]
        outcome = complete(Analyze().run(AnalyzeArguments(query="Did it?", media_paths=names), workspace))
    assert outcome.evidence == (EvidenceSpan(1.0, 2.0, "frames analyzed"), EvidenceSpan(20.0, 22.0, "frames analyzed"))


@pytest.mark.parametrize("given", ["f1/00:10.jpg", '["f1/00:10.jpg"]', "['f1/00:10.jpg', ]"])
def test_a_path_alone_and_a_list_as_text_are_lists(given: str) -> None:
    assert AnalyzeArguments.model_validate({"query": "Who?", "media_paths": given}).media_paths == ["f1/00:10.jpg"]


@pytest.mark.parametrize("path", ["[HD] movie.mp4", "{x}.mp4"])
def test_a_path_with_brackets_is_a_path(path: str) -> None:
    assert AnalyzeArguments.model_validate({"query": "Who?", "media_paths": path}).media_paths == [path]


def test_a_question_without_media(video: Video) -> None:
    model = ScriptedModel("42.")
    with Workspace(model, video) as workspace:
        outcome = complete(Analyze().run(AnalyzeArguments(query="6 times 7?", media_paths=[]), workspace))
        assert Analyze().span(AnalyzeArguments(query="6 times 7?", media_paths=[]), workspace) is None
    assert outcome.result == {"answer": "42."}
    assert model.asked[0].frames == [Frames((), pairs=False, timed=False)]
    assert outcome.evidence == ()


@pytest.mark.parametrize("path", ["f1/00:01.jpg", "/etc/passwd", "../birthday.mp4"])
def test_only_media_of_the_run_can_be_looked_at(video: Video, path: str) -> None:
    with Workspace(ScriptedModel(), video) as workspace, pytest.raises(ToolError, match="there is no"):
        complete(Analyze().run(AnalyzeArguments(query="What?", media_paths=[path]), workspace))


def test_a_long_answer_is_cut_and_said_to_be(video: Video) -> None:
    with Workspace(ScriptedModel("And then. " * 60), video) as workspace:
        items = list(Analyze().run(AnalyzeArguments(query="What?", media_paths=[]), workspace))
    assert isinstance(items[-1], ToolNotice)
    assert "cut off" in items[-1].text
    with Workspace(ScriptedModel(Stopped("And then. " * 9)), video) as workspace:
        items = list(Analyze().run(AnalyzeArguments(query="What?", media_paths=[]), workspace))
    assert isinstance(items[-1], ToolNotice)
    assert "repeated itself" in items[-1].text


def test_the_schema_offers_the_media_that_exist(video: Video) -> None:
    def allows(*paths: str) -> bool:
        schema = Analyze().schema(workspace)
        return schema is not None and accepts(schema, json.dumps({"query": "What?", "media_paths": paths}))

    with Workspace(ScriptedModel(), video) as workspace:
        assert allows()
        assert not allows("f1/00:01.jpg")
        names = workspace.add_frames(list(video.frames([1.0, 2.0], (64, 32))))
        assert allows()
        assert allows(*names)
        assert allows("f1/00:01.jpg")
        assert not allows("f1/00:03.jpg")
        assert not allows("c1.mp4")
        clip = workspace.add_clip(1.0, 2.0)
        assert allows(clip)
        assert not allows(clip, clip)
        assert not allows(*names, clip)


def test_a_general_model_never_looks_at_nothing(video: Video) -> None:
    with Workspace(ScriptedModel(), video, prompts=Prompts("general")) as workspace:
        schema = Analyze().schema(workspace)
        assert schema is not None
        assert accepts(schema, json.dumps({"query": "What?", "media_paths": ["holiday.mp4"]}))
        assert not accepts(schema, json.dumps({"query": "What?", "media_paths": []}))


def test_the_video_itself_is_looked_at_as_a_clip(video: Video) -> None:
    model = ScriptedModel("Blue.")
    with Workspace(model, video, span=(10.0, 20.0)) as workspace:
        outcome = complete(Analyze().run(AnalyzeArguments(query="What?", media_paths=["holiday.mp4"]), workspace))
    assert outcome.evidence == (EvidenceSpan(10.0, 20.0, "clip analyzed"),)
    [frames] = model.asked[0].frames
    assert len(frames.frames) == 50
    # As the frames of a clip that was cut out of the video.
    assert (frames.frames[0].time, frames.frames[-1].time) == pytest.approx((0.0, 10.0), abs=0.2)

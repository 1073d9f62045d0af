from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage_cli.prompts import Prompts
from sage_cli.tools import ToolError, Workspace
from sage_cli.tools.base import WindowArguments
from sage_cli.tools.workspace import most, thin
from sage_cli.video import Frame, Video
from tests.agent.scripted import ScriptedModel
from tests.media import make_video


def frame(time: float) -> Frame:
    return Frame(time, np.zeros((32, 64, 3), np.uint8), f"frame {time}")


def window(start: str, end: str, path: str = "holiday.mp4") -> WindowArguments:
    return WindowArguments(video_path=path, timestamp_start=start, timestamp_end=end)


@pytest.mark.parametrize(
    ("times", "stems"),
    [
        ([0.0, 45.0, 61.2], ["00:00", "00:45", "01:01"]),
        ([3599.0, 3600.0], ["59:59", "01:00:00"]),
        ([1.0, 1.5, 2.0], ["00:01.0", "00:01.5", "00:02.0"]),
        ([1.0, 1.04, 1.96], ["00:01.00", "00:01.04", "00:01.96"]),
    ],
)
def test_frames_are_named_by_their_times(video: Video, times: list[float], stems: list[str]) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        assert workspace.add_frames([frame(time) for time in times]) == [f"f1/{stem}.jpg" for stem in stems]
    with Workspace(ScriptedModel(), video, prompts=Prompts("nano")) as workspace:
        assert workspace.add_frames([frame(time) for time in times]) == [f"f1/{stem.replace(':', '')}.jpg" for stem in stems]


def test_media_are_names_and_nothing_is_written(video: Video, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Workspace(ScriptedModel(), video) as workspace:
        shown = list(video.frames([10.0], (64, 48)))
        names = [*workspace.add_frames(shown), *workspace.add_frames(shown), workspace.add_clip(1.0, 2.0)]
        assert names == ["f1/00:10.jpg", "f2/00:10.jpg", "c1.mp4"]
        assert workspace.find_media(names[0]).frame is shown[0]
        assert (workspace.find_media("c1.mp4").start, workspace.find_media("c1.mp4").end) == (1.0, 2.0)
        assert not list(tmp_path.iterdir())
    assert not workspace.media


@pytest.mark.parametrize(
    "name", ["holiday.mp4", "/data/videos/holiday.mp4", "holiday_no_audio.mp4", "HOLIDAY.mp4 ", "holiday", "video.mp4"]
)
def test_the_video_itself_and_its_silent_twin_are_media(video: Video, name: str) -> None:
    with Workspace(ScriptedModel(), video, span=(5.0, 20.0)) as workspace:
        media = workspace.find_media(name)
    assert (media.name, media.start, media.end, media.frame) == ("holiday.mp4", 5.0, 20.0, None)


@pytest.mark.parametrize(
    "name", ["f1/00:10.jpg", "00:10.jpg", "/tmp/holiday_frames_00:10_00:12/holiday_frame_250_00:10.jpg", "holiday_frames/f_00:10.jpg"]
)
def test_frames_are_found_by_the_time_in_their_names(video: Video, name: str) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        workspace.add_frames([frame(10.0), frame(610.0), frame(3610.0)])
        assert workspace.find_media(name).start == 10.0
        with pytest.raises(ToolError, match="there is no"):
            workspace.find_media(name.replace("00:10.jpg", "00:11.jpg"))


def test_times_of_an_extracted_clip_count_from_its_start(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        workspace.add_frames([frame(10.0)])
        clip = workspace.add_clip(8.0, 14.0)
        assert workspace.window(window("00:01", "00:03", clip)) == (9.0, 11.0, [])
        assert workspace.window(window("00:01", "00:20", clip))[:2] == (9.0, 14.0)
        with pytest.raises(ToolError, match="no video"):
            workspace.window(window("00:00", "00:03", "f1/00:10.jpg"))


@pytest.mark.parametrize("name", ["birthday.mp4", "holiday_no_audio.avi", "c1.mp4", ""])
def test_other_videos_are_not_media(video: Video, name: str) -> None:
    with Workspace(ScriptedModel(), video) as workspace, pytest.raises(ToolError, match="there is no"):
        workspace.find_media(name)


@pytest.mark.parametrize(("name", "clip"), [("c1.mp4", "c2.mp4"), ("gopro_c1.mp4", "c1.mp4"), ("c1_no_audio.mp4", "c1.mp4")])
def test_a_video_called_like_a_clip_stays_the_video(video: Video, tmp_path: Path, name: str, clip: str) -> None:
    same = Video(shutil.copy(video.path, tmp_path / name))
    with Workspace(ScriptedModel(), same) as workspace:
        assert workspace.add_clip(8.0, 14.0) == clip
        assert (workspace.find_media(name).start, workspace.find_media(name).end) == (0.0, same.duration)
        assert workspace.find_media(clip).start == 8.0
        assert workspace.window(window("00:01", "00:20", name))[:2] == (1.0, 20.0)


def test_a_window_is_read_as_a_model_means_it(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        assert workspace.window(window("00:05", "00:00:15")) == (5.0, 15.0, [])
        assert workspace.window(window("00:15", "00:05"))[:2] == (5.0, 15.0)


def test_windows_have_no_upper_limit_and_for_general_models_a_lower_one(tmp_path: Path) -> None:
    long = Video(make_video(tmp_path / "holiday.mp4", times=[0, 2000], size=(64, 48)))
    with Workspace(ScriptedModel(), long) as workspace:
        assert workspace.window(window("00:00", "29:00")) == (0.0, 1740.0, [])
        assert workspace.window(window("10:00", "10:01"))[:2] == (600.0, 601.0)
    with Workspace(ScriptedModel(), long, prompts=Prompts("general")) as workspace:
        start, end, notes = workspace.window(window("10:00", "10:00"))
        assert end - start == workspace.prompts.style.smallest_window_s
        assert "widened" in notes[0]


def test_a_window_stays_inside_the_part_asked_about(video: Video) -> None:
    with Workspace(ScriptedModel(), video, span=(10.0, 20.0)) as workspace:
        assert workspace.window(window("00:12", "00:14")) == (12.0, 14.0, [])
        start, end, notes = workspace.window(window("00:05", "00:14"))
        assert (start, end) == (10.0, 14.0)
        assert "00:00:10-00:00:20" in notes[0]
        with pytest.raises(ToolError, match="inside it"):
            workspace.window(window("00:22", "00:24"))
    with Workspace(ScriptedModel(), video, span=(10.4, 19.6)) as workspace:  # schemas offer whole seconds
        assert workspace.window(window("00:10", "00:20")) == (10.4, 19.6, [])


def test_trained_qwen3_sees_as_many_frames_as_there_are_at_every_duration(video: Video) -> None:
    """The video has five frames a second."""
    model = ScriptedModel()
    workspace = Workspace(model, video)
    assert len(workspace.times(0.0, 30.0)) == 128
    assert len(workspace.times(2.0, 12.0)) == 50
    assert len(Workspace(model, video, prompts=Prompts("general")).times(0.0, 30.0)) == 60
    model.info = replace(model.info, family="qwen2.5-vl")
    assert len(Workspace(model, video).times(0.0, 30.0)) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(window("soon", "00:05"), "not a time"), (window("00:01", "00:05", "c3.mp4"), "no video 'c3.mp4'")],
)
def test_a_window_that_cannot_be_served_is_a_tool_error(video: Video, arguments: WindowArguments, message: str) -> None:
    with Workspace(ScriptedModel(), video) as workspace, pytest.raises(ToolError, match=message):
        workspace.window(arguments)


def test_most_finds_the_largest_that_fits() -> None:
    for limit in range(20):
        for largest in range(25):
            assert most(limit, lambda number, largest=largest: number <= largest) == min(limit, largest)  # type: ignore[misc]


def test_thin_keeps_both_ends() -> None:
    assert thin(range(10), 4) == (0, 3, 6, 9)
    assert thin(range(10), 20) == tuple(range(10))
    assert thin(range(10), 1) == (0,)
    assert thin(range(10), 0) == ()


@pytest.mark.parametrize(("pack", "span"), [("general", (0.0, 30.0)), ("sage-mm", (0.0, 5.0)), ("nano", (0.0, 5.0))])
def test_a_window_past_the_end_is_read_as_the_pack_says(video: Video, pack: str, span: tuple[float, float]) -> None:
    """Trained models write 00:05:00 for five seconds."""
    with Workspace(ScriptedModel(), video, prompts=Prompts(pack)) as workspace:
        assert workspace.window(window("00:00:00", "00:05:00"))[:2] == span

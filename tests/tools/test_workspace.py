from __future__ import annotations

import cv2
import numpy as np
import pytest

from sage_cli.tools import ToolError, Workspace
from sage_cli.tools.transcribe_speech import TranscribeSpeechArguments
from sage_cli.tools.workspace import most, thin
from sage_cli.video import Frame, Video
from tests.agent.scripted import ScriptedModel
from tests.media import read_number


def frame(time: float) -> Frame:
    return Frame(time, np.zeros((32, 64, 3), np.uint8), f"frame {time}")


def window(start: str, end: str, path: str = "holiday.mp4") -> TranscribeSpeechArguments:
    return TranscribeSpeechArguments(video_path=path, timestamp_start=start, timestamp_end=end)


@pytest.mark.parametrize(
    ("times", "stems"),
    [
        ([0.0, 45.0, 61.2], ["0000", "0045", "0101"]),
        ([3599.0, 3600.0], ["5959", "010000"]),
        ([1.0, 1.5, 2.0], ["0001.0", "0001.5", "0002.0"]),
        ([1.0, 1.04, 1.96], ["0001.00", "0001.04", "0001.96"]),
    ],
)
def test_frames_are_named_by_their_times(video: Video, times: list[float], stems: list[str]) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        assert workspace.add_frames([frame(time) for time in times]) == [f"f1/{stem}.jpg" for stem in stems]


def test_media_lie_in_a_folder_that_is_gone_afterwards(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        names = [*workspace.add_frames([frame(1.0)]), *workspace.add_frames([frame(1.0)]), workspace.add_clip(1.0, 2.0)]
        folder = workspace.folder
        assert names == ["f1/0001.jpg", "f2/0001.jpg", "c1.mp4"]
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == sorted(names)
        assert [workspace.media[name].path for name in names] == [folder / name for name in names]
    assert not folder.exists()
    assert not workspace.media


def test_written_frames_are_what_was_seen(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        shown = list(video.frames([10.0], (64, 48)))
        [name] = workspace.add_frames(shown)
        image = cv2.imdecode(np.fromfile(workspace.media[name].path, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert read_number(np.asarray(image, np.uint8)) == read_number(shown[0].image) == 50


def test_a_window_is_read_as_a_model_means_it(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        assert workspace.window(window("00:05", "00:00:15"), 600) == (5.0, 15.0, [])
        assert workspace.window(window("00:15", "00:05"), 600)[:2] == (5.0, 15.0)
        start, end, notes = workspace.window(window("00:05", "00:25"), 10)
        assert (start, end) == (5.0, 15.0)
        assert len(notes) == 1


def test_a_window_stays_inside_the_part_asked_about(video: Video) -> None:
    with Workspace(ScriptedModel(), video, span=(10.0, 20.0)) as workspace:
        assert workspace.window(window("00:12", "00:14"), 600) == (12.0, 14.0, [])
        start, end, notes = workspace.window(window("00:05", "00:14"), 600)
        assert (start, end) == (10.0, 14.0)
        assert "00:00:10-00:00:20" in notes[0]
        with pytest.raises(ToolError, match="inside it"):
            workspace.window(window("00:22", "00:24"), 600)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(window("soon", "00:05"), "not a time"), (window("00:01", "00:05", "/etc/passwd"), "no video '/etc/passwd'")],
)
def test_a_window_that_cannot_be_served_is_a_tool_error(video: Video, arguments: TranscribeSpeechArguments, message: str) -> None:
    with Workspace(ScriptedModel(), video) as workspace, pytest.raises(ToolError, match=message):
        workspace.window(arguments, 600)


def test_most_finds_the_largest_that_fits() -> None:
    for limit in range(20):
        for largest in range(25):
            assert most(limit, lambda number, largest=largest: number <= largest) == min(limit, largest)  # type: ignore[misc]


def test_thin_keeps_both_ends() -> None:
    assert thin(range(10), 4) == (0, 3, 6, 9)
    assert thin(range(10), 20) == tuple(range(10))
    assert thin(range(10), 1) == (0,)
    assert thin(range(10), 0) == ()

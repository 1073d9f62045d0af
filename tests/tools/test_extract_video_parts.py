from __future__ import annotations

from typing import Literal

import pytest
from pydantic import ValidationError

from sage_cli.tools import ExtractVideoParts, Workspace, complete
from sage_cli.tools.base import EvidenceSpan, ToolProgress
from sage_cli.tools.extract_video_parts import ExtractVideoPartsArguments
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, accepts
from tests.media import read_number


def arguments(start: str, end: str, kind: Literal["frames", "subclips"] = "frames") -> ExtractVideoPartsArguments:
    return ExtractVideoPartsArguments(video_path="holiday.mp4", timestamp_start=start, timestamp_end=end, extract_type=kind)


def test_ten_frames_evenly_over_the_window(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        outcome = complete(ExtractVideoParts().run(arguments("00:02", "00:20"), workspace))
        names = outcome.result["media_paths"]
        assert names == [f"f1/00:{second:02}.jpg" for second in range(2, 21, 2)]
        frames = [workspace.media[name].frame for name in names]
    assert [read_number(frame.image) for frame in frames if frame] == [5 * second for second in range(2, 21, 2)]
    assert outcome.evidence == (EvidenceSpan(2.0, 20.0, "frames extracted"),)
    assert workspace.usage.prompt_tokens == 0


def test_a_short_window_gives_the_frames_that_are_there(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        outcome = complete(ExtractVideoParts().run(arguments("00:02", "00:03"), workspace))
    stems = ("00:02.0", "00:02.2", "00:02.4", "00:02.6", "00:02.8", "00:03.0")
    assert outcome.result["media_paths"] == [f"f1/{stem}.jpg" for stem in stems]


def test_a_clip(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        outcome = complete(ExtractVideoParts().run(arguments("00:02", "00:06", "subclips"), workspace))
        assert outcome.result == {"media_paths": ["c1.mp4"]}
        clip = workspace.media["c1.mp4"]
    assert (clip.start, clip.end, clip.frame) == (2.0, 6.0, None)


def test_progress_counts_the_frames(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        progress = [item for item in ExtractVideoParts().run(arguments("00:02", "00:20"), workspace) if isinstance(item, ToolProgress)]
    assert [(item.done, item.total) for item in progress] == [(number, 10) for number in range(1, 11)]


def test_the_schema_keeps_to_this_video(video: Video) -> None:
    tool = ExtractVideoParts()
    with Workspace(ScriptedModel(), video) as workspace:
        assert tool.span(arguments("00:02", "00:20"), workspace) == (2.0, 20.0)
        assert accepts(
            tool.schema(workspace),
            '{"video_path": "holiday.mp4", "timestamp_start": "00:02", "timestamp_end": "00:20", "extract_type": "subclips"}',
        )


def test_a_kind_in_other_words_is_known() -> None:
    where = {"video_path": "holiday.mp4", "timestamp_start": "00:02", "timestamp_end": "00:06"}
    for given, kind in {"frame": "frames", "images": "frames", "clip": "subclips", "subclips": "subclips"}.items():
        assert ExtractVideoPartsArguments.model_validate({**where, "extract_type": given}).extract_type == kind
    for wrong in ("sound", ["frames"]):
        with pytest.raises(ValidationError):
            ExtractVideoPartsArguments.model_validate({**where, "extract_type": wrong})

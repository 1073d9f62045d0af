"""Damage is told each time, also where nothing has to be decoded again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.assets import CLIPS
from sage_cli.video import DamageCache, FrameTimeCache, Video
from sage_cli.video.frame import pixel_version
from tests.media import with_broken_packets

TIMES = [float(second) for second in range(24)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return with_broken_packets(CLIPS / "speech.mp4", tmp_path / "damaged.mp4")


def opened(path: Path, cache: Path) -> Video:
    return Video(path, cache=FrameTimeCache(cache / "times"), damage=DamageCache(cache / "damage"))


def test_damage_is_remembered(path: Path, tmp_path: Path) -> None:
    first = opened(path, tmp_path)
    assert not first.notices
    list(first.frames(TIMES, (32, 32)))
    assert [notice.part for notice in opened(path, tmp_path).notices] == ["video"]
    first.audio()
    assert [notice.kind for notice in first.notices] == ["damaged", "damaged"]
    again = opened(path, tmp_path)
    assert again.frames(TIMES, (32, 32)).method == "cached"
    assert again.notices == first.notices
    again.audio()
    assert again.notices == first.notices


def test_damage_is_of_one_content_and_one_decoder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path, tmp_path).audio()
    good = opened(CLIPS / "speech.mp4", tmp_path)
    good.audio()
    assert good.notices == opened(CLIPS / "speech.mp4", tmp_path).notices == ()
    monkeypatch.setattr("av.__version__", "99.0")
    pixel_version.cache_clear()
    try:
        assert opened(path, tmp_path).notices == ()
    finally:
        monkeypatch.undo()
        pixel_version.cache_clear()


def test_a_note_is_of_one_content(path: Path, tmp_path: Path) -> None:
    opened(path, tmp_path).audio()
    (note,) = (tmp_path / "damage").iterdir()
    good = opened(CLIPS / "speech.mp4", tmp_path)
    note.rename(note.with_name(note.name.replace(note.name[:24], good.id)))
    assert opened(CLIPS / "speech.mp4", tmp_path).notices == ()


def test_without_a_folder_damage_is_told_when_it_is_met(path: Path, tmp_path: Path) -> None:
    (tmp_path / "damage").write_text("a file")
    video = opened(path, tmp_path)
    video.audio()
    assert [notice.part for notice in video.notices] == ["audio"]

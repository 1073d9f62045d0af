"""The player that ``sage open`` starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sage_cli.cli.player import command, play
from sage_cli.errors import SageError, VideoError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video and the only players of the machine; there is a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (tmp_path / "video.mp4").touch()
    install(tmp_path, "mpv", ": > started")
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("video", ["gone.mp4", "-"])
def test_a_video_that_is_gone_is_told_before_a_player_starts(folder: Path, video: str) -> None:
    with pytest.raises(VideoError, match=r"no such file: .*moved or deleted, or read from stdin"):
        play(video)
    assert not (folder / "started").exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a display")
@pytest.mark.parametrize("display", [None, ""])
def test_without_a_display_no_player_starts(folder: Path, monkeypatch: pytest.MonkeyPatch, display: str | None) -> None:
    if display is None:
        monkeypatch.delenv("DISPLAY")
    else:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(SageError, match=r"there is no display: DISPLAY and WAYLAND_DISPLAY are not set; open video.mp4 on a machine"):
        play("video.mp4")
    assert not (folder / "started").exists()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    play("video.mp4")
    assert (folder / "started").exists()


def test_a_player_that_ends_at_once_is_told(folder: Path) -> None:
    install(folder, "mpv", "exit 2")
    with pytest.raises(SageError, match=r"mpv ended at once with status 2: run it yourself to see why: \S+mpv --start=1.000 \S+video.mp4"):
        play("video.mp4", 1.0)


def test_players_without_buttons_end_with_the_video(folder: Path) -> None:
    (folder / "mpv").unlink()
    install(folder, "ffplay", ":")
    assert command("video.mp4", 1.0)[1:] == ["-autoexit", "-ss", "1.000", str(folder / "video.mp4")]
    install(folder, "cvlc", ":")
    assert "--play-and-exit" in command("video.mp4", 1.0)

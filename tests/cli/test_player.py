"""The player that ``sage open`` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.cli.player import play
from sage_cli.errors import VideoError


@pytest.mark.parametrize("video", ["gone.mp4", "-"])
def test_a_video_that_is_gone_is_told_before_a_player_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: str) -> None:
    monkeypatch.chdir(tmp_path)
    player = tmp_path / "mpv"
    player.write_text("#!/bin/sh\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VideoError, match=r"no such file: .*moved or deleted, or read from stdin"):
        play(video)

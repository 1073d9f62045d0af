"""Fixtures for every package. Each pytest-xdist worker makes its own media, so processes share nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media import make_video


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of H.264 with B-frames and AAC in MP4: 160x120, 25 fps, every frame carries its number (``media.read_number``)."""
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", seconds=4, bframes=2, audio="tone")


@pytest.fixture(scope="session")
def silent_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same picture for two seconds, without an audio track."""
    return make_video(tmp_path_factory.mktemp("media") / "silent.mp4", seconds=2, bframes=2)

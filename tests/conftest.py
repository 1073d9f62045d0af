"""Fixtures for every package. Each pytest-xdist worker makes its own media, so processes share nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sage_cli.video import Video
from tests.media import make_video

# The tests count batches and compare sums as they are on a CPU. Set before llama.cpp is loaded.
for _gpus in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"):
    os.environ.setdefault(_gpus, "")


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive() -> None:
    """A shell that starts the tests in the background lets them ignore Ctrl-C, and so every program that they start."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGQUIT", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL)):
        if (number := getattr(signal, name, None)) is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of H.264 with B-frames and AAC in MP4: 160x120, 25 fps, every frame carries its number (``media.read_number``)."""
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", seconds=4, bframes=2, audio="tone")


@pytest.fixture(scope="session")
def silent_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same picture for two seconds, without an audio track."""
    return make_video(tmp_path_factory.mktemp("media") / "silent.mp4", seconds=2, bframes=2)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Thirty seconds of numbered frames, five a second, with a tone."""
    return Video(make_video(tmp_path_factory.mktemp("video") / "holiday.mp4", seconds=30, fps=5, size=(64, 48), audio="tone"))

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.video import Video
from tests.media import make_video


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Ten seconds without a sound track."""
    return Video(make_video(Path(tmp_path_factory.mktemp("video")) / "silent.mp4", seconds=10, fps=5, size=(64, 48)))

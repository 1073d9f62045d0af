from __future__ import annotations

import pytest

from sage_cli.video import Video
from tests.media import make_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Thirty seconds of numbered frames, five a second, with a tone."""
    return Video(make_video(tmp_path_factory.mktemp("video") / "holiday.mp4", seconds=30, fps=5, size=(64, 48), audio="tone"))

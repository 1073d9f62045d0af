"""Edit lists and chapters."""

from __future__ import annotations

import pytest

from sage_cli.cli.marks import edl


@pytest.mark.parametrize(
    ("fps", "start", "end"),
    [
        (25.0, "01:00:00:00", "01:00:01:00"),
        (30000 / 1001, "00:59:56:12", "00:59:57:12"),
        (24000 / 1001, "00:59:56:10", "00:59:57:10"),
        (60000 / 1001, "00:59:56:24", "00:59:57:24"),
    ],
)
def test_an_edit_list_counts_frames(fps: float, start: str, end: str) -> None:
    _, _, event, name = edl([(3600.0, 3601.001)], "my\ntalk.mp4", fps).splitlines()
    assert name == "* FROM CLIP NAME: my talk.mp4"
    assert event.split()[4:] == [start, end, "00:00:00:00", "00:00:01:00"]

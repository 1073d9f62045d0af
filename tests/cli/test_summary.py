"""Forms of a summary."""

from __future__ import annotations

import pytest

from sage_cli.cli.summary import _youtube
from sage_cli.session.summary import Chapter, Summary


@pytest.mark.parametrize(
    ("first", "lines"), [(0.0, "0:00 one\n0:12 two\n1:01:40 three"), (8700.5, "2:25:00 one\n2:25:13 two\n3:26:40 three")]
)
def test_chapters_for_youtube_have_the_times_of_the_video_and_are_not_too_short(first: float, lines: str) -> None:
    begins = ((0.0, "one"), (12.7, "two"), (21.0, "too short"), (3700.0, "three"))
    made = Summary("Title", "About.", tuple(Chapter(first + start, first + start + 1, title, "") for start, title in begins))
    assert _youtube(made) == lines

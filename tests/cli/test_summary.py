"""Forms of a summary."""

from __future__ import annotations

from sage_cli.cli.summary import _youtube
from sage_cli.session.summary import Chapter, Summary


def test_chapters_for_youtube_begin_at_zero_and_are_not_too_short() -> None:
    begins = ((3.0, "one"), (12.7, "two"), (21.0, "too short"), (3700.0, "three"))
    made = Summary("Title", "About.", tuple(Chapter(start, start + 1, title, "") for start, title in begins))
    assert _youtube(made) == "0:00 one\n0:12 two\n1:01:40 three"

"""Lines for people, on a terminal."""

from __future__ import annotations

import os

from tests.cli.pseudo import on_terminal

SAY = "from sage_cli.cli import console; console.say('nano, the bundled model, knows coloured shapes')"
ASK = """
from sage_cli.cli.consent import agreed
try:
    agreed("remove it", default=False)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_words_stay_whole_on_a_narrow_terminal() -> None:
    lines = on_terminal(["-c", SAY], os.environ, columns=20).lines
    assert " ".join(" ".join(lines).split()) == "sage: nano, the bundled model, knows coloured shapes"
    assert all(len(line) <= 20 for line in lines)


def test_a_terminal_without_a_size_takes_whole_lines() -> None:
    assert on_terminal(["-c", SAY], os.environ, columns=0).written == "sage: nano, the bundled model, knows coloured shapes\r\n"


def test_wide_characters_take_two_columns() -> None:
    said = "from sage_cli.cli import console; console.say('a 天气很好 我们一起去公园散步 然后在湖边 b')"
    assert on_terminal(["-c", said], os.environ, columns=24).lines == ["sage: a 天气很好", "      我们一起去公园散步", "      然后在湖边 b"]


def test_ctrl_c_at_a_question_ends_its_line() -> None:
    assert on_terminal(["-c", ASK], os.environ, keys=[("N\\] ", "\x03")]).lines == ["sage: remove it? [y/N] ^C", "interrupted"]

"""Decoding of external text."""

from __future__ import annotations

import pytest

from sage_cli.text import decode, from_argument, lines


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Was ist das für ein Café?".encode(), "Was ist das für ein Café?"),
        (b"caf\xe9?", "café?"),
        ("Café?".encode("utf-8-sig"), "Café?"),
        ("Café?".encode("utf-16"), "Café?"),
        ("Café?\r\n".encode("utf-16-le"), "Café?\r\n"),
        ("Café?".encode("utf-16-be"), "Café?"),
        (b"\x81", "\ufffd"),  # nothing, in Windows-1252 too
        (b"", ""),
    ],
)
def test_decode(data: bytes, text: str) -> None:
    assert decode(data) == text


def test_lines_end_where_a_key_was_pressed() -> None:
    assert lines("one\r\n\n two\u2028\x0cstill two \rthree") == ["one", "two\u2028\x0cstill two", "three"]


def test_words_of_the_command_line() -> None:
    assert from_argument("Café?") == "Café?"
    assert from_argument("Caf\udce9?") == "Café?"
    assert from_argument("\ud800") == "\ufffd"

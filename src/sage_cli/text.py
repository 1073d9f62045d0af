"""Decoding of external text: one rule, applied where text enters."""

from __future__ import annotations

import codecs
import os
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(data: bytes) -> str:
    """Bytes as text.

    By the byte order mark if there is one, else UTF-8, else Windows-1252 (as in browsers), where E9 is é. Invalid bytes become U+FFFD.
    UTF-16 without a mark, as some Windows programs write it, is recognized by its zero bytes.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if len(data) > 1 and 0 in data:
        zeros = data[1::2].count(0), data[::2].count(0)
        if max(zeros) > len(data) // 5 > min(zeros):
            return data.decode("utf-16-le" if zeros[0] > zeros[1] else "utf-16-be", "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def is_utf16(data: bytes) -> bool:
    """Whether :func:`decode` takes bytes for UTF-16, whose lines do not end where a byte is ``\\n``."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in data


def lines(text: str) -> list[str]:
    """The lines of a text, without blank ones. ``str.splitlines`` would also end them within a sentence, at U+2028 or a form feed."""
    return [stripped for line in re.split(r"\r\n?|\n", text) if (stripped := line.strip())]


def from_argument(word: str) -> str:
    """Decode a command-line argument. Python decodes it by the locale and keeps undecodable bytes as surrogates."""
    try:
        return decode(os.fsencode(word))
    except UnicodeEncodeError:  # a surrogate that represents no byte
        return word.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_link(text: str) -> bool:
    """Whether text is a web address rather than a file name."""
    return re.match(r"(?i)https?://\S", text) is not None

"""Text from outside, decoded once, where it comes in, by one rule."""

from __future__ import annotations

import codecs
import os
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(data: bytes) -> str:
    """Bytes as text.

    By their byte order mark if they have one; else as UTF-8; else, as browsers do, as Windows-1252, in which a lone E9 is an é. Bytes that
    mean nothing there become U+FFFD. UTF-16 without a mark, as some Windows programs pipe it, is told by its zero bytes.
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


def from_argument(word: str) -> str:
    """A word of the command line as text: Python decodes it by the locale, and keeps bytes that do not fit as surrogates."""
    try:
        return decode(os.fsencode(word))
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return word.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_link(text: str) -> bool:
    """Whether text is an address of the web and no file name."""
    return re.match(r"(?i)https?://\S", text) is not None

"""Word errors between what was said and what was heard."""

from __future__ import annotations

import re


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Edit distance in words, and the number of words said."""
    a, b = ([word.lower() for word in re.findall(r"[A-Za-z]+", text)] for text in (said, heard))
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)

"""Recognizes answers without content: empty, repetitive, copied from the prompt, or saying that nothing was found."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
_WORD: Final = re.compile(r"\w+")
_DENIAL: Final = re.compile(
    r"(\b(not|no|nothing|nowhere|cannot|never|unable|impossible|neither)\b|n['\u2019]t\b)[^.!?]{0,60}"
    r"\b(shown?|see|seen|visible|said|say|spoken|heard?|mention(ed)?|stated?|specified|provided?|given|indicated?|determined?|"
    r"known|clear|information|answer(ed)?)\b|\b(unclear|unknown|unspecified)\b",
    re.IGNORECASE,
)
_FEWEST: Final = 4  # words; shorter answers may occur in a prompt by chance
_TIMES: Final = 4  # occurrences of a phrase in a row
_LENGTH: Final = 120  # characters that they must span: lists and poems repeat themselves for a while
_PHRASE: Final = 160  # characters of the longest phrase that is detected


def is_nonsense(answer: str, instructions: str) -> bool:
    """Whether an answer has no content.

    Args:
        instructions: all prompt texts.
    """
    words = _WORD.findall(answer.casefold())
    if not words or in_circles(answer):
        return True
    return len(words) >= _FEWEST and f" {' '.join(words)} " in f" {' '.join(_WORD.findall(instructions.casefold()))} "


def denies(answer: str) -> bool:
    """Whether an answer says that something was not shown or said. English only: other answers count as found."""
    return _DENIAL.search(answer) is not None


def without_repetition(answer: str) -> str:
    """The answer up to its first repeated sentence, if a sentence occurs three times: small models go on when they have nothing to add."""
    seen: Counter[str] = Counter()
    kept = []
    for sentence in _SENTENCE.findall(answer):
        seen[sentence.strip()] += 1
        kept.append(sentence)
    if max(seen.values(), default=0) < _TIMES - 1:
        return answer
    return "".join(dict.fromkeys(kept[: next(at for at, item in enumerate(kept) if kept.index(item) < at)])).strip()


def in_circles(text: str) -> bool:
    """Whether the text ends in one phrase that is repeated at least four times, over 120 characters or more.

    Examines the last 640 characters, however long the text is.
    """
    tail = text[: -_TIMES * _PHRASE - 1 : -1]
    # Prefix function (Knuth, Morris, Pratt) of the reversed end: a prefix of n characters has the period n - borders[n - 1].
    borders = [0] * len(tail)
    matched = 0
    for at in range(1, len(tail)):
        while matched and tail[at] != tail[matched]:
            matched = borders[matched - 1]
        matched += tail[at] == tail[matched]
        borders[at] = matched
        if at + 1 >= max(_LENGTH, _TIMES * (at + 1 - matched)):
            return True
    return False

"""Recognizes answers without content: empty, scraps of JSON, repetitive, copied from the prompt, or giving up."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from sage_cli.text import in_circles
from sage_cli.tools.reply import is_json

# The reference's scorer looks for this text in place of an answer.
COULD_NOT: Final = "Could not produce an answer"

_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
_WORD: Final = re.compile(r"\w+")
_SYNTAX: Final = re.compile(r'\w*\\*"\s*:|\bnull\b')  # JSON that is spelled with letters: a key, perhaps the end of one
_TRUTH: Final = re.compile(r"\b(?:true|false)\b")
_FORM: Final = re.compile(r"(?:^[^\n]*\n\s*)?<json>(.*?)</json>", re.DOTALL | re.MULTILINE)  # with the line that introduces it
_FIELD: Final = re.compile(r'"([^"]*)"')
_FEWEST: Final = 5  # words; shorter answers may be equal to a sentence of a prompt by chance, and repeat themselves as scores do
_LONGEST_CYCLE: Final = 100  # sentences
_CYCLES: Final = 3  # times that sentences are written before the answer is cut to the first time


def gives_up(answer: str) -> bool:
    """Whether an answer is the text that stands for none in the reference, which trained models have learned to write."""
    return answer.lstrip().casefold().startswith(COULD_NOT.casefold())


def is_nonsense(answer: str, instructions: str) -> bool:
    """Whether an answer has no content.

    Args:
        instructions: all prompt texts. An answer that is a sentence of them, or what a form to fill in says about a field, is a copy.
            What stands in an example may be the right answer.
    """
    if not _WORD.search(_SYNTAX.sub(" ", answer)) or in_circles(answer):
        return True
    words = _WORD.findall(answer.casefold())
    return len(words) >= _FEWEST and " ".join(words) in _told(instructions)


def has_words(text: str) -> bool:
    """Whether a text holds more than numbers and scraps of JSON. These can be an answer, but no summary."""
    return any(map(str.isalpha, _TRUTH.sub(" ", _SYNTAX.sub(" ", text))))


@lru_cache(maxsize=8)
def _told(instructions: str) -> frozenset[str]:
    """The sentences of instructions, and the fields of the forms in them, as words."""
    forms = [form for form in _FORM.findall(instructions) if not is_json(form)]  # a form that is valid JSON is an example
    sentences = _SENTENCE.findall(_FORM.sub("\n", instructions))
    texts = [*sentences, *(field for form in forms for field in _FIELD.findall(form))]
    return frozenset(" ".join(_WORD.findall(text.casefold())) for text in texts)


def without_repetition(answer: str) -> str:
    """The answer without a tail that repeats itself: small models go on when they have nothing to add.

    A tail is the same sentences three times or more, up to the end of the answer (the last of them may be cut off, or followed by an
    unfinished one). Numbered lists stay as they are, and lists of short items, such as scores, unless they run in circles.
    """
    pieces = _SENTENCE.findall(answer)
    sentences = [piece.strip() for piece in pieces]
    ends = {len(sentences)}
    if sentences and sentences[-1][-1:] not in (".", "!", "?"):
        ends.add(len(sentences) - 1)
    for end in ends:
        for period in range(1, min(end // _CYCLES, _LONGEST_CYCLE) + 1):
            start = end
            while start > period and sentences[start - 1] == sentences[start - 1 - period]:
                start -= 1
            # Sentences from `start` on repeat those one period before.
            if end - start < (_CYCLES - 1) * period:
                continue
            cycle = " ".join(sentences[start - period : start])
            few = len(_WORD.findall(cycle)) < _FEWEST * period
            if not few or in_circles(answer):
                return "".join(pieces[:start]).strip()
    return answer


def without_loops(value: Any) -> Any:
    """A JSON value whose strings lose a tail that repeats itself.

    Raises:
        ValueError: one of them holds nothing else.
    """
    match value:
        case str():
            if in_circles(cut := without_repetition(value)):
                raise ValueError("it only repeats itself")
            return cut
        case list():
            return [without_loops(part) for part in value]
        case dict():
            return {name: without_loops(part) for name, part in value.items()}
    return value

"""Rank passages of a transcript by how much they have to do with a question: BM25, by SQLite's FTS5."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Final

from sage_cli.text import UNSPACED, without_surrogates

_WORD: Final = re.compile(r"\w+")
_WORTH: Final = 0.4  # of the best passage's score; `benchmarks.speech_questions` finds as many answers in these as in all
_STEM: Final = 3  # letters that a word keeps at least
_ENDING: Final = 2  # letters that inflection may change
_MOST: Final = 200  # terms that are looked for; the time grows with them


def known(passages: Sequence[str], question: str) -> float:
    """The share of a question's words that some passage has, 0 to 1: of a question in the language of the passages it is most."""
    wanted = set(_words(question))
    there = {word for passage in passages for word in _words(passage)}
    return len(wanted & there) / len(wanted) if wanted else 1.0


def ranked(passages: Sequence[str], question: str) -> list[int]:
    """The numbers of the passages that share most words with a question, best first.

    Words match up to their last letters, as inflection changes them: there is no stemmer for every language. In scripts without spaces
    between words, pairs of letters match.
    """
    terms = list(dict.fromkeys(_terms(question)))[:_MOST]
    if not terms:
        return []
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE VIRTUAL TABLE passages USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")
        base.executemany("INSERT INTO passages (rowid, text) VALUES (?, ?)", enumerate(map(_spaced, passages)))
        search = "SELECT rowid, -rank FROM passages WHERE passages MATCH ? ORDER BY rank, rowid"
        found = base.execute(search, (" OR ".join(terms),)).fetchall()
    return [number for number, score in found if score >= _WORTH * found[0][1]]


def _spaced(text: str) -> str:
    """The text with each letter of a script without spaces as a word of its own."""
    return UNSPACED.sub(r" \g<0> ", without_surrogates(text))


def _words(text: str) -> Iterator[str]:
    """The words of a text; in scripts without spaces between words, pairs of letters."""
    for word in _WORD.findall(text.lower()):
        letters = UNSPACED.findall(word)
        yield from (f"{one} {other}" for one, other in pairwise(letters))
        if len(letters) == 1:
            yield from letters
        yield from UNSPACED.sub(" ", word).split()


def _terms(question: str) -> list[str]:
    """What to look for, in FTS5's syntax."""
    terms = []
    for word in _words(question):
        terms.append(f'"{word}"')
        if len(word) >= _STEM and not UNSPACED.search(word):
            terms.append(f'"{word[: max(_STEM, len(word) - _ENDING)]}" *')
    return terms

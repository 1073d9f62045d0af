"""Text to token ids and back. Encoding works as in whisper.cpp: pywhispercpp's binding has no working call for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# GPT-2's split into words, in its ASCII form (whisper.cpp's ``whisper_tokenize``).
_WORDS = re.compile(rb"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
_LONGEST_TEXT = 4000  # bytes; a prompt holds some 200 tokens, the last of the text


class Tokenizer:
    """Encodes text by the longest token that fits, word by word.

    Args:
        vocabulary: the bytes of every text token, by id.
    """

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        self._vocabulary = vocabulary
        self._ids: dict[bytes, int] = {}
        for number, token in enumerate(vocabulary):
            self._ids.setdefault(token, number)
        self._longest = max((len(token) for token in vocabulary), default=1)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; of a very long one, those of its end. Bytes that no token covers are left out."""
        data = text.encode(errors="ignore")[-_LONGEST_TEXT:]
        return [number for word in _WORDS.findall(data) for number in self._encode_word(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Timestamps and other control tokens have none."""
        return b"".join(self._vocabulary[id] for id in ids if id < len(self._vocabulary)).decode(errors="replace")

    def _encode_word(self, word: bytes) -> list[int]:
        found: list[int] = []
        at = 0
        while at < len(word):
            for end in range(min(len(word), at + self._longest), at, -1):
                if (number := self._ids.get(word[at:end])) is not None:
                    found.append(number)
                    at = end
                    break
            else:
                at += 1
        return found

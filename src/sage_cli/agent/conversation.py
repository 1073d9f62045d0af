"""Puts the questions and answers of a conversation before the next question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

Turn: TypeAlias = tuple[str, str]  # a question and its answer

_SHARE: Final = 8  # earlier turns take up to an eighth of a prompt
_BYTES_PER_TOKEN: Final = 3  # a cautious estimate


def newest(earlier: Sequence[Turn], room: int) -> list[Turn]:
    """The newest of the earlier turns, as many as an eighth of the prompt's room holds; the end of the last one may be missing.

    Once they get too many, half of their room is made free at a time. So most prompts of a long conversation begin as the one before, and
    models do not read that again.

    Args:
        earlier: in order.
        room: tokens of a prompt.
    """
    most = room // _SHARE * _BYTES_PER_TOKEN
    kept: list[Turn] = []
    for turn in earlier:
        kept.append(turn)
        if _size(kept) > most:
            while len(kept) > 1 and _size(kept) > most // 2:
                kept.pop(0)
    if _size(kept) > most:
        question, answer = kept[0]
        question = _cut(question, most // 2)
        kept = [(question, _cut(answer, most - _size([(question, "")])))]
    return kept


def in_conversation(question: str, earlier: Sequence[Turn]) -> str:
    """The question after earlier questions and their answers."""
    turns = "".join(map(_told, earlier))
    return f"Earlier in this conversation about the video:\n{turns}\nThe question now: {question}" if turns else question


def _told(turn: Turn) -> str:
    return f"Question: {turn[0]}\nAnswer: {turn[1]}\n"


def _size(turns: Sequence[Turn]) -> int:
    return sum(len(_told(turn).encode(errors="replace")) for turn in turns)


def _cut(text: str, most: int) -> str:
    """A text of so many bytes at most."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: max(0, most - 4)].decode(errors="ignore") + " ..."

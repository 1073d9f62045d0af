"""Puts the questions and answers of a conversation before the next question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_SHARE: Final = 8  # earlier turns take up to an eighth of a prompt
_BYTES_PER_TOKEN: Final = 3  # a cautious estimate


def in_conversation(question: str, earlier: Sequence[tuple[str, str]], room: int) -> str:
    """The question after as many of the newest earlier questions and answers as an eighth of the prompt's room holds.

    Args:
        earlier: questions and their answers, in order.
        room: tokens of a prompt.
    """
    left = room // _SHARE * _BYTES_PER_TOKEN
    turns: list[str] = []
    for asked, answer in reversed(earlier):
        turn = f"Question: {asked}\nAnswer: {answer}\n"
        left -= len(turn.encode(errors="replace"))
        if left < 0:
            break
        turns.insert(0, turn)
    if not turns:
        return question
    return f"Earlier in this conversation about the video:\n{''.join(turns)}\nThe question now: {question}"

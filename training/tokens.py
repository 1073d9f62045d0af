"""The nano model's tokenizer, and turns written down as tokens: Qwen's template, character for character what ``sage_cli.model.qwen``
renders."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.language import Packed, pack
from training.model import CONTROL, IMAGE_PAD, SLICE_TOKENS
from training.questions import KINDS, some_question
from training.trajectories import CONTENT, FORM, Trajectory, Turn, slice_times, some_name

VOCABULARY: Final = 1024  # rows of the embedding; the tokenizer fills them or fewer

# Qwen2's pre-tokenizer, as the GGUF names it: llama.cpp splits by its own copy of this expression.
_QWEN2: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(seed: int, questions: int = 3000) -> Tokenizer:
    """A byte-level BPE tokenizer made from the turns of some questions."""
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_QWEN2), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()

    def texts() -> Iterator[str]:
        yield "system\nuser\nassistant\n"
        for _ in range(questions):
            world, question = some_question(rng, rng.choice(KINDS))
            for turn in Trajectory(world, question, some_name(rng)).turns():
                yield "".join(f"<{time:.1f} seconds>" for time in slice_times(turn.times)) + turn.text + "\n" + turn.plain_reply

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(CONTROL), initial_alphabet=alphabet, min_frequency=20, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens(list(CONTROL))
    return tokenizer


class Encoder:
    """Turns as tokens.

    Args:
        path: of ``tokenizer.json``.
        form_weight: loss weight of what the schema would force anyway.
    """

    def __init__(self, path: Path, form_weight: float = 0.1) -> None:
        self.tokenizer = Tokenizer.from_buffer(path.read_bytes())
        self.control = {text: self.tokenizer.token_to_id(text) for text in CONTROL}
        self.plain_tokens = min(self.control.values())  # ids below are text
        self.form_weight = form_weight
        # The same few system prompts, times and drills come again and again.
        self._plain = lru_cache(maxsize=8192)(lambda text: tuple(self.tokenizer.encode(text, add_special_tokens=False).ids))

    def plain(self, text: str) -> list[int]:
        """Text without control tokens."""
        return list(self._plain(text))

    def word(self, text: str) -> int:
        """The token of a text that is one.

        Raises:
            ValueError: it is several.
        """
        (token,) = self.plain(text)
        return token

    def prompt(self, turn: Turn) -> tuple[list[int], list[int]]:
        """The prompt, opened for the reply, cut in two: up to the last frame, and the rest. Pieces between control tokens are tokenized
        each by itself."""
        start, end = self.control["<|im_start|>"], self.control["<|im_end|>"]
        ids: list[int] = []
        if turn.system is not None:
            ids += [start, *self.plain(f"system\n{turn.system}"), end, *self.plain("\n")]
        ids.append(start)
        text = "user\n"
        if turn.times:
            ids += self.frames(slice_times(turn.times), text)
            text = ""
        return ids, [*self.plain(text + turn.text), end, *self.plain("\n"), start, *self.plain("assistant\n")]

    def frames(self, times: Sequence[float], before: str = "") -> list[int]:
        """Slices with their times in seconds; ``before`` stands before the first, in one piece of text with its time."""
        ids: list[int] = []
        for time in times:
            ids += self.plain(f"{before}<{time:.1f} seconds>")
            ids += [self.control["<|vision_start|>"], *[self.control[IMAGE_PAD]] * SLICE_TOKENS, self.control["<|vision_end|>"]]
            before = ""
        return ids

    def reply(self, turn: Turn) -> tuple[list[int], list[float]]:
        """The reply's tokens and their loss weights: content counts fully, form a little."""
        plain: list[str] = []
        is_content: list[bool] = []
        inside = False
        for character in turn.reply:
            if character in (CONTENT, FORM):
                inside = character == CONTENT
            else:
                plain.append(character)
                is_content.append(inside)
        encoding = self.tokenizer.encode("".join(plain), add_special_tokens=False)
        weights = [1.0 if any(is_content[a:b]) else self.form_weight for a, b in encoding.offsets]
        end_weight = 1.0 if turn.role == "analyze" else self.form_weight
        return [*encoding.ids, self.control["<|im_end|>"]], [*weights, end_weight]

    def pack(self, turns: Sequence[Turn], slices: Sequence[int], shorten: Callable[[], bool] = lambda: False) -> Packed:
        """Turns with the same frames as one sample.

        Args:
            slices: rows of the table of slice embeddings that the frames are.
            shorten: decides for each reply whether to leave out what follows its last content token: the schema forces it, and it is
                learned at once.
        """
        stem: list[int] = []
        branches = []
        for turn in turns:
            stem, rest = self.prompt(turn)
            ids, weights = self.reply(turn)
            if shorten():
                end = max(i for i, weight in enumerate(weights) if weight == 1) + 1
                ids, weights = ids[:end], weights[:end]
            branches.append((rest + ids, [0.0] * len(rest) + weights))
        return pack(stem, branches, slices, self.control[IMAGE_PAD])

"""Drills: short samples that ask for one ability each. Replies rest on these, and learn them late or never by themselves.

Copying is what induction heads do, lookup and ordering read a list of things as a first look gives it, pointing finds among slices what a
text names.
"""

from __future__ import annotations

import random

from training.bank import SliceIndex
from training.language import Packed, pack
from training.model import IMAGE_PAD
from training.tokens import Encoder
from training.world import SHAPES, Thing, some_things

Piece = tuple[str | list[int], float]  # text or tokens, and the loss weight of each


class Drills:
    """Makes drills.

    Args:
        index: which slices show what.
    """

    def __init__(self, encoder: Encoder, index: SliceIndex, rng: random.Random) -> None:
        self.encoder, self.index, self.rng = encoder, index, rng

    def copying(self) -> Packed:
        """A string of random tokens that comes again after a while: nothing but copying helps. Names, times and paths are copied in every
        reply, and the attention pattern for it forms in hundreds of short drills rather than thousands of long prompts.
        """
        some = self.rng.choices(range(self.encoder.plain_tokens), k=self.rng.randint(4, 16))
        before, between = self._some_tokens(20), self._some_tokens(20)
        return self._sample([(before, 0), (some, 0), (between, 0), (some[:1], 0), (some[1:], 1)])

    def lookup(self) -> Packed:
        """A list of things, and everything that can be told from it: what color a shape is, and which shape has a color."""
        rng = self.rng
        things, listed = self._listed(rng.randint(1, 5))
        facts: list[list[Piece]] = []
        for colour, shape in things:
            facts += [[(" The", 0), (shape, 0), (" is", 0), (colour, 1), (".", 0)]] * 2
            facts.append([(" The", 0), (colour, 0), (" shape is a", 0), (shape, 1), (".", 0)])
        told = [piece for fact in rng.sample(facts, min(len(facts), 6)) for piece in fact]
        return self._sample([(self._some_tokens(12), 0), (listed, 0), *told])

    def ordering(self) -> Packed:
        """What comes before or after something in a list that comes after the question, as in a first look."""
        rng = self.rng
        things, listed = self._listed(rng.randint(2, 5))
        index = rng.randrange(len(things) - 1)
        form, asked, answer = rng.choice([("after", things[index], things[index + 1]), ("before", things[index + 1], things[index])])
        question: list[Piece] = [(f"Which shape comes {form} the", 0), (asked[1], 0), ("?\nVideo", 0)]
        found: list[Piece] = [(listed, 0), (f' "what comes {form}', 0), (asked[1], 1), (" is", 1), (answer[0], 1), (answer[1], 1)]
        return self._sample([(self._some_tokens(6), 0), *question, (self._some_tokens(12), 0), *found])

    def pointing(self) -> Packed:
        """Slices that each show another thing, and of every thing its color, its shape, or the seconds before it: finding what a
        text names among the slices, with nothing around it. All that is asked about videos rests on this.
        """
        return self.pointed()[0]

    def pointed(self) -> tuple[Packed, list[Thing], list[int]]:
        """The same, with the things and the seconds."""
        rng = self.rng
        things = some_things(rng, rng.randint(2, len(SHAPES)))
        times = sorted(rng.sample(range(10, 60), len(things)))
        pieces: list[Piece] = []
        for thing, second in rng.sample(list(zip(things, times, strict=True)), len(things)):
            asked, answer = rng.choice(
                [
                    (f" {thing.shape} is", f" {thing.colour}"),
                    (f" {thing.colour} shape is a", f" {thing.shape}"),
                    (f" {thing.shape} at", f"{second:02}"),
                    (f' "{thing}", "', f"{second:02}"),
                ]
            )
            pieces += [(asked, 0), (answer, 1)]
        stem = self.encoder.frames([second + 0.5 for second in times])
        slices = self.index.rows(rng, [(thing, thing) for thing in things])
        return pack(stem, [self._laid_out(pieces)], slices, self.encoder.control[IMAGE_PAD]), things, times

    def _listed(self, count: int) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
        """Colors and shapes, and a list of them as a first look gives it. Half of the time they are random tokens."""
        rng, plain = self.rng, self.encoder.plain
        if rng.random() < 0.5:
            things = [(plain(f" {thing.colour}"), plain(f" {thing.shape}")) for thing in some_things(rng, count)]
        else:
            tokens = rng.sample(range(self.encoder.plain_tokens), 2 * count)
            things = [([tokens[2 * i]], [tokens[2 * i + 1]]) for i in range(count)]
        listed: list[int] = []
        for number, (colour, shape) in enumerate(things):
            listed += plain("," if number else ' "Shapes:') + colour + shape
        return things, [*listed, *plain('.",')]

    def _some_tokens(self, most: int) -> list[int]:
        return [self.rng.randrange(self.encoder.plain_tokens) for _ in range(self.rng.randint(0, most))]

    def _laid_out(self, pieces: list[Piece]) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        for piece, weight in pieces:
            tokens = self.encoder.plain(piece) if isinstance(piece, str) else piece
            ids += tokens
            weights += [weight] * len(tokens)
        return ids, weights

    def _sample(self, pieces: list[Piece]) -> Packed:
        control = self.encoder.control
        return pack([], [self._laid_out([([control["<|im_start|>"]], 0), *pieces])], [], control[IMAGE_PAD])

"""SFT samples: trajectories of a teacher, with its faults, as packed turns; and batches of them for a step.

A :class:`Stream` depends on nothing but the configuration, its seed and its number: other processes can make batches, in the same order on
any machine.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar, cast

from sage_cli.video.sampling import uniform_times
from training.bank import SliceIndex
from training.config import SFT, Teacher
from training.drills import Drills
from training.language import Batch, Packed, collate
from training.model import IMAGE_PAD
from training.questions import GROUND_WINDOW, MAKERS, SHORT, Kind, Question, about_scenes, some_duration, some_question, some_world
from training.tokens import Encoder
from training.trajectories import FRAMES, Faults, Trajectory, Turn, ground_turn, some_name, visible
from training.world import SHAPES, Scene, World, some_things

Tags = list[str]
T = TypeVar("T")
_SHORT, _LONG = 60.0, 1200.0  # seconds; between them the teacher's faults grow


def draw(rng: random.Random, weights: Mapping[str, float]) -> Kind:
    """A kind of question."""
    return cast(Kind, rng.choices(list(weights), list(weights.values()))[0])


def draw_faults(rng: random.Random, teacher: Teacher, duration: float) -> Faults:
    """What the teacher does wrong in a trajectory about a video of so many seconds."""
    grown = min(1.0, max(0.0, math.log(duration / _SHORT) / math.log(_LONG / _SHORT)))
    return Faults(**{name: rng.random() < low + (high - low) * grown for name, (low, high) in teacher})


class Samples:
    """An endless supply of packed turns and the tags they are counted under."""

    def __init__(self, encoder: Encoder, settings: SFT, seed: str) -> None:
        self.encoder, self.settings = encoder, settings
        self.rng = random.Random(seed)
        self.index = SliceIndex(settings.alike, settings.mixed)
        self.drills = Drills(encoder, self.index, self.rng)

    def _shorten(self) -> bool:
        return self.rng.random() < self.settings.shorten

    def _pack(self, world: World, turns: Sequence[Turn]) -> Packed:
        return self.encoder.pack(turns, self.index.show(self.rng, world, turns[0].times), self._shorten)

    def _turns(self, world: World, question: Question, name: str) -> Iterator[Turn]:
        return Trajectory(world, question, name, draw_faults(self.rng, self.settings.teacher, world.duration)).turns()

    def look(self) -> tuple[Packed, Tags]:
        """First looks at one video with several questions: some that its scenes answer, and some that take tools."""
        rng, settings = self.rng, self.settings
        world, question = some_question(rng, draw(rng, settings.first))
        asked = [question, *(about_scenes(rng, world) for _ in range(settings.asked_scenes))]
        others: list[Kind] = ["speech", "moment", "ground", "none", "none"]
        if world.duration >= MAKERS["cue"][1]:
            others += ["cue", "cue"]
        for kind in rng.sample(others, settings.asked_other):
            # What another world of the same duration is asked takes the same first call here; only what frames answer differs.
            asked.append(some_question(rng, kind, max(world.duration, 12.0))[1])
        asked = [question for question in asked if question.window is None or question.window[1] <= world.duration]
        seen = {thing.shape for thing in visible(world, uniform_times(world.duration, FRAMES))}
        asked = [
            question
            for question in asked
            if question.kind not in ("none", "cue") or question.form != "colour" or question.subject.split()[-1] not in seen
        ]
        name = some_name(rng)
        turns = [next(self._turns(world, question, name)) for question in asked]
        return self._pack(world, turns), [f"look/{question.kind}" for question in asked]

    def later(self) -> list[tuple[Packed, Tags]]:
        """The calls after the first look, for one question; there may be none."""
        kind = draw(self.rng, self.settings.kinds)
        world, question = some_question(self.rng, kind)
        turns = list(self._turns(world, question, some_name(self.rng)))[1:]
        return [(self._pack(world, [turn]), [f"{turn.role}/{kind}"]) for turn in turns]

    def ground(self) -> Packed:
        """One grounding window that shows several things, each asked for, and one that it does not show. Which slices show a thing, and
        what time stands before them, is the hardest that is asked of the model; flashes alone would show it one case a video.
        """
        rng = self.rng
        world, other = some_world(rng, some_duration(rng, low=SHORT + 5), scenes=rng.choice((1, 2)), facts=0)
        start = 10 * rng.randint(0, int(world.duration - GROUND_WINDOW - 1) // 10)
        taken = [scene.thing for scene in world.scenes]
        pool = [thing for thing in some_things(rng, len(SHAPES)) if all(thing.shape != o.shape and thing.colour != o.colour for o in taken)]
        edges = sorted(rng.sample(range(2 * GROUND_WINDOW + 1), min(len(pool), rng.randint(1, 3)) + 1))
        flashes = [
            Scene(start + a / 2, start + b / 2, thing, rng.getrandbits(32))
            for (a, b), thing in zip(pairwise(edges), pool, strict=False)
            if b - a > 2 and rng.random() < 0.9
        ]
        world = replace(world, flashes=tuple(flashes))
        seen = [world.shown(time).thing for time in uniform_times(world.duration, FRAMES, start=start, end=start + GROUND_WINDOW)]
        asked = [*rng.sample(sorted(set(map(str, seen))), min(3, len(set(seen)))), str(other)]
        turns = [ground_turn(world, event, float(start), float(start + GROUND_WINDOW)) for event in asked]
        return self._pack(world, turns)


# ---- steps ---------------------------------------------------------------------------------------------------------


class _Pool:
    """Samples of one sort, each used several times before it goes."""

    def __init__(self, rng: random.Random, reuse: int) -> None:
        self._rng, self._reuse = rng, reuse
        self._kept: deque[Packed] = deque(maxlen=1024)

    def take(self, count: int, make: Iterator[Packed]) -> list[Packed]:
        """So many samples: a share of them new, the rest from those made before."""
        fresh = count if len(self._kept) < self._reuse * count else -(-count // self._reuse)
        new = [next(make) for _ in range(fresh)]
        old = [self._rng.choice(self._kept) for _ in range(count - fresh)]
        self._kept.extend(new)
        return new + old


class Stream:
    """Batches of one of the sample streams of a run.

    Args:
        number: of the stream.
        similar: see :func:`training.language.collate`.
    """

    def __init__(self, tokenizer: Path, settings: SFT, seed: str, number: int, similar: float) -> None:
        self._samples = Samples(Encoder(tokenizer, settings.form_weight), settings, f"{seed}/{number}")
        self._settings, self._similar = settings, similar

    def batches(self, drilled: int) -> Iterator[Batch]:
        """Batches of drills alone, so many, and then of everything."""
        yield from islice(self.drilled(), drilled)
        yield from self.mixed()

    def drilled(self) -> Iterator[Batch]:
        """Drills alone. They come first: mixed in from the start, they are drowned by the replies, whose form is easier to learn."""
        drills, counts = self._samples.drills, self._settings.drills
        kinds = ((drills.copying, counts.copying), (drills.lookup, counts.lookup), (drills.ordering, counts.ordering))
        while True:
            yield self._batch([[make() for _ in range(count)] for make, count in (*kinds, (drills.pointing, counts.pointing))])

    def mixed(self) -> Iterator[Batch]:
        """First looks, later calls, grounding, and some drills, so that what they taught is not worn away."""
        samples, settings, counts = self._samples, self._settings, self._settings.drills
        drills, rng = samples.drills, samples.rng
        looks, later, grounds = (_Pool(rng, settings.reuse) for _ in range(3))
        more_looks = (samples.look()[0] for _ in iter(int, 1))
        more_later = (packed for _ in iter(int, 1) for packed, _ in samples.later())
        more_grounds = (samples.ground() for _ in iter(int, 1))
        while True:
            drilled = [drills.copying() for _ in range(counts.later_copying)] + [drills.lookup() for _ in range(counts.later_lookup)]
            drilled += [drills.ordering() for _ in range(counts.later_ordering)] + [drills.pointing() for _ in range(counts.later_pointing)]
            yield self._batch(
                [
                    looks.take(settings.looks, more_looks),
                    later.take(settings.later, more_later),
                    grounds.take(settings.grounds, more_grounds),
                    drilled,
                ]
            )

    def _batch(self, parts: Sequence[Sequence[Packed]]) -> Batch:
        return collate(parts, self._samples.encoder.control[IMAGE_PAD], similar=self._similar)

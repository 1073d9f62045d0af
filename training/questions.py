"""Questions about synthetic worlds, with their answers, in SAGE-Bench's fields.

Six kinds, by what it takes to answer them:

======== ============================================================================== =====================================
kind     example                                                                         needs
======== ============================================================================== =====================================
visual   What color is the star?                                                         the sampled frames
speech   Which number is spoken?                                                         the transcript
moment   What appears between 07:40 and 07:46?                                           frames of that stretch, then analysis
cue      What color is the star? (the frames show none; a speaker announces it)          transcript, frames, analysis
ground   When does the red star appear between 07:30 and 07:45?                          grounding
none     What color is the star? (there is none) / Which number is spoken? (none is)     the transcript, or a look at the window
======== ============================================================================== =====================================

``cue`` and ``visual`` questions read the same: whether one look is enough depends on what the frames show. In videos too long for one
transcript call, questions name the stretch of video they are about.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from training import speech
from training.world import Line, Scene, Thing, World, background, some_scenes, some_things

Kind: TypeAlias = Literal["visual", "speech", "moment", "cue", "ground", "none"]
KINDS: Final[tuple[Kind, ...]] = ("visual", "speech", "moment", "cue", "ground", "none")
BUCKETS: Final = ((5, 60), (60, 180), (180, 300), (300, 600), (600, 1200), (1200, 2400), (2400, 3599))
TRANSCRIBABLE: Final = 590.0  # seconds; what one transcript call reaches, with some room
GROUND_WINDOW: Final = 15
SHORT: Final = 20.0  # seconds; a video this short is one grounding window
NUMBERS: Final = ("No", "One", "Two", "Three", "Four", "Five")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a world.

    Attributes:
        text, answer: what is asked, and the one right reply.
        kind: what it takes; ``form`` is the template, e.g. ``"colour"``.
        evidence: the stretch of video the answer rests on, in seconds.
        subject: what the tools are asked about: a thing, or a kind of fact.
        window: the stretch that the question names, in whole seconds.
        truth: for ``ground``, when the thing really is there.
    """

    text: str
    answer: str
    kind: Kind
    form: str
    evidence: tuple[float, float]
    subject: str = ""
    window: tuple[int, int] | None = None

    def record(self, world: World, name: str) -> dict[str, object]:
        """The question in SAGE-Bench's fields."""
        modality = {"speech": "verbal", "cue": "both"}.get(self.kind, "visual")
        difficulty = {"visual": "easy", "speech": "medium", "none": "medium"}.get(self.kind, "hard")
        return {
            "question": self.text,
            "full_answer": self.answer,
            "answer": self.answer,
            "ques_type": "open_ended",
            "difficulty": difficulty,
            "modality": modality,
            "duration": world.duration,
            "video_path": name,
            "start_timestamp": self.evidence[0],
            "end_timestamp": self.evidence[1],
            "kind": self.kind,
            "form": self.form,
        }


def clock(seconds: float) -> str:
    """``MM:SS``. Synthetic videos stay below an hour."""
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


def seconds(clock: str) -> int:
    """Of ``MM:SS``."""
    return 60 * int(clock[:2]) + int(clock[3:])


def hours(seconds: float) -> str:
    """``HH:MM:SS``."""
    return f"00:{clock(seconds)}"


def article(thing: Thing) -> str:
    return f"{'an' if thing.colour == 'orange' else 'a'} {thing}"


def sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


# ---- worlds --------------------------------------------------------------------------------------------------------


def some_duration(rng: random.Random, low: float = 5, high: float = 3599) -> float:
    """A duration from a bucket of SAGE-Bench, every bucket alike, in half seconds (so that file and world agree)."""
    a, b = rng.choice([(max(a, low), min(b, high)) for a, b in BUCKETS if min(b, high) > max(a, low)])
    return round(rng.uniform(a, b) * 2) / 2


def _window_of(rng: random.Random, world: World, inside: float) -> tuple[int, int] | None:
    """In a video too long for one transcript call, the named stretch of some minutes around a time; else ``None``."""
    if world.duration <= TRANSCRIBABLE:
        return None
    length = 60 * rng.randint(1, 5)
    low, high = max(0, inside - length + 10) / 10, min(inside - 5, world.duration - length) / 10
    start = 10 * rng.randint(int(max(0, min(low + 1, high))), int(max(0, high)))
    return start, min(start + length, int(world.duration))


def _between(window: tuple[int, int] | None) -> str:
    return f" between {clock(window[0])} and {clock(window[1])}" if window else ""


def some_world(
    rng: random.Random,
    duration: float,
    *,
    scenes: int | None = None,
    flash: tuple[float, float] | None = None,
    cue: bool = False,
    facts: int | None = None,
) -> tuple[World, Thing]:
    """A world, and a thing that no scene of it shows.

    Args:
        flash: when the other thing flashes up; ``None`` for never.
        cue: a speaker announces the flash while it is there.
        facts: how many facts are told; ``None`` for some.
    """
    count = scenes or rng.choice((1, 2, 3, 4) if duration >= 10 else (1, 2, 3))
    *things, other = some_things(rng, count + 1)
    flashes = (Scene(*flash, other, rng.getrandbits(32)),) if flash else ()
    lines: list[Line] = []
    if flash and cue:
        lines.append(speech.announce(rng, other, (flash[0] + flash[1]) / 2))
    wanted = rng.choice((0, 1, 1, 2, 3)) if facts is None else facts
    for kind in rng.sample(list(speech.FACTS), wanted):
        line = speech.tell(rng, kind, duration, lines)
        if line is not None:
            lines.append(line)
    if lines and rng.random() < 0.5:
        filler = speech.tell(rng, "filler", duration, lines)
        lines += [filler] if filler else []
    return World(
        duration, some_scenes(rng, duration, things), flashes, tuple(sorted(lines, key=lambda line: line.start)), background(rng)
    ), other


def _flash(rng: random.Random, duration: float, low: float = 5, high: float = 9) -> tuple[float, float]:
    """A stretch of whole seconds, long enough to look at and short enough to be missed in a long video."""
    length = rng.randint(int(low), int(high))
    start = rng.randint(3, int(duration) - length - 3)
    return start, start + length


# ---- kinds ---------------------------------------------------------------------------------------------------------


def about_scenes(rng: random.Random, world: World) -> Question:
    """A question that the scenes of a world answer."""
    scenes, duration = world.scenes, world.duration
    form = rng.choice(["colour", "colour", "shape", "count", "first", "last"] + (["after", "before"] if len(scenes) > 1 else []))
    index = rng.randrange(form == "before", len(scenes) - (form == "after"))
    thing = scenes[index].thing
    evidence = (scenes[index].start, scenes[index].end)
    window = None
    match form:
        case "colour":
            window = _window_of(rng, world, rng.uniform(10, duration - 10)) if duration > TRANSCRIBABLE and rng.random() < 0.5 else None
            text, answer = f"What color is the {thing.shape}{_between(window)}?", f"The {thing.shape} is {thing.colour}."
        case "shape":
            text, answer = f"Which shape is {thing.colour}?", f"The {thing.colour} shape is a {thing.shape}."
        case "count":
            evidence = (0.0, duration)
            text, answer = "How many shapes appear?", f"{NUMBERS[len(scenes)]} {'shape appears' if len(scenes) == 1 else 'shapes appear'}."
        case "first" | "last":
            scene = scenes[0 if form == "first" else -1]
            evidence = (scene.start, scene.end)
            text, answer = f"Which shape appears {form}?", sentence(f"{article(scene.thing)} appears {form}")
        case _:
            other = scenes[index + 1 if form == "after" else index - 1]
            evidence = (other.start, other.end)
            text, answer = (
                f"Which shape comes {form} the {thing.shape}?",
                sentence(f"{article(other.thing)} comes {form} the {thing.shape}"),
            )
    return Question(text, answer, "visual", form, evidence, str(thing), window)


def visual(rng: random.Random, duration: float) -> tuple[World, Question]:
    """What the sampled frames show."""
    world, _ = some_world(rng, duration)
    return world, about_scenes(rng, world)


def spoken(rng: random.Random, duration: float) -> tuple[World, Question]:
    """What only the sound tells."""
    world, _ = some_world(rng, duration, facts=rng.choice((1, 2, 3)))
    told = [line for line in world.lines if line.kind in speech.FACTS]
    line = rng.choice(told)
    fact = speech.FACTS[line.kind]
    window = _window_of(rng, world, line.start)
    return world, Question(
        f"{fact.question}{_between(window)}?",
        fact.answer.format(line.value),
        "speech",
        line.kind,
        (line.start, line.end),
        line.kind,
        window,
    )


def moment(rng: random.Random, duration: float) -> tuple[World, Question]:
    """What is there in a few seconds that the question names: mostly a flash, at times the scene itself."""
    if duration >= 60 and rng.random() < 0.8:
        flash = _flash(rng, duration)
        world, thing = some_world(rng, duration, flash=flash)
        window = (int(flash[0]), int(flash[1]))
    else:
        world, _ = some_world(rng, duration)
        scene = max(world.scenes, key=lambda scene: scene.end - scene.start)
        start = rng.randint(int(scene.start) + 1, int(max(scene.start + 1, scene.end - 9)))
        window = (start, min(start + rng.randint(5, 9), int(scene.end)))
        thing = scene.thing
    return world, Question(
        f"What appears{_between(window)}?", sentence(f"{article(thing)} appears"), "moment", "appears", window, str(thing), window
    )


def cued(rng: random.Random, duration: float) -> tuple[World, Question]:
    """The frames do not show the thing; the speaker says when it is there."""
    flash = _flash(rng, duration, 6, 10)
    world, thing = some_world(rng, duration, flash=flash, cue=True)
    window = _window_of(rng, world, next(line.start for line in world.lines if line.kind == "cue"))
    text, answer = f"What color is the {thing.shape}{_between(window)}?", f"The {thing.shape} is {thing.colour}."
    return world, Question(text, answer, "cue", "colour", flash, str(thing), window)


def grounded(rng: random.Random, duration: float) -> tuple[World, Question]:
    """When something is there. Short videos are asked as a whole, long ones about a stretch of fifteen seconds."""
    if duration <= SHORT:
        world, _ = some_world(rng, duration, scenes=rng.choice((2, 3)))
        scene = rng.choice(world.scenes)
        truth, thing, window = (scene.start, scene.end), scene.thing, None
    else:
        start = 10 * rng.randint(0, int(duration - GROUND_WINDOW - 1) // 10)
        length = rng.randint(3, 8)
        first = start + rng.randint(1, GROUND_WINDOW - length - 1)
        truth, window = (float(first), float(first + length)), (start, start + GROUND_WINDOW)
        world, thing = some_world(rng, duration, flash=truth)
    return world, Question(
        f"When does the {thing} appear{_between(window)}?",
        f"The {thing} appears from {hours(truth[0])} to {hours(truth[1])}.",
        "ground",
        "when",
        truth,
        str(thing),
        window,
    )


def unanswerable(rng: random.Random, duration: float) -> tuple[World, Question]:
    """What the video does not tell."""
    form = rng.choice(("speech", "speech", "colour", "when") if duration > SHORT else ("speech", "colour"))
    if form == "when":
        world, other = some_world(rng, duration)
        start = 10 * rng.randint(0, int(duration - GROUND_WINDOW - 1) // 10)
        window: tuple[int, int] | None = (start, start + GROUND_WINDOW)
        text, answer, subject = f"When does the {other} appear{_between(window)}?", f"The {other} does not appear.", str(other)
        return world, Question(text, answer, "none", form, (float(start), float(start + GROUND_WINDOW)), subject, window)
    world, other = some_world(rng, duration, facts=rng.choice((0, 1, 2)))
    window = _window_of(rng, world, rng.uniform(10, max(10.0, duration - 10)))
    if form == "colour":
        return world, Question(
            f"What color is the {other.shape}{_between(window)}?",
            f"There is no {other.shape}.",
            "none",
            form,
            (0.0, duration),
            str(other),
            window,
        )
    told = {line.kind for line in world.lines}
    kind = rng.choice([kind for kind in speech.FACTS if kind not in told])
    fact = speech.FACTS[kind]
    return world, Question(f"{fact.question}{_between(window)}?", fact.missing, "none", form, (0.0, duration), kind, window)


MAKERS: Final[dict[Kind, tuple[Callable[[random.Random, float], tuple[World, Question]], float]]] = {
    "visual": (visual, 5),
    "speech": (spoken, 5),
    "moment": (moment, 12),
    "cue": (cued, 60),
    "ground": (grounded, 8),
    "none": (unanswerable, 5),
}


def some_question(rng: random.Random, kind: Kind, duration: float | None = None) -> tuple[World, Question]:
    """A world and a question of a kind about it; ``duration`` in seconds, or of any bucket that the kind allows."""
    make, shortest = MAKERS[kind]
    return make(rng, duration if duration is not None else some_duration(rng, low=shortest))

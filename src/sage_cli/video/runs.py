"""Stretches of a stream whose timestamps are continuous, and where on the timeline they belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

# Timestamps that go back by more than this have restarted. Decoding times never go back; presentation times do, by the depth of reordering.
BACK: Final = Fraction(1, 2)

# A jump ahead that is examined, and one that is too long for a clock that may be reset (ffmpeg's -dts_delta_threshold).
AHEAD: Final = Fraction(1)
DISCONTINUITY: Final = Fraction(10)

# The longest plausible gap if no header gives the duration.
_LONGEST_GAP: Final = Fraction(600)

# Largest difference between two streams' shifts at the same discontinuity.
_SAME_MOVE: Final = Fraction(3)
_RECENT_MOVES: Final = 16


@dataclass
class Run:
    """Packets of a stream with continuous times. Times are in seconds, before any shift.

    Attributes:
        first: number of the first one in its stream.
        place: number of the first one in the file.
        start, begin: decoding and presentation time of the first one.
        next: decoding time expected of the next packet.
        end: where the last picture or sound ends.
    """

    first: int
    place: int
    start: Fraction
    begin: Fraction
    next: Fraction
    end: Fraction
    shift: Fraction = Fraction(0)
    stray: bool = False  # a few packets between two that fit together


def decide(streams: Sequence[Sequence[Run]], discontinuous: bool, claimed: Fraction | None) -> None:
    """Give every run its shift, in the order in which the runs begin in the file.

    Args:
        streams: the runs of each.
        discontinuous: the clock may be reset at any point in files of this kind.
        claimed: the end of the file by its header.
    """
    for runs in streams:
        _find_strays(runs)
    order = sorted(
        ((run.place, number, at) for at, runs in enumerate(streams) for number, run in enumerate(runs)), key=lambda item: item[0]
    )
    moves: list[Fraction] = []
    known = [0] * len(streams)  # how many of them were made before each stream's last one
    shifts = [Fraction(0)] * len(streams)  # in effect
    reached: dict[int, Fraction] = {}  # where each stream has got to, shifted: when it is decoded, and when it is presented
    ended: dict[int, Fraction] = {}
    for _, number, stream in order:
        run = streams[stream][number]
        if run.stray:
            begin = reached[stream] if stream in reached else streams[stream][number + 1].start - (run.next - run.start)
            run.shift = begin - run.start
            continue
        shift = shifts[stream]
        gap = run.start + shift - reached.get(stream, run.start)
        if gap < -BACK or (gap > DISCONTINUITY and not _is_believed(run, gap, shift, discontinuous, claimed)):
            own = max(reached[stream] - run.start, ended[stream] - run.begin)
            others = [move for move in moves[known[stream] :][-_RECENT_MOVES:] if abs(move - own) <= _SAME_MOVE]
            shift = min(others, key=lambda move: abs(move - own), default=own)
            if not others:
                moves.append(own)
            known[stream] = len(moves)
        run.shift = shifts[stream] = shift
        reached[stream], ended[stream] = run.next + shift, run.end + shift


def _find_strays(runs: Sequence[Run]) -> None:
    """Mark damaged runs: those between two runs that fit together without them, and a first one far from all others."""
    for before, run, after in zip(runs, runs[1:], runs[2:]):  # noqa: B905
        room = after.start - before.next
        run.stray = not before.stray and room >= -BACK and abs(room - (run.next - run.start)) < AHEAD
    if len(runs) > 1 and runs[0].next - runs[0].start < AHEAD and abs(runs[1].start - runs[0].next) > DISCONTINUITY:
        runs[0].stray = not runs[1].stray and runs[1].next - runs[1].start > runs[0].next - runs[0].start


def _is_believed(run: Run, gap: Fraction, shift: Fraction, discontinuous: bool, claimed: Fraction | None) -> bool:
    if discontinuous:
        return False
    return gap <= _LONGEST_GAP if claimed is None else run.end + shift <= claimed + DISCONTINUITY

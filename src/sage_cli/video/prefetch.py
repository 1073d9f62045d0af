"""Reads the frames of a video at given times, in order and ahead of their use, with several decoders.

Several decoders with one thread each are faster than one decoder with several threads. So the times are divided into pieces at keyframes,
and each piece goes to the next free thread. Frames are handed over in order, and only a limited number is read ahead, so memory does not
grow with the video. Threads work here because FFmpeg and OpenCV release the interpreter lock.

The consumer only waits, which Ctrl-C interrupts at once; PyAV may lose a Ctrl-C during its own work.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from threading import Condition, Event, Thread
from typing import Literal

from sage_cli.hardware.threads import background, cores
from sage_cli.hardware.waiting import GLANCE_S, Stopped
from sage_cli.signals import check_interrupted, signals_held
from sage_cli.video.frame import Frame, frame_key
from sage_cli.video.media import Media, VideoTrack
from sage_cli.video.reader import FrameCursor, Unseekable, jump, keyframe_before, picture, tell_damage
from sage_cli.video.sampling import Sampling, keyframes_near
from sage_cli.video.source import frame_time
from sage_cli.video.timeline import Keyframe

Method = Literal["seek", "sequential", "keyframe", "cached"]

# More decoders gain little and take much memory: each holds some twenty frames. All together hold no more than eight do for 1080p.
_MOST_DECODERS = 8
_MOST_PIXELS = _MOST_DECODERS * 1920 * 1088

# Most bytes of finished frames in the queue.
_MOST_WAITING = 64 << 20

# Fewest frames of the video that justify a seek and a place in the queue.
_SHORTEST_PIECE = 48


class FrameReader(Iterator[Frame]):
    """Frames while they are read; see :meth:`sage_cli.video.Video.frames`.

    Attributes:
        method: ``"seek"`` when stretches between samples are jumped over, ``"sequential"`` when the video is decoded straight through,
            ``"keyframe"`` when each time's nearest keyframe is taken, ``"cached"`` when nothing is decoded until an image is asked for.
    """

    def __init__(self, method: Method, frames: Generator[Frame, None, None]) -> None:
        self.method, self._frames = method, frames

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file before the last frame; this also happens at the end, and when the reader is garbage-collected."""
        self._frames.close()


def read_frames(media: Media, track: VideoTrack, times: Sequence[float], size: tuple[int, int], sampling: Sampling) -> FrameReader:
    """The frames on screen at ``times``, from several :class:`~sage_cli.video.reader.FrameCursor`."""
    keyframes, targets = media.keyframes, [media.origin + Fraction(time) for time in times]
    if near := keyframes_near([keyframe.time for keyframe in keyframes], targets, sampling):
        pieces = [range(index, index + 1) for index in range(len(near))]
        return FrameReader("keyframe", _read(_Plan(media, track, keyframes, size, [keyframes[n].time for n in near], pieces, keys=True)))
    visits = pairwise([keyframes[0].time, *targets])
    seeks = any(jump(keyframes, track, *visit) is not None for visit in visits)
    plan = _Plan(media, track, keyframes, size, targets, _cut(keyframes, track, targets), keys=False)
    return FrameReader("seek" if seeks else "sequential", _read(plan))


@dataclass(frozen=True)
class _Plan:
    """What to read, and how to divide the work. Threads refer to this, not to the reader, which can so be garbage-collected."""

    media: Media
    track: VideoTrack
    keyframes: Sequence[Keyframe]
    size: tuple[int, int]
    targets: Sequence[Fraction]
    pieces: Sequence[range]
    keys: bool  # keyframes are wanted, whose times the targets are

    @property
    def seeks(self) -> bool:
        return len(self.keyframes) > 1

    def straight(self, first: int) -> _Plan:
        """The same from a target on, with one decoder and without seeks."""
        return replace(self, keyframes=self.keyframes[:1], pieces=[range(first, len(self.targets))])

    def cursor(self, threads: int, stop: Event, damaged: set[int | None]) -> FrameCursor:
        return FrameCursor(self.media, self.track, self.keyframes, threads=threads, alone=not self.seeks, stop=stop, damaged=damaged)

    def look(self, cursor: FrameCursor, number: int, last: bool) -> Frame:
        target = self.targets[number]
        shown = cursor.keyframe(keyframe_before(self.keyframes, target)) if self.keys and self.seeks else None
        shown = shown or cursor.at(target, last=last)
        time = float(frame_time(shown) - self.media.origin)
        return Frame(time, picture(shown, self.track.orientation, self.size), frame_key(self.media.content.fingerprint, time, self.size))


def _read(plan: _Plan) -> Generator[Frame, None, None]:
    damaged: set[int | None] = set()
    done, total, before = 0, len(plan.targets), ""
    try:
        while done < total:
            try:
                with closing(_WorkerPool(plan, damaged).frames()) as frames:
                    for frame in frames:
                        done += 1
                        if not plan.keys or frame.key != before:
                            yield frame
                        before = frame.key
            except Unseekable:
                plan = plan.straight(done)
    finally:
        tell_damage(plan.media, damaged)


def _cut(keyframes: Sequence[Keyframe], track: VideoTrack, targets: Sequence[Fraction]) -> list[range]:
    """Ranges of target indices, split where a seek to a keyframe costs little or saves much."""
    numbers = [keyframe_before(keyframes, target) for target in targets]
    starts = [0]
    for at in range(1, len(targets)):
        if numbers[at] != numbers[at - 1]:
            decoded = (keyframes[numbers[at]].time - keyframes[numbers[starts[-1]]].time) * track.rate
            jumps = jump(keyframes, track, targets[at - 1], targets[at]) is not None
            if jumps or decoded >= _SHORTEST_PIECE:
                starts.append(at)
    return [range(start, end) for start, end in pairwise([*starts, len(targets)])]


class _WorkerPool:
    """Threads with a decoder each that read the frames of a plan by number. A free thread takes the next piece.

    Args:
        damaged: see :class:`~sage_cli.video.reader.FrameCursor`.
    """

    def __init__(self, plan: _Plan, damaged: set[int | None]) -> None:
        self._plan, self._damaged = plan, damaged
        self._decoders = max(1, min(len(plan.pieces), cores(), _MOST_DECODERS, _MOST_PIXELS // (plan.track.width * plan.track.height)))
        self._waiting = max(self._decoders, _MOST_WAITING // (3 * plan.size[0] * plan.size[1]))
        self._todo = iter(plan.pieces)
        self._taken, self._end = plan.pieces[0].start, plan.pieces[-1].stop
        self._found: dict[int, Frame | BaseException] = {}
        self._changed = Condition()
        self._stop = Event()
        self._threads: list[Thread] = []

    def frames(self) -> Generator[Frame, None, None]:
        """All frames in order; the threads live as long as this.

        Raises:
            VideoError, Unseekable: a frame cannot be read; those before it were yielded.
        """
        try:
            for _ in range(self._decoders):
                with signals_held():
                    self._threads.append(background(self._work, "sage-frames"))
            while self._taken < self._end:
                check_interrupted()
                with self._changed:
                    while not self._changed.wait_for(lambda: self._taken in self._found, GLANCE_S):
                        check_interrupted()
                    found = self._found.pop(self._taken)
                    self._taken += 1
                    self._changed.notify_all()
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            with self._changed:
                self._stop.set()
                self._changed.notify_all()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        if (piece := self._next_piece()) is None:
            return
        number, plan = piece.start, self._plan
        try:
            with closing(plan.cursor(max(1, cores() // self._decoders), self._stop, self._damaged)) as cursor:
                while piece is not None:
                    for number in piece:
                        self._wait_for_turn(number)
                        self._give(number, plan.look(cursor, number, number == piece[-1]))
                    piece = self._next_piece()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  (passed to the waiting thread)
            self._give(number, error)

    def _next_piece(self) -> range | None:
        with self._changed:
            return next(self._todo, None)

    def _wait_for_turn(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or number < self._taken + self._waiting)
        if self._stop.is_set():
            raise Stopped

    def _give(self, number: int, found: Frame | BaseException) -> None:
        with self._changed:
            self._found[number] = found
            self._changed.notify_all()

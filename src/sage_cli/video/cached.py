"""What earlier runs found in a video, on disk: the times of frames, whose pixels are decoded on demand only, and damage."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.store.diskcache import DiskCache
from sage_cli.store.seal import read_sealed, write_sealed
from sage_cli.video.frame import Frame, frame_key, pixel_version
from sage_cli.video.media import Part
from sage_cli.video.prefetch import FrameReader
from sage_cli.video.sampling import Sampling

_LIMIT: Final = 32 << 20  # bytes; the times of 128 frames take about 2 KB
_PARTS: Final[tuple[Part, ...]] = ("video", "audio")

Read: TypeAlias = Callable[[Sequence[float], Sampling], FrameReader]


class FrameTimeCache:
    """Caches on disk which frames of a video are on screen at which times.

    Args:
        folder: created on first use. If it cannot be used, nothing is cached.
    """

    def __init__(self, folder: Path) -> None:
        self._disk = DiskCache(folder, _LIMIT)

    def close(self) -> None:
        """Close its files; later use opens them again."""
        self._disk.close()

    def frames(self, media: str, times: Sequence[float], size: tuple[int, int], sampling: Sampling, read: Read) -> FrameReader:
        """The frames that ``read`` gives: undecoded if these times of the video were read before, else read now and recorded.

        Args:
            media: the video's fingerprint.
            size: ``(width, height)`` of the frames.
            sampling: how frames are selected for the times.
            read: starts reading frames of the video at times.
        """
        digest = hashlib.blake2b(json.dumps([*times, sampling, pixel_version()]).encode(), digest_size=12).hexdigest()
        key = f"{media}@{digest}"
        shown = _times(self._disk.get(key), len(times))
        if shown is not None:
            cached = CachedFrames(media, shown, size, read, lambda: read(times, sampling), lambda: self._disk.delete(key))
            return FrameReader("cached", cached.frames())
        reader = read(times, sampling)
        return FrameReader(reader.method, _recorded(reader, lambda shown: self._disk.set(key, json.dumps(shown).encode())))


def _recorded(reader: FrameReader, note: Callable[[list[float]], object]) -> Generator[Frame, None, None]:
    """Passes frames on, and notes their times once all were read."""
    shown = []
    with closing(reader):
        for frame in reader:
            shown.append(frame.time)
            yield frame
    note(shown)


class CachedFrames:
    """Frames with known times. Their images are read on demand; in order, that is one pass over the video."""

    def __init__(
        self,
        media: str,
        shown: Sequence[float],
        size: tuple[int, int],
        read: Read,
        read_anew: Callable[[], FrameReader],
        forget: Callable[[], object],
    ) -> None:
        self._media, self._shown, self._size, self._read = media, shown, size, read
        self._read_anew, self._forget = read_anew, forget
        self._reader: FrameReader | None = None
        self._at = 0  # number of the frame that the reader gives next
        self._anew = False  # frames are read as they were when their times were cached, not by those times

    def frames(self) -> Generator[Frame, None, None]:
        with closing(self):
            for number, time in enumerate(self._shown):
                yield Frame.undecoded(time, self._size, frame_key(self._media, time, self._size), partial(self._image, number))

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _image(self, number: int) -> NDArray[np.uint8]:
        frame = self._frame(number)
        if (frame is None or frame.time != self._shown[number]) and not self._anew:
            # Where a demuxer guesses times after seeking (MPEG-PS), another way of seeking finds other times.
            self.close()
            self._anew = True
            frame = self._frame(number)
        if frame is None or frame.time != self._shown[number]:
            self._forget()
            raise VideoError("the video's frames are not at the times where they were before; run the command again")
        return frame.image

    def _frame(self, number: int) -> Frame | None:
        """The frame with this number, from the current reader or a new one; None if there are fewer."""
        if self._reader is None or number < self._at:
            self.close()
            self._reader, self._at = (self._read_anew(), 0) if self._anew else (self._read(self._shown[number:], "exact"), number)
        frame = None
        while self._at <= number:
            frame = next(self._reader, None)
            self._at += 1
        return frame


def _times(stored: memoryview | None, count: int) -> list[float] | None:
    """The cached times, if they are valid for the request; keyframes may be fewer than the requested times."""
    try:
        times = json.loads(bytes(stored)) if stored else None
    except ValueError:
        return None
    if not isinstance(times, list) or not 0 < len(times) <= count:
        return None
    return times if all(isinstance(time, float) and isfinite(time) for time in times) else None


class DamageCache:
    """Damage that decoding met: results in other caches spare the decoding, and must not hide it.

    A folder with a file for each damaged stream, which holds nothing but its seal. What cannot be written is not kept.

    Args:
        folder: created on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, media: str, part: Part) -> None:
        """Note damage of a stream of the file with this fingerprint."""
        with suppress(OSError):
            write_sealed(self._note(media, part), b"")

    def parts(self, media: str) -> Iterator[Part]:
        """The streams whose damage is known."""
        for part in _PARTS:
            note = self._note(media, part)
            if read_sealed(note) is not None:
                with suppress(OSError):  # notes are used last when their media is
                    os.utime(note)
                yield part

    def _note(self, media: str, part: Part) -> Path:
        return self._folder / f"{media}-{part}-{pixel_version()}"  # another FFmpeg may decode it

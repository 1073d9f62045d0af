"""Transcripts on disk, finished or begun: nothing is decoded twice, and what was interrupted goes on where it stopped.

One file of JSON lines for each stretch of a medium and each model with its options: a line for every window as it is finished, and one
when all is done. A line is written at once and says where in the audio it follows on, so a line cut short by a kill, or written twice by
two processes at once, is told from the others and passed over. Everything in the folder can be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from sage_cli.speech.segment import Segment, Word
from sage_cli.speech.transcriber import Checkpoint, Part, Transcriber
from sage_cli.speech.whisper import RATE, Samples

LIMIT = 256 << 20  # bytes of transcripts kept, some thousand hours; the oldest go first

_log = logging.getLogger(__name__)


class TranscriptCache:
    """A folder of transcripts.

    Args:
        folder: made when it is needed. One that cannot be written to is done without.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def parts(
        self, transcriber: Transcriber, media: str, audio: Callable[[], Iterable[Samples]], start: float, end: float
    ) -> Iterator[Part]:
        """Transcribe a stretch of a medium, or recall it.

        Args:
            media: identity of the medium's content.
            audio: gives the sound of the stretch from its start, 16 kHz mono in blocks; called when something is left to be decoded.
            start, end: the stretch, in seconds of the medium.

        Yields:
            What ``transcriber.parts(audio(), start=start)`` would yield. A stretch inside one that is already finished comes
            as one part: the segments that reach into it.
        """
        stem = f"{media}-{transcriber.identity}"
        own = self._folder / f"{stem}-{round(start * 1000)}-{round(end * 1000)}.jsonl"
        parts, done = _load(own)
        if not done and (whole := self._around(stem, start, end)) is not None:
            inside = tuple(s for part in _load(whole)[0] for s in part.segments if s.start < end and s.end > start)
            yield Part(inside, Checkpoint(round((end - start) * RATE)))
            return
        yield from parts
        if done:
            return
        log = self._open(own)
        try:
            before = parts[-1].after if parts else Checkpoint()
            for part in transcriber.parts(audio(), start=start, after=before):
                _append(log, {"at": before.position, **asdict(part)})
                before = part.after
                yield part
            _append(log, {"at": before.position, "done": True})
        finally:
            if log is not None:
                log.close()

    def _around(self, stem: str, start: float, end: float) -> Path | None:
        """A finished transcript of a longer stretch."""
        for path in self._folder.glob(f"{stem}-*.jsonl"):
            first, last = (int(number) / 1000 for number in path.stem.rsplit("-", 2)[1:])
            if first <= start and end <= last and _load(path)[1]:
                return path
        return None

    def _open(self, path: Path) -> BinaryIO | None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _prune(self._folder)
            log = path.open("ab", buffering=0)
            log.write(b"\n")  # ends a line that was cut short
            return log
        except OSError as error:
            _log.warning("transcripts are not kept: %s: %s", self._folder, error.strerror or error)
            return None


class Remembering:
    """A transcriber for one medium that recalls what is in the cache; in place of :class:`Transcriber` where only ``stream`` is called.

    Args:
        media: identity of the medium's content.
    """

    def __init__(self, transcriber: Transcriber, media: str, cache: TranscriptCache) -> None:
        self._transcriber, self._media, self._cache = transcriber, media, cache

    def stream(self, audio: Samples, *, start: float = 0.0) -> Iterator[Segment]:
        """As :meth:`Transcriber.stream`, for a stretch of the medium that begins at ``start``."""
        blocks = (audio[at : at + RATE * 30] for at in range(0, len(audio), RATE * 30))
        for part in self._cache.parts(self._transcriber, self._media, lambda: blocks, start, start + len(audio) / RATE):
            yield from part.segments


def _append(log: BinaryIO | None, record: dict[str, Any]) -> None:
    if log is not None:
        try:
            log.write(json.dumps(record).encode() + b"\n")
        except OSError as error:  # a full disk
            _log.warning("the rest of this transcript is not kept: %s", error.strerror or error)


def _load(path: Path) -> tuple[list[Part], bool]:
    """The parts that follow on one another from the start, and whether they are all there are."""
    parts: list[Part] = []
    position = 0
    with suppress(OSError):
        for line in path.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
                if record["at"] != position:
                    continue
                if "done" in record:
                    os.utime(path)
                    return parts, True
                parts.append(Part(tuple(_segment(fields) for fields in record["segments"]), Checkpoint(**record["after"])))
                position = parts[-1].after.position
            except (ValueError, TypeError, KeyError):
                continue
    return parts, False


def _segment(fields: dict[str, Any]) -> Segment:
    return Segment(**{**fields, "words": tuple(Word(**word) for word in fields["words"])})


def _prune(folder: Path) -> None:
    files = sorted(((stat.st_mtime, stat.st_size, path) for path in folder.glob("*.jsonl") if (stat := path.stat())), reverse=True)
    kept = 0
    for _time, size, path in files:
        kept += size
        if kept > LIMIT:
            path.unlink(missing_ok=True)

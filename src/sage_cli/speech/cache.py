"""Transcripts on disk, complete or partial: nothing is decoded twice, and an interrupted transcript resumes.

There is one file per chapter of a recording, model and set of options: a line with the chapter's start and end, a line per finished
window, and a last line when the chapter is complete. Each line begins with a checksum of the rest and names the audio position that it
continues, so a line that was cut short by a kill, damaged on disk, or written twice by two processes is detected and skipped. Everything
in the folder can be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pydantic import TypeAdapter, ValidationError

from sage_cli.speech.transcriber import Part
from sage_cli.store.files import TRANSCRIPTS, trim
from sage_cli.store.private import private_folder

LIMIT = 256 << 20  # bytes of transcripts kept, some hundred hours; the oldest go first
_SUM = 16  # characters of a line's checksum

_PART = TypeAdapter(Part)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of a recording that is transcribed by itself.

    Attributes:
        start, end: seconds of the recording.
        parts: the windows transcribed so far, from its start.
        done: nothing is missing.
    """

    start: float
    end: float
    parts: tuple[Part, ...] = ()
    done: bool = False


class TranscriptCache:
    """A folder of transcripts.

    Args:
        folder: created when it is first needed; with ``None``, or if it is not writable, nothing is stored.
        limit: maximum size in bytes; 0 stores nothing.
    """

    def __init__(self, folder: Path | None, limit: int | None = None) -> None:
        self._limit = LIMIT if limit is None else limit
        self._folder = folder if self._limit > 0 else None

    def load(self, stem: str, number: int) -> Chapter | None:
        """A chapter with the windows that are stored; ``None`` if there are none."""
        records = self._read(f"{stem}-{number}")
        heads = [record for record in records if isinstance(record.get("start"), float) and isinstance(record.get("end"), float)]
        if not heads:
            return None
        start, end = heads[0]["start"], heads[0]["end"]
        parts: list[Part] = []
        position = 0
        for record in records:
            if record.get("at") != position:
                continue
            if "done" in record:
                return Chapter(start, end, tuple(parts), done=True)
            if "segments" in record:
                with suppress(ValidationError):  # another version's
                    parts.append(_PART.validate_python({"segments": record["segments"], "after": record.get("after")}))
                    position = parts[-1].after.position
        return Chapter(start, end, tuple(parts))

    @contextmanager
    def recorder(self, stem: str, number: int, chapter: Chapter) -> Iterator[Recorder]:
        """What to write the rest of a chapter with, part by part."""
        file = self._open(f"{stem}-{number}")
        try:
            recorder = Recorder(file, chapter.parts[-1].after.position if chapter.parts else 0)
            if not chapter.parts:
                recorder.line({"start": float(chapter.start), "end": float(chapter.end)})
            yield recorder
        finally:
            if file is not None:
                file.close()

    def language(self, stem: str) -> str | None:
        """The language that was detected for a recording."""
        found = [record["language"] for record in self._read(f"{stem}-language") if isinstance(record.get("language"), str)]
        return found[-1] if found else None

    def keep_language(self, stem: str, language: str) -> None:
        if (file := self._open(f"{stem}-language")) is not None:
            with file:
                Recorder(file, 0).line({"language": language})

    def _read(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file that are whole."""
        if self._folder is None:
            return []
        path = self._folder / f"{name}.jsonl"
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError:
            return []
        with suppress(OSError):  # a cache that cannot be written is of use, too
            os.utime(path)
        records = []
        for line in lines:
            total, _, text = line.partition(b" ")
            if total == _checksum(text):
                with suppress(ValueError, RecursionError):
                    record = json.loads(text, parse_constant=_refuse)
                    if isinstance(record, dict):
                        records.append(record)
        return records

    def _open(self, name: str) -> BinaryIO | None:
        if self._folder is None:
            return None
        try:
            private_folder(self._folder)
            trim(self._folder, TRANSCRIPTS, self._limit)
            file = (self._folder / f"{name}.jsonl").open("ab", buffering=0)
            file.write(b"\n")  # ends a line that was cut short
            return file
        except OSError as error:
            _log.warning("transcripts are not kept: %s: %s", self._folder, error.strerror or error)
            return None


class Recorder:
    """Writes the lines of a file, each at once.

    Args:
        file: open for appending; ``None`` writes nothing.
        position: samples of the chapter that are done with.
    """

    def __init__(self, file: BinaryIO | None, position: int) -> None:
        self._file, self._position = file, position

    def part(self, part: Part) -> None:
        self.line({"at": self._position, **asdict(part)})
        self._position = part.after.position

    def done(self) -> None:
        self.line({"at": self._position, "done": True})

    def line(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        text = json.dumps(record).encode()
        try:
            self._file.write(_checksum(text) + b" " + text + b"\n")
        except OSError as error:  # a full disk
            _log.warning("the rest of this transcript is not kept: %s", error.strerror or error)
            self._file = None


def _checksum(text: bytes) -> bytes:
    return blake2b(text, digest_size=_SUM // 2).hexdigest().encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no time")

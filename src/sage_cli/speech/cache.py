"""Transcripts on disk, complete or partial: nothing is decoded twice, and an interrupted transcript resumes.

There is one file per chapter of a recording, model and set of options: a line with the chapter's start and end, a line per finished
window, and a last line when the chapter is complete. Each line begins with a checksum of the file's name and the rest, and names the audio
position that it continues, so a line that was cut short by a kill, damaged on disk, moved from another file, or written twice by two
processes is detected and skipped. Everything in the folder can be deleted at any time.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pydantic import TypeAdapter, ValidationError

from sage_cli.speech.transcriber import Part
from sage_cli.store.files import TRANSCRIPTS, read_file, trim
from sage_cli.store.private import private_folder
from sage_cli.store.seal import digest

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
        name = f"{stem}-{number}"
        file = self._open(name)
        try:
            recorder = Recorder(name, file, chapter.parts[-1].after.position if chapter.parts else 0)
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
        name = f"{stem}-language"
        if (file := self._open(name)) is not None:
            with file:
                Recorder(name, file, 0).line({"language": language})

    def _read(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file that are whole."""
        if self._folder is None:
            return []
        path = self._folder / f"{name}.jsonl"
        try:
            lines = read_file(path).split(b"\n")
        except OSError:
            return []
        with suppress(OSError):  # a cache that cannot be written is of use, too
            os.utime(path)
        records = []
        for line in lines:
            total, _, text = line.partition(b" ")
            if total == _checksum(name, text):
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
            path = self._folder / f"{name}.jsonl"
            if path.exists() and not path.is_file():
                raise FileExistsError(errno.EEXIST, "something else is in the place of a transcript", str(path))
            file = path.open("ab", buffering=0)
            file.write(b"\n")  # ends a line that was cut short
            return file
        except OSError as error:
            _log.warning("transcripts are not kept: %s: %s", self._folder, error.strerror or error)
            return None


class Recorder:
    """Writes the lines of a file, each at once.

    Args:
        name: of the file, without its suffix.
        file: open for appending; ``None`` writes nothing.
        position: samples of the chapter that are done with.
    """

    def __init__(self, name: str, file: BinaryIO | None, position: int) -> None:
        self._name, self._file, self._position = name, file, position

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
            self._file.write(_checksum(self._name, text) + b" " + text + b"\n")
        except OSError as error:  # a full disk
            _log.warning("the rest of this transcript is not kept: %s", error.strerror or error)
            self._file = None


def _checksum(name: str, text: bytes) -> bytes:
    total = digest(name)
    total.update(text)
    return total.hexdigest()[:_SUM].encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no time")

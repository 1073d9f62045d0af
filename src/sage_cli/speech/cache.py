"""Transcripts on disk, complete or partial: nothing is decoded twice, and an interrupted transcript resumes.

There is one file per chapter of a recording, model and set of options: a line with the chapter's start and end, a line per finished
window, and a last line when the chapter is complete. Each line begins with a checksum of the file's name and the rest, and names the audio
position that it continues, so a line that was cut short by a kill, damaged on disk, moved from another file, or written twice by two
processes is detected and skipped. Everything in the folder can be deleted at any time.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pydantic import TypeAdapter, ValidationError

from sage_cli.speech.transcriber import Part
from sage_cli.store.files import TRANSCRIPTS, read_file, report_damaged, report_unused, trim
from sage_cli.store.private import private_folder
from sage_cli.store.seal import digest

LIMIT = 256 << 20  # bytes of transcripts kept, some hundred hours; the oldest go first
_SUM = 16  # characters of a line's checksum
_DAMAGED: dict[str, Any] = {}  # in place of a record

_PART = TypeAdapter(Part)


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
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, stem: str, number: int) -> Chapter | None:
        """A chapter with the windows that are stored; ``None`` if there are none. Damage is reported if it costs windows."""
        chapter, damaged = _chapter(self._read(f"{stem}-{number}"))
        if damaged and self._folder is not None:
            report_damaged(self._folder)
        return chapter

    @contextmanager
    def recorder(self, stem: str, number: int, chapter: Chapter) -> Iterator[Recorder]:
        """What to write the rest of a chapter with, part by part."""
        name = f"{stem}-{number}"
        file = self._open(name)
        try:
            recorder = Recorder(name, file, self._folder, chapter.parts[-1].after.position if chapter.parts else 0)
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
                Recorder(name, file, self._folder, 0).line({"language": language})

    def _read(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file; :data:`_DAMAGED` in place of those that are not whole, unless a kill cut the last one short."""
        if self._folder is None:
            return []
        path = self._folder / f"{name}.jsonl"
        try:
            *lines, last = read_file(path).split(b"\n")
        except OSError:
            return []
        with suppress(OSError):  # a cache that cannot be written is of use, too
            os.utime(path)
        records = [_record(name, line) for line in lines if line]
        return records if (cut := _record(name, last)) is _DAMAGED else [*records, cut]

    def _open(self, name: str) -> BinaryIO | None:
        if self._folder is None:
            return None
        try:
            private_folder(self._folder)
            trim(self._folder, TRANSCRIPTS, LIMIT)
            path = self._folder / f"{name}.jsonl"
            if path.exists() and not path.is_file():
                raise FileExistsError(errno.EEXIST, "something else is in the place of a transcript", str(path))
            file = path.open("ab", buffering=0)
            file.write(b"\n")  # ends a line that was cut short
            return file
        except OSError as error:
            report_unused(self._folder, error)
            return None


def _chapter(records: Sequence[dict[str, Any]]) -> tuple[Chapter | None, bool]:
    """The windows that continue each other from the chapter's start; and whether a damaged line, or a missing one, ends them."""
    heads = [record for record in records if isinstance(record.get("start"), float) and isinstance(record.get("end"), float)]
    if not heads:
        return None, _DAMAGED in records
    start, end = heads[0]["start"], heads[0]["end"]
    parts: list[Part] = []
    position, damaged = 0, False
    for record in records:
        if record.get("at") != position:
            damaged = damaged or record is _DAMAGED or (isinstance(at := record.get("at"), int) and at > position)
            continue
        if "done" in record:
            return Chapter(start, end, tuple(parts), done=True), False
        if "segments" in record:
            with suppress(ValidationError):  # another version's
                parts.append(_PART.validate_python({"segments": record["segments"], "after": record.get("after")}))
                position, damaged = parts[-1].after.position, False  # what was lost before is written again
    return Chapter(start, end, tuple(parts)), damaged


class Recorder:
    """Writes the lines of a file, each at once.

    Args:
        name: of the file, without its suffix.
        file: open for appending; ``None`` writes nothing.
        folder: it is in.
        position: samples of the chapter that are done with.
    """

    def __init__(self, name: str, file: BinaryIO | None, folder: Path | None, position: int) -> None:
        self._name, self._file, self._folder, self._position = name, file, folder, position

    def part(self, part: Part) -> None:
        self.line({"at": self._position, **asdict(part)})
        self._position = part.after.position

    def done(self) -> None:
        self.line({"at": self._position, "done": True})

    def line(self, record: dict[str, Any]) -> None:
        if self._file is None or self._folder is None:
            return
        text = json.dumps(record).encode()
        try:
            self._file.write(_checksum(self._name, text) + b" " + text + b"\n")
        except OSError as error:  # a full disk
            report_unused(self._folder, error)
            self._file = None


def _record(name: str, line: bytes) -> dict[str, Any]:
    total, _, text = line.partition(b" ")
    if total == _checksum(name, text):
        with suppress(ValueError, RecursionError):
            record = json.loads(text, parse_constant=_refuse)
            if isinstance(record, dict):
                return record
    return _DAMAGED


def _checksum(name: str, text: bytes) -> bytes:
    total = digest(name)
    total.update(text)
    return total.hexdigest()[:_SUM].encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no time")

"""The log: questions, answers and their evidence, in an SQLite file that only this user can read.

All functions raise a ``SageError`` if it cannot be read or written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sage_cli.agent.record import RunRecord
from sage_cli.errors import SageError
from sage_cli.store.paths import history_path, log_path
from sage_cli.store.private import private_file
from sage_cli.text import UNSPACED

_VERSION: Final = 1  # of the tables, in SQLite's user_version
_WAIT_S: Final = 5.0  # seconds to wait for another process that writes
_MOST: Final = 2**63 - 1  # the largest number that SQLite knows

# Another process may make them at the same time.
_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    asked TEXT NOT NULL,
    conversation TEXT NOT NULL,
    media TEXT NOT NULL,
    video TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT,
    model TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_media ON runs (media, id);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (question, answer, video, content='runs', content_rowid='id');
CREATE TRIGGER IF NOT EXISTS runs_added AFTER INSERT ON runs BEGIN
    INSERT INTO words (rowid, question, answer, video) VALUES (new.id, new.question, new.answer, new.video);
END;
CREATE TRIGGER IF NOT EXISTS runs_removed AFTER DELETE ON runs BEGIN
    INSERT INTO words (words, rowid, question, answer, video) VALUES ('delete', old.id, old.question, old.answer, old.video);
END;
PRAGMA user_version = {_VERSION};
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One question in the log.

    Attributes:
        id: the argument of ``sage log show``.
        asked: when, in UTC.
        conversation: shared by all questions of one conversation.
        media: fingerprint of the video.
        video: its absolute path or link at the time of the question.
        record: the run; see :mod:`sage_cli.agent.record`.
    """

    id: int
    asked: datetime
    conversation: str
    media: str
    video: str
    record: RunRecord

    @property
    def question(self) -> str:
        return str(self.record["question"])

    @property
    def answer(self) -> str | None:
        return None if self.record["answer"] is None else str(self.record["answer"])


def add(record: RunRecord, *, media: str, video: str, conversation: str) -> int:
    """Add a run; return its id."""
    # A path need not be valid Unicode, and text that Python passes to SQLite has to be.
    path = video.encode(errors="surrogateescape")
    row = (record["asked"], conversation, media, path, record["question"], record["answer"], record["model"]["name"], json.dumps(record))
    with _log(create=True) as log, log:
        cursor = log.execute(
            "INSERT INTO runs (asked, conversation, media, video, question, answer, model, record) "
            "VALUES (?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)",
            row,
        )
        return int(cursor.lastrowid or 0)


def newest(count: int = 20, *, media: str | None = None, conversation: str | None = None) -> list[Entry]:
    """The newest entries, newest first.

    Args:
        media, conversation: limit entries to this video or conversation.
    """
    where = "(?1 IS NULL OR media = ?1) AND (?2 IS NULL OR conversation = ?2)"
    return _entries(f"{where} ORDER BY id DESC LIMIT ?3", media, conversation, min(count, _MOST))


def search(words: str, count: int = 20) -> list[Entry]:
    """Entries that contain all words in question, answer or path, the best matches, newest first."""
    # FTS5 takes letters without spaces between them for one word, so parts of them are looked for in the text itself.
    parts = [word for word in words.split() if UNSPACED.search(word)]
    # Each word in quotes: otherwise FTS5 would read OR, NEAR and hyphens as its own syntax.
    quoted = " ".join('"' + word.replace('"', '""') + '"' for word in words.split() if word not in parts)
    if not parts and not quoted:
        return []
    conditions = [*(["words MATCH ?"] if quoted else []), *[f"instr(lower({_TEXT}), lower(?))"] * len(parts)]
    best = (
        f"SELECT id FROM runs JOIN words ON words.rowid = id WHERE {' AND '.join(conditions)} "
        f"ORDER BY {'rank, ' if quoted else ''}id DESC LIMIT ?"
    )
    return _entries(f"id IN ({best}) ORDER BY id DESC", *filter(None, [quoted]), *parts, min(count, _MOST))


def of_question(question: str, *, media: str) -> list[Entry]:
    """The entries with this question about this video, newest first."""
    return _entries("media = ? AND question = ? ORDER BY id DESC", media, question)


def entry(id: int) -> Entry | None:
    """One entry; ``None`` if there is none."""
    return next(iter(_entries("id = ?", id)), None) if abs(id) <= _MOST else None


def clear() -> int:
    """Remove all entries, from the disk too, and the lines typed in conversations; return the number of entries."""
    with _log() as log:
        history_path().unlink(missing_ok=True)
        with log:
            count = log.execute("DELETE FROM runs").rowcount
            log.execute("INSERT INTO words (words) VALUES ('delete-all')")  # until then, the index keeps removed words
        log.execute("VACUUM")
        return count


# ---- inside --------------------------------------------------------------------------------------------------------

_TEXT: Final = "runs.question || char(10) || coalesce(runs.answer, '') || char(10) || runs.video"


def _entries(where: str, *values: object) -> list[Entry]:
    with _log() as log:
        rows = log.execute(f"SELECT id, asked, conversation, media, video, record FROM runs WHERE {where}", values)
        try:
            return [
                Entry(id, datetime.fromisoformat(asked), conversation, media, video, {**json.loads(record), "fingerprint": media})
                for id, asked, conversation, media, video, record in rows
            ]
        except (ValueError, TypeError, RecursionError) as error:
            raise sqlite3.DatabaseError(str(error)) from error


_OFF: Final = "turn the log off with 'sage config set log false' or SAGE_LOG=false"


@contextmanager
def _log(*, create: bool = False) -> Iterator[sqlite3.Connection]:
    path = log_path()
    try:
        with closing(_open(path if create or path.exists() else None)) as connection:
            yield connection
    except sqlite3.OperationalError as error:  # a full disk, a lock, a file that may not be written
        raise SageError(f"the log {path} cannot be used: {error}; {_OFF}") from error
    except sqlite3.DatabaseError as error:
        raise SageError(f"the log {path} is damaged ({error}): delete the file, or {_OFF}") from error
    except OSError as error:
        raise SageError(f"cannot write the log {path}: {error.strerror or error}") from error


def _open(path: Path | None) -> sqlite3.Connection:
    """The file's tables, which are made; without a file, empty ones."""
    if path:
        private_file(path)
    connection = sqlite3.connect(path or ":memory:", timeout=_WAIT_S)
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.executescript(_TABLES)
    except BaseException:
        connection.close()
        raise
    return connection

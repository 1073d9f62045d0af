from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sage_cli.errors import SageError
from sage_cli.session import log
from sage_cli.session.conversation import _absolute
from sage_cli.store.paths import log_path


def _record(question: str, answer: str | None) -> dict[str, Any]:
    about: dict[str, Any] = {"model": {"name": "nano"}, "evidence": [], "reason": None, "asked": "2026-01-31T23:59:58+00:00"}
    return {"question": question, "answer": answer, **about}


def _add(question: str, answer: str | None = "yes", *, media: str = "m1", conversation: str = "c1") -> int:
    return log.add(_record(question, answer), media=media, video="/videos/talk.mp4", conversation=conversation)


@pytest.fixture(autouse=True)
def _own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_LOG_FILE", str(tmp_path / "data" / "log.db"))


def test_entries_come_back_newest_first() -> None:
    first = _add("Who speaks?", "Ann")
    second = _add("And after that?", None, media="m2", conversation="c2")
    assert [one.id for one in log.newest()] == [second, first]
    assert [one.id for one in log.newest(media="m1")] == [first]
    assert [one.id for one in log.newest(conversation="c2")] == [second]
    entry = log.entry(first)
    assert entry is not None
    assert (entry.question, entry.answer, entry.video) == ("Who speaks?", "Ann", "/videos/talk.mp4")
    assert entry.asked.isoformat() == entry.record["asked"]  # when the run began, not when it ended
    assert log.entry(99) is None
    assert stat.S_IMODE(log_path().stat().st_mode) == 0o600


def test_entries_name_the_file_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [_absolute(name) for name in ("~clip.mp4", "-", "http://a.b/c")] == [str(tmp_path / "~clip.mp4"), "-", "http://a.b/c"]


@pytest.mark.parametrize(
    ("words", "found"),
    [("late", 1), ("TRAIN late", 1), ("train", 2), ("bus", 0), ('"', 0), ("a-b OR NEAR(", 0), ("talk.mp4", 2), ("", 0), ("größer", 0)],
)
def test_words_are_words(words: str, found: int) -> None:
    _add("Why was the train late?", "Snow")
    _add("Which train?", "The one to Rome")
    assert len(log.search(words)) == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("猫", 1),
        ("ボール 猫", 1),
        ("ボール talk", 1),
        ("ボール bus", 0),
        ("犬", 0),
        ("AI時代 train", 1),
        ("ai時代", 1),
        ("แมว", 1),
        ("%猫", 0),
    ],
)
def test_words_of_scripts_without_spaces_are_found_within_others(words: str, found: int) -> None:
    _add("Which train?", "AI時代の列車")
    _add("猫は何をしていますか", "赤いボールで遊んでいます。")
    _add("แมวกำลังทำอะไร", None)
    assert len(log.search(words)) == found


@pytest.mark.parametrize("words", ["about", "猫", "about 猫"])
def test_of_equal_matches_the_newest_are_found(words: str) -> None:
    ids = [_add("What is it about?", "猫です") for _ in range(30)]
    assert [one.id for one in log.search(words)] == ids[:-21:-1]


def test_reading_makes_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none" / "log.db"
    monkeypatch.setenv("SAGE_LOG_FILE", str(path))
    assert (log.newest(), log.search("red"), log.entry(1), log.clear()) == ([], [], None, 0)
    assert not path.parent.exists()


def test_clearing_leaves_nothing_behind() -> None:
    _add("a secret question")
    assert log.clear() == 1
    assert log.newest() == []
    assert log.search("secret") == []
    assert b"secret" not in log_path().read_bytes()


def _many(number: int) -> None:
    for count in range(5):
        _add(f"question {number}.{count}")


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_many, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(log.newest(100)) == 15


def test_names_that_are_no_unicode_and_numbers_without_end() -> None:
    path = os.fsdecode(b"/videos/caf\xe9.mp4")
    log.add(_record("What is it?", "A caf\xe9."), media="m1", video=path, conversation="c1")
    (found,) = log.search("what", 10**30)
    assert found.video == path
    assert [one.video for one in log.newest(10**30)] == [path]
    assert log.entry(10**30) is log.entry(-(10**30)) is None
    assert log.clear() == 1


def test_a_log_that_cannot_be_opened_is_not_to_be_deleted() -> None:
    log_path().mkdir(parents=True)
    with pytest.raises(SageError, match="sage config set log false") as raised:
        _add("question")
    assert "delete" not in str(raised.value)


@pytest.mark.parametrize("record", ["{", "[]", "null"])
def test_a_log_with_an_entry_that_is_no_run_is_damaged(record: str) -> None:
    _add("question")
    with closing(sqlite3.connect(log_path())) as connection, connection:
        connection.execute("UPDATE runs SET record = ?", (record,))
    with pytest.raises(SageError, match="is damaged"):
        log.newest()


@pytest.mark.parametrize("data", [b"no database", b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_log_is_one_line(data: bytes) -> None:
    log_path().parent.mkdir()
    log_path().write_bytes(data)
    with pytest.raises(SageError, match="sage config set log false"):
        _add("question")

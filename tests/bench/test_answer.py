"""What counts as an item's failure, and what ends the run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from sage_cli.bench import Item
from sage_cli.bench.answer import Answerer, Worker
from sage_cli.bench.judges import JudgeChoice
from sage_cli.errors import MediaReadError, VideoError
from sage_cli.session import Options, Session


@pytest.fixture
def answerer(clip_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Answerer:
    """Answers nothing: every question raises the parameter."""

    def ask(*_: object) -> NoReturn:
        raise request.param

    monkeypatch.setattr(Session, "ask", ask)
    worker = Worker(Options(), JudgeChoice("exact"), asks=False)
    return Answerer(worker, worker.session())


def item(path: Path) -> Item:
    return Item(0, "0", "What?", "a dog", str(path), path, (), None)


MACHINE = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    MemoryError(),
    MediaReadError("cannot read v.mp4: Input/output error"),
]


@pytest.mark.parametrize("answerer", MACHINE, ids=repr, indirect=True)
def test_a_failure_of_the_machine_is_no_record(answerer: Answerer, clip_path: Path) -> None:
    with pytest.raises((OSError, MemoryError, MediaReadError)):
        answerer(item(clip_path))


@pytest.mark.parametrize("answerer", [VideoError("nothing of it can be decoded"), ValueError("a bug")], ids=repr, indirect=True)
def test_a_failure_of_the_item_is_its_record(answerer: Answerer, clip_path: Path) -> None:
    record = answerer(item(clip_path))
    assert (record["outcome"], record["is_correct"]) == ("failed", False)
    assert record["error"] in ("nothing of it can be decoded", "unexpected ValueError: a bug")

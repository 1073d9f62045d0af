"""What counts as an item's failure, and what ends the run."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from sage_cli.bench.answer import Answerer, Worker
from sage_cli.bench.items import Item
from sage_cli.bench.judges import JudgeChoice
from sage_cli.errors import MediaReadError, VideoError
from sage_cli.model.refusals import UnreachableError
from sage_cli.session import Options, Session
from tests.openai_server import Served, serve


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


@pytest.mark.parametrize("addresses", ["{url}", "{url},http://127.0.0.1:1/v1"])
def test_a_server_that_is_gone_ends_the_run(addresses: str, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    reply = '{"video_context": "", "query_intent": "", "final_answer": "a dog"}'
    with ExitStack() as running:
        served = running.enter_context(serve(Served(text=reply)))
        options = Options(model=addresses.format(url=served.url), frames=2, direct=True, cache_limit=0)
        worker = Worker(options, JudgeChoice("exact"))
        session = running.enter_context(worker.session())
        answerer = Answerer(worker, session)
        assert answerer(item(clip_path))["outcome"] == "answered"
        served.faults = ["down"] * 20
        assert answerer(item(clip_path))["outcome"] == "failed"  # the server is there: it fails on this question alone
        served.faults = []
        assert answerer(item(clip_path))["outcome"] == "answered"
        served.stop()
        with pytest.raises(UnreachableError):
            answerer(item(clip_path))


@pytest.mark.parametrize("answerer", [VideoError("nothing of it can be decoded"), ValueError("a bug")], ids=repr, indirect=True)
def test_a_failure_of_the_item_is_its_record(answerer: Answerer, clip_path: Path) -> None:
    record = answerer(item(clip_path))
    assert (record["outcome"], record["is_correct"]) == ("failed", False)
    assert record["error"] in ("nothing of it can be decoded", "unexpected ValueError: a bug")

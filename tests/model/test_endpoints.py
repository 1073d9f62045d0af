from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sage_cli.errors import ModelError, UsageError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.base import Delta, Message, Reply, Text
from sage_cli.model.endpoints import Endpoints
from tests.openai_server import Served, serve

NOBODY = "http://127.0.0.1:1/v1"


@pytest.fixture
def servers() -> Iterator[list[Served]]:
    with ExitStack() as running:
        yield [running.enter_context(serve(Served(text=text))) for text in ("from one", "from two")]


def _address(*urls: str) -> RemoteAddress:
    address = RemoteAddress.parse(",".join(urls))
    assert address
    return address


def _ask(model: Endpoints) -> tuple[str, str]:
    """The deltas, and the reply."""
    *pieces, reply = model.stream([Message("user", (Text("Who are you?"),))], max_tokens=20)
    assert isinstance(reply, Reply)
    return "".join(piece.text for piece in pieces if isinstance(piece, Delta)), reply.text.strip()


def test_a_list_of_addresses() -> None:
    address = _address("http://127.0.0.1:1/v1#a", " https://me:secret@gpu.example/v1#b")
    assert [one.name for one in address.each] == ["a", "b"]
    assert address.host == "127.0.0.1:1, gpu.example"
    assert not address.loopback  # something leaves
    assert _address("http://127.0.0.1:1/v1", "http://localhost/v1").loopback
    with pytest.raises(UsageError, match="not an address"):
        RemoteAddress.parse("http://127.0.0.1:1/v1,nonsense")


def test_processes_begin_with_different_servers(servers: list[Served], monkeypatch: pytest.MonkeyPatch) -> None:
    first = set()
    for pid in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        with Endpoints(_address(*(one.url for one in servers))) as model:
            first.add(_ask(model)[1])
            assert _ask(model)[1] in first  # it stays there
    assert first == {"from one", "from two"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_server_that_cannot_be_reached_is_passed_over(servers: list[Served], order: tuple[int, int]) -> None:
    urls = [(NOBODY, servers[0].url)[place] for place in order]
    with Endpoints(_address(*urls), retries=0) as model:
        assert _ask(model)[1] == "from one"
    with pytest.raises(ModelError, match="none of"):
        Endpoints(_address(NOBODY, NOBODY), retries=0)


def test_an_overloaded_server_is_left(servers: list[Served]) -> None:
    with Endpoints(_address(*(one.url for one in servers)), retries=0) as model:
        _, used = _ask(model)
        busy, other = servers if used == "from one" else servers[::-1]
        busy.faults, other.text = ["busy"], "at leisure"
        assert _ask(model) == ("at leisure ", "at leisure")  # it said nothing


def test_a_server_that_breaks_is_left_in_the_middle(servers: list[Served]) -> None:
    with Endpoints(_address(*(one.url for one in servers)), retries=0) as model:
        _, used = _ask(model)
        broken, other = servers if used == "from one" else servers[::-1]
        broken.text, broken.faults, other.text = "one two three four five six", ["cut"] * 10, "whole"
        spoken, reply = _ask(model)
        assert reply == "whole"
        assert "whole" not in spoken
        assert _ask(model)[1] == "whole"


def test_all_other_machines_are_named_that_frames_may_go_to(servers: list[Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 0)
    with Endpoints(_address(servers[0].url, "http://gpu.example/v1", "http://other.example:8/v1")) as model:
        assert model.info.host == "gpu.example, other.example:8"
    with Endpoints(_address(*(one.url for one in servers))) as model:
        assert model.info.host == ""

"""What is not whole, or another key's, is not found."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.store.seal import read_sealed, seal, unseal, write_sealed


def opened(key: str, sealed: object) -> bytes | None:
    data = unseal(key, sealed)
    return None if data is None else bytes(data)


def test_every_changed_byte_breaks_a_seal() -> None:
    sealed = seal("key", b"some data")
    assert opened("key", sealed) == b"some data"
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert opened("key", bytes(changed)) is None
    for other in (None, b"", "text", 7, sealed[:-1], sealed + b"x"):
        assert opened("key", other) is None


def test_a_seal_is_of_one_key() -> None:
    assert opened("key", seal("other", b"data")) is None
    assert opened("keyd", seal("key", b"data")) is None
    assert opened("key", seal("keyd", b"ata")) is None
    assert opened("key\udcff", seal("key\udcff", b"")) == b""


def test_a_damaged_file_is_told_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache" / "entry"
    assert read_sealed(path) is None
    write_sealed(path, b"data")
    assert read_sealed(path) == b"data"
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[:-1])
    assert [read_sealed(path), read_sealed(path)] == [None, None]
    assert [str(path.parent) in line for line in caplog.messages] == [True]
    assert not path.exists()

"""What is not whole, or another key's, is not found."""

from __future__ import annotations

from sage_cli.store.seal import seal, unseal


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

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.store.content import fingerprint


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 15, 3_000_000])
def test_content_is_known_again_under_another_name(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(data)
    other.write_bytes(data)
    assert fingerprint(one) == fingerprint(other)
    assert len(fingerprint(one)) == 24


@pytest.mark.parametrize(
    "edit", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:], lambda data: data[:-1] + b"x"]
)
def test_an_edit_makes_another_content(tmp_path: Path, edit: object) -> None:
    data = bytes(i % 251 for i in range(3_000_000))
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(data)
    other.write_bytes(edit(data))  # type: ignore[operator]
    assert fingerprint(one) != fingerprint(other)

"""The rule for all that is read from the cache: an entry is used only if it is whole, and only under the key it was stored under.

A digest of the key and of the entry's bytes tells both. What a damaged disk changed, what was copied or renamed, and what another version
wrote in another way are then misses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import xxhash

from sage_cli.store.files import delete, read_file, report_damaged, write_whole
from sage_cli.store.private import private_folder

SIZE: Final = 16  # bytes of a digest


def digest(key: str) -> xxhash.xxh3_128:
    """A digest that has taken the key; update it with the entry's bytes."""
    return xxhash.xxh3_128(key.encode(errors="surrogateescape") + b"\0")


def seal(key: str, data: bytes) -> bytes:
    """The data of an entry behind its digest, which :func:`unseal` checks."""
    return _digest_of(key, data) + data


def unseal(key: str, sealed: object) -> memoryview | None:
    """The sealed data, not copied; ``None`` if it is damaged, another entry's, or was never sealed."""
    if not isinstance(sealed, bytes):
        return None
    data = memoryview(sealed)[SIZE:]
    return data if sealed[:SIZE] == _digest_of(key, data) else None


def write_sealed(path: Path, data: bytes) -> None:
    """Write a file that is sealed under its name, for :func:`read_sealed`. Makes its folder.

    Raises:
        OSError: it cannot be written.
    """
    private_folder(path.parent)
    write_whole(path, seal(path.name, data))


def read_sealed(path: Path) -> bytes | None:
    """The data of such a file; ``None`` if there is none, or if it cannot be read. A damaged one is reported and removed."""
    try:
        data = unseal(path.name, read_file(path))
    except OSError:
        return None
    if data is None:
        report_damaged(path.parent)
        delete([path])
        return None
    return bytes(data)


def _digest_of(key: str, data: bytes | memoryview) -> bytes:
    whole = digest(key)
    whole.update(data)
    return whole.digest()

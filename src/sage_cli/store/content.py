"""What a file is, whatever it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SAMPLES, _SAMPLE = 16, 1 << 15


def fingerprint(path: Path) -> str:
    """Identity of a file's content, 24 hexadecimal digits: from its size, both ends and samples between them.

    Takes milliseconds for gigabytes. The same content has the same id under any name; an edit that changes a media file or a model
    changes its size, its head or its index at the end, and so its id.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=12)
    with path.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE) * index // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()

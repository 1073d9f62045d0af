"""What a model computed from a video, on disk: frame embeddings, and the KV cells of whole prompt prefixes.

Both are keyed by content: the video's, the frame's time and size, the model files', the version of llama.cpp and the device. So an entry is
either exactly what would be computed again, or never found.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.store.content import fingerprint
from sage_cli.store.shelf import Shelf

if TYPE_CHECKING:
    from diskcache import Cache

logger = logging.getLogger(__name__)

EMBEDDINGS_LIMIT: Final = 4 << 30
PREFIXES_LIMIT: Final = 8 << 30

_CHECK: Final = 16  # bytes of digest in front of an embedding


class ModelCache:
    """The two stores in a folder. One that is damaged or cannot be written is done without, and that is logged once.

    Args:
        folder: made when it is needed; ``embeddings`` and ``prefixes`` inside it are ours.
        embeddings, prefixes: most bytes to keep of each; 0 keeps none.
        every_prefix: keep also a prefix that is quick to compute or pushes out most of the others.
    """

    def __init__(
        self, folder: Path, *, embeddings: int = EMBEDDINGS_LIMIT, prefixes: int = PREFIXES_LIMIT, every_prefix: bool = False
    ) -> None:
        self._embeddings = Shelf(folder / "embeddings", embeddings)
        self._prefixes = Shelf(folder / "prefixes", prefixes)
        self._every_prefix = every_prefix

    def close(self) -> None:
        self._embeddings.close()
        self._prefixes.close()

    # ---- embeddings ------------------------------------------------------------------------------------------------

    def embedding(self, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The embedding stored under ``key``, if it is there and whole."""
        data = self._embeddings.use(lambda cache: cache.get(key))
        if not isinstance(data, bytes) or len(data) != _CHECK + 4 * shape[0] * shape[1] or data[:_CHECK] != _digest(data[_CHECK:]):
            return None
        return np.frombuffer(data, np.float32, offset=_CHECK).reshape(shape)

    def keep_embedding(self, key: str, embedding: NDArray[np.float32]) -> bool:
        """Store an embedding; whether that was possible."""
        data = embedding.tobytes()
        return bool(self._embeddings.use(lambda cache: cache.set(key, _digest(data) + data)))

    # ---- prefixes --------------------------------------------------------------------------------------------------

    def prefix(self, key: str, load: Callable[[Path], bool]) -> bool:
        """Let ``load`` read the state file stored under ``key``; whether there was one and it could be read."""

        def read(cache: Cache) -> bool:
            file, known = cache.get(key, read=True, tag=True)
            if file is None:
                return False
            with file:
                path = Path(file.name)
                # Checked first: llama.cpp aborts the process over a state file that ends too soon.
                loaded = fingerprint(path) == known and load(path)
            if not loaded:
                logger.warning("a cached prompt prefix cannot be read; it is computed again")
                cache.delete(key)
            return loaded

        return bool(self._prefixes.use(read))

    def keep_prefix(self, key: str, size: int, save: Callable[[Path], bool], *, quick: bool = False) -> None:
        """Store what ``save`` writes, ``size`` bytes, if that is worth it: see ``every_prefix``.

        Args:
            quick: it takes little time to compute.
        """
        limit = self._prefixes.limit
        if size > (limit if self._every_prefix else limit // 2) or (quick and not self._every_prefix):
            return

        def write(cache: Cache) -> None:
            if key in cache:
                return
            handle, name = tempfile.mkstemp(dir=cache.directory, suffix=".state")
            os.close(handle)
            try:
                if save(Path(name)):
                    with Path(name).open("rb") as file:
                        cache.set(key, file, read=True, tag=fingerprint(Path(name)))
            finally:
                with suppress(OSError):
                    Path(name).unlink()

        self._prefixes.use(write)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK).digest()

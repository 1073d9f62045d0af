"""What a model computed from a video, on disk: frame embeddings, and the KV cells of whole prompt prefixes.

Both are keyed by content: the video's, the frame's time and size, the model files', the version of llama.cpp and the device. So an entry is
either exactly what would be computed again, or never found. Bounded, least recently used out first, shared by processes, safe to delete.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from diskcache import Cache, Timeout
from numpy.typing import NDArray

from sage_cli.store.content import content_id

logger = logging.getLogger(__name__)

EMBEDDINGS_LIMIT: Final = 4 << 30
PREFIXES_LIMIT: Final = 8 << 30

_CHECK: Final = 16  # bytes of digest in front of an embedding
_TROUBLE: Final = (sqlite3.Error, Timeout, OSError, EOFError, ValueError)
T = TypeVar("T")


class ModelCache:
    """The two stores in a folder. One that is damaged or cannot be written is done without, and that is logged once.

    Args:
        folder: made when it is needed; ``embeddings`` and ``prefixes`` inside it are ours.
        embeddings, prefixes: most bytes to keep of each; 0 keeps none.
    """

    def __init__(self, folder: Path, *, embeddings: int = EMBEDDINGS_LIMIT, prefixes: int = PREFIXES_LIMIT) -> None:
        self._embeddings = _open(folder / "embeddings", embeddings)
        self._prefixes = _open(folder / "prefixes", prefixes)
        self._prefix_limit = prefixes

    def close(self) -> None:
        for cache in (self._embeddings, self._prefixes):
            if cache is not None:
                cache.close()

    # ---- embeddings ------------------------------------------------------------------------------------------------

    def embedding(self, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The embedding stored under ``key``, if it is there and whole."""
        data = self._try("_embeddings", lambda cache: cache.get(key))
        if not isinstance(data, bytes) or len(data) != _CHECK + 4 * shape[0] * shape[1] or data[:_CHECK] != _digest(data[_CHECK:]):
            return None
        return np.frombuffer(data, np.float32, offset=_CHECK).reshape(shape)

    def keep_embedding(self, key: str, embedding: NDArray[np.float32]) -> None:
        data = embedding.tobytes()
        self._try("_embeddings", lambda cache: cache.set(key, _digest(data) + data))

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
                loaded = content_id(path) == known and load(path)
            if not loaded:
                logger.warning("a cached prompt prefix cannot be read; it is computed again")
                cache.delete(key)
            return loaded

        return bool(self._try("_prefixes", read))

    def keep_prefix(self, key: str, size: int, save: Callable[[Path], bool]) -> None:
        """Store what ``save`` writes, unless its ``size`` in bytes would push out most of the others."""
        if self._prefixes is None or size > self._prefix_limit // 2:
            return

        def write(cache: Cache) -> None:
            if key in cache:
                return
            handle, name = tempfile.mkstemp(dir=cache.directory, suffix=".state")
            os.close(handle)
            try:
                if save(Path(name)):
                    with Path(name).open("rb") as file:
                        cache.set(key, file, read=True, tag=content_id(Path(name)))
            finally:
                with suppress(OSError):
                    Path(name).unlink()

        self._try("_prefixes", write)

    # ----------------------------------------------------------------------------------------------------------------

    def _try(self, store: str, use: Callable[[Cache], T]) -> T | None:
        """Use one of the stores; the first trouble with it, a full disk or a damaged index, ends its use."""
        cache = getattr(self, store)
        if cache is None:
            return None
        try:
            return use(cache)
        except _TROUBLE as error:
            logger.warning("the cache in %s is not used: %s", cache.directory, error)
            setattr(self, store, None)
            return None


def _open(folder: Path, limit: int) -> Cache | None:
    if limit <= 0:
        return None
    try:
        return Cache(str(folder), size_limit=limit, eviction_policy="least-recently-used", cull_limit=2)
    except _TROUBLE as error:
        logger.warning("the cache in %s is not used: %s", folder, error)
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK).digest()

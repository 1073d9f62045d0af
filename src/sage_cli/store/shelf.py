"""A bounded folder of cached values, done without when there is trouble with it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from diskcache import Cache

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Shelf:
    """A diskcache: least recently used out first, shared by processes and threads, safe to delete.

    Args:
        folder: made when it is needed.
        limit: most bytes to keep; 0 keeps none.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self.limit = folder, limit
        self._cache: Cache | None = None
        self.usable = limit > 0

    def use(self, action: Callable[[Cache], T]) -> T | None:
        """What ``action`` makes of the cache, or ``None``: its first trouble (full disk, damaged index) is logged and ends its use."""
        if not self.usable:
            return None
        from diskcache import Cache, Timeout  # not at the top: whoever reads a video without remembering it need not wait for it

        try:
            if self._cache is None:
                self._cache = Cache(str(self._folder), size_limit=self.limit, eviction_policy="least-recently-used", cull_limit=2)
            return action(self._cache)
        except (sqlite3.Error, Timeout, OSError, EOFError, ValueError) as error:
            logger.warning("the cache in %s is not used: %s", self._folder, error)
            self.usable = False
            return None

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None

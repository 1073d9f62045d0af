"""What the web said, on disk for a while: the same question is not sent twice. Everything in the folder can be deleted at any time."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sage_cli.store.files import WEB, trim
from sage_cli.store.seal import read_sealed, write_sealed

LIMIT = 64 << 20  # bytes kept; the oldest go first

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WebCache:
    """A folder of answers, a sealed file each.

    Args:
        folder: created on first use, readable by this user only. If it cannot be written, nothing is cached.
        max_age_s: seconds that an answer is good for; ``None``: forever.
    """

    def __init__(self, folder: Path, max_age_s: float | None) -> None:
        self._folder, self._max_age_s = folder, max_age_s

    def get(self, make: Callable[[Any], T], *key: str) -> T | None:
        """The answer kept under this key as ``make`` makes it, ``None`` if there is none that is fresh enough and whole."""
        with suppress(TypeError, KeyError):  # another version's
            if stored := read_sealed(self._path(key)):
                at, value = json.loads(stored)
                if self._max_age_s is None or 0 <= time.time() - at < self._max_age_s:
                    return make(value)
        return None

    def put(self, value: Any, *key: str) -> None:
        try:
            write_sealed(self._path(key), json.dumps([time.time(), value]).encode())
            trim(self._folder, WEB, LIMIT)
        except OSError as error:
            _log.warning("web results are not kept: %s: %s", self._folder, error.strerror or error)

    def _path(self, key: tuple[str, ...]) -> Path:
        return self._folder / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]

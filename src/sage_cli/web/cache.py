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

from sage_cli.store.files import WEB, read_file, trim, write_whole
from sage_cli.store.private import private_folder

LIMIT = 64 << 20  # bytes kept; the oldest go first

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WebCache:
    """A folder of answers, a JSON file each.

    Args:
        folder: created on first use, readable by this user only. If it cannot be written, nothing is cached.
        max_age_s: seconds that an answer is good for; ``None``: forever.
    """

    def __init__(self, folder: Path, max_age_s: float | None) -> None:
        self._folder, self._max_age_s = folder, max_age_s

    def get(self, make: Callable[[Any], T], *key: str) -> T | None:
        """The answer kept under this key as ``make`` makes it, ``None`` if there is none that is fresh enough and whole."""
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            record = json.loads(read_file(self._path(key)))
            whole = record["digest"] == _digest(key, record["at"], record["value"])
            if whole and (self._max_age_s is None or 0 <= time.time() - record["at"] < self._max_age_s):
                return make(record["value"])
        return None

    def put(self, value: Any, *key: str) -> None:
        path = self._path(key)
        at = time.time()
        record = json.dumps({"key": key, "at": at, "value": value, "digest": _digest(key, at, value)}).encode()
        try:
            private_folder(self._folder)
            write_whole(path, record)
            trim(self._folder, WEB, LIMIT)
        except OSError as error:
            _log.warning("web results are not kept: %s: %s", self._folder, error.strerror or error)

    def _path(self, key: tuple[str, ...]) -> Path:
        return self._folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"


def _digest(key: tuple[str, ...], at: float, value: Any) -> str:
    """Tells whether a byte of an answer was changed on the disk."""
    return hashlib.blake2b(json.dumps([*key, at, value]).encode(), digest_size=16).hexdigest()

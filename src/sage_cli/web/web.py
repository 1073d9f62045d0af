"""Search and pages, remembered on disk for a while: the same question is not sent twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage_cli.store.files import WEB, report_unused, trim
from sage_cli.store.seal import read_sealed, write_sealed
from sage_cli.web.base import Asking, Found, Kind, Page, T, WebError
from sage_cli.web.search import search
from sage_cli.web.settings import WebSettings

if TYPE_CHECKING:
    from sage_cli.web.address import Network
    from sage_cli.web.fetch import Fetcher

LIMIT = 64 << 20  # bytes kept on disk; the oldest go first


class Web:
    """The web. Its methods are generators: each yields what is about to be sent, sends it when it is asked to go on, and returns what came.

    Args:
        settings: how it may be used.
        cache: folder of what it said before.
        network: how connections are made.

    Raises:
        UsageError: the search provider needs a key and there is none.
    """

    def __init__(self, settings: WebSettings, cache: Path, *, network: Network | None = None) -> None:
        self.settings = settings
        self._network = network
        # Offline, nothing fresher is available.
        self._cache = WebCache(cache, None if settings.offline else settings.max_age_s)
        if settings.provider in ("serper", "brave") and not settings.offline:
            settings.secret()

    @cached_property
    def _fetcher(self) -> Fetcher:
        from sage_cli.web.fetch import Fetcher  # takes a moment, and what is in the cache needs none of it

        return Fetcher(self.settings, self._network)

    def search(self, query: str, kind: Kind = "web", count: int = 3) -> Asking[list[Found]]:
        """Search.

        Returns:
            At most ``count`` results, best first.

        Raises:
            WebError: the search could not be made, or only by asking the web while offline.
        """
        key = ("search", self.settings.provider, self.settings.searxng_url or "", kind, str(count), query)
        if (kept := self._cache.get(lambda items: [Found(**item) for item in items], *key)) is not None:
            return kept
        self._online(f"the results of {query!r}")
        found = yield from search(self.settings, self._fetcher, query, kind, count)
        if found:
            self._cache.put([asdict(item) for item in found], *key)
        return found

    def read(self, address: str) -> Asking[Page]:
        """Fetch a page and take its text out.

        Raises:
            WebError: it may not or cannot be fetched, or there is no text in it.
        """
        from sage_cli.web.extract import extract, readable

        if (kept := self._cache.get(lambda fields: Page(**fields), "page", address)) is not None:
            return kept
        self._online(address)
        body = yield from self._fetcher.page(address, readable)
        page = extract(body.data, body.content_type, body.url)
        self._cache.put(asdict(page), "page", address)
        return page

    def _online(self, wanted: str) -> None:
        if self.settings.offline:
            raise WebError(f"{wanted} is not in the cache, and offline nothing else is asked")


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
            report_unused(self._folder, error)

    def _path(self, key: tuple[str, ...]) -> Path:
        return self._folder / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]

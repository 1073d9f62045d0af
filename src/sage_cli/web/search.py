"""Search providers: one without a key, two with, and the user's own SearXNG.

To add one: a class with ``search``, and a line in :func:`provider`.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from html import unescape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlencode, urlsplit

from sage_cli.hardware.waiting import in_thread
from sage_cli.text import without_surrogates
from sage_cli.web.base import Asking, Found, Kind, Request, WebError
from sage_cli.web.settings import WebSettings

if TYPE_CHECKING:
    from sage_cli.web.fetch import Fetcher

_TITLE, _SNIPPET, _LINK = 200, 600, 2000  # characters
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_ENTITY: Final = re.compile(r"&#?\w{1,40};")
_JSON: Final = MappingProxyType({"Accept": "application/json"})


class Provider(ABC):
    """A search provider."""

    @abstractmethod
    def search(self, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
        """Search.

        Returns:
            At most ``count`` results, best first; none is not a failure.

        Raises:
            WebError: the search could not be made.
        """


def provider(settings: WebSettings, fetcher: Fetcher) -> Provider:
    """The provider that the settings name.

    Raises:
        UsageError: it needs a key and there is none.
    """
    match settings.provider:
        case "serper":
            return Serper(fetcher, settings.secret())
        case "brave":
            return Brave(fetcher, settings.secret())
        case "searxng":
            return SearXNG(fetcher, settings.searxng_url or "")
        case "ddgs":
            return Ddgs(settings.timeout_s)


class Ddgs(Provider):
    """Search engines' pages for people, read by the ``ddgs`` package: no key, and no promise that it works tomorrow.

    One engine after the other until one has results, so that a query goes no further than it must. The package brings its own HTTP client,
    which talks to the engines alone.
    """

    _ENGINES: ClassVar[Mapping[str, tuple[tuple[str, str], ...]]] = {
        "web": (("duckduckgo", "html.duckduckgo.com"), ("brave", "search.brave.com"), ("mojeek", "www.mojeek.com")),
        "image": (("duckduckgo", "duckduckgo.com"), ("bing", "www.bing.com")),
    }

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def search(self, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
        from ddgs import DDGS
        from ddgs.exceptions import DDGSException

        engines = self._ENGINES[kind]
        failures = []
        for engine, host in engines:
            yield Request("search", host, query)
            asking = DDGS(timeout=max(round(self._timeout_s / len(engines)), 1), verify=os.environ.get("SSL_CERT_FILE") or True)
            ask = asking.text if kind == "web" else asking.images
            try:
                found = in_thread(partial(_ask, ask, query, max_results=count, backend=engine), self._timeout_s)
            except DDGSException as error:
                if "No results" not in str(error):
                    failures.append(host)
                continue
            except TimeoutError:
                failures.append(host)
                continue
            if results := _found(found, "title", ("body", "source"), ("href", "url"), count):
                return results
        if len(failures) == len(engines):
            raise WebError(f"no search engine can be reached ({', '.join(failures)})")
        return []


def _ask(ask: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What ddgs answers. All errors are the engine's, also panics of its HTTP client, which is in Rust: they are no ``Exception``."""
    from ddgs.exceptions import DDGSException

    try:
        return ask(*arguments, **named)
    except DDGSException:
        raise
    except BaseException as error:
        raise DDGSException(f"{type(error).__name__}: {error}") from error


class Serper(Provider):
    """Google's results, by serper.dev."""

    def __init__(self, fetcher: Fetcher, key: str) -> None:
        self._fetcher, self._key = fetcher, key

    def search(self, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
        host = "google.serper.dev"
        yield Request("search", host, query)
        answer = self._fetcher.call(
            f"https://{host}/{'search' if kind == 'web' else 'images'}",
            headers={**_JSON, "Content-Type": "application/json", "X-API-KEY": self._key},
            body=json.dumps({"q": query, "num": count}).encode(),
        )
        return _found(_list(answer, "organic" if kind == "web" else "images"), "title", ("snippet", "source"), ("link",), count)


class Brave(Provider):
    """Brave's own index, by its API."""

    def __init__(self, fetcher: Fetcher, key: str) -> None:
        self._fetcher, self._key = fetcher, key

    def search(self, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
        host = "api.search.brave.com"
        yield Request("search", host, query)
        answer = self._fetcher.call(
            f"https://{host}/res/v1/{'web' if kind == 'web' else 'images'}/search?{urlencode({'q': query, 'count': count})}",
            headers={**_JSON, "X-Subscription-Token": self._key},
        )
        found = _list(answer, "web", "results") if kind == "web" else _list(answer, "results")
        return _found(map(_unmarked, found), "title", ("description", "source"), ("url",), count)


class SearXNG(Provider):
    """The user's own instance: it may live at a private address, and alone knows whom it asks in turn."""

    def __init__(self, fetcher: Fetcher, url: str) -> None:
        self._fetcher, self._url = fetcher, url.rstrip("/")

    def search(self, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
        yield Request("search", urlsplit(self._url).hostname or "", query)
        words = {"q": query, "format": "json"} | ({"categories": "images"} if kind == "image" else {})
        try:
            answer = self._fetcher.call(f"{self._url}/search?{urlencode(words)}", headers=_JSON, private=True)
        except WebError as error:
            if " 403 " in str(error):
                raise WebError(f"{error}: let this SearXNG give JSON (search.formats in its settings.yml)") from error
            raise
        return _found(_list(answer, "results"), "title", ("content", "source"), ("url",), count)


def _list(answer: bytes, *path: str) -> list[Any]:
    """The list at this place of a JSON answer; a missing one is empty.

    Raises:
        WebError: it is no JSON answer.
    """
    try:
        value = json.loads(answer)
        for name in path:
            value = value.get(name) or {}
    except (ValueError, AttributeError, RecursionError):
        raise WebError("the search service's answer cannot be read") from None
    return value if isinstance(value, list) else []


def _found(items: Iterable[Any], title: str, snippets: tuple[str, ...], links: tuple[str, ...], count: int) -> list[Found]:
    """The items as results, under the first of the names that they use; without those that lead nowhere, or where another leads too."""
    results: dict[str, Found] = {}
    for item in items:
        if not isinstance(item, dict):
            continue
        link = _first(item, links)
        if link.lower().startswith(("http://", "https://")) and len(link) <= _LINK:
            found = Found(_line(_first(item, (title,)), _TITLE), _line(_first(item, snippets), _SNIPPET), link)
            results.setdefault(link, found)
    return list(results.values())[:count]


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return without_surrogates(next((value for name in names if isinstance(value := item.get(name), str) and value), ""))


def _line(text: str, length: int) -> str:
    return " ".join(text.split())[:length]


def _text(marked: str) -> str:
    """HTML as text. A character's number has at most seven digits: Python refuses to read thousands."""
    return _ENTITY.sub(lambda entity: unescape(entity[0]), _TAG.sub("", marked))


def _unmarked(item: Any) -> Any:
    """The same with its texts freed from markup."""
    if not isinstance(item, dict):
        return item
    return {name: _text(value) if isinstance(value, str) and name != "url" else value for name, value in item.items()}

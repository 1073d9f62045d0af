"""Searches by provider: one without a key, two with, and the user's own SearXNG.

To add one: a function here, and a line in :func:`search`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from html import unescape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from sage_cli.hardware.waiting import in_thread
from sage_cli.text import without_surrogates
from sage_cli.web.base import Asking, Found, Kind, Request, WebError
from sage_cli.web.settings import WebSettings

if TYPE_CHECKING:
    from sage_cli.web.fetch import Fetcher

logger = logging.getLogger(__name__)

_TITLE, _SNIPPET, _LINK = 200, 600, 2000  # characters
# What providers call a result's text and its address; an image without a text has a source.
_SNIPPETS: Final = ("body", "snippet", "description", "content", "source")
_LINKS: Final = ("href", "link", "url")
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_ENTITY: Final = re.compile(r"&#?\w{1,40};")
_JSON: Final = MappingProxyType({"Accept": "application/json"})
# The search engines that ddgs asks, as it calls them, and their hosts.
_ENGINES: Final[Mapping[Kind, tuple[tuple[str, str], ...]]] = {
    "web": (("duckduckgo", "html.duckduckgo.com"), ("brave", "search.brave.com"), ("mojeek", "www.mojeek.com")),
    "image": (("duckduckgo", "duckduckgo.com"), ("bing", "www.bing.com")),
}


def search(settings: WebSettings, fetcher: Fetcher, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
    """Search with the provider that the settings name.

    Returns:
        At most ``count`` results, best first; none is not a failure.

    Raises:
        WebError: the search could not be made.
        UsageError: it needs a key and there is none.
    """
    match settings.provider:
        case "serper":
            return (yield from _serper(settings, fetcher, query, kind, count))
        case "brave":
            return (yield from _brave(settings, fetcher, query, kind, count))
        case "searxng":
            return (yield from _searxng(settings, fetcher, query, kind, count))
        case "ddgs":
            return (yield from _ddgs(settings.timeout_s, query, kind, count))


def _ddgs(timeout_s: float, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
    """Search engines' pages for people, read by the ``ddgs`` package: no key, and no promise that it works tomorrow.

    One engine after the other until one has results, so that a query goes no further than it must. The package brings its own HTTP client,
    which talks to the engines alone. Its own loop over engines is not used: it takes a refusal for an answer without results, and asks all
    engines in place of one that it no longer knows.
    """
    refused, failed = [], []
    for engine, host in _ENGINES[kind]:
        yield Request("search", host, query)
        try:
            found = in_thread(partial(_ask, kind, engine, query, timeout_s / len(_ENGINES[kind])), timeout_s)
        except (WebError, TimeoutError) as error:
            logger.info("%s: %s", host, error)
            failed.append(host)
            continue
        if found is None:
            refused.append(host)
        elif results := _found(found, count):
            return results
    if len(refused) + len(failed) < len(_ENGINES[kind]):
        return []
    if refused:
        raise WebError(f"no search engine answers ({', '.join(refused)}): they may limit requests; wait, or use another --search-provider")
    raise WebError(f"no search engine can be reached ({', '.join(failed)})")


def _ask(kind: Kind, name: str, query: str, timeout_s: float) -> list[dict[str, Any]] | None:
    """What an engine answers; ``None`` if it refuses, as with status 429.

    Raises:
        WebError: for all errors, which are the engine's; also for panics of the HTTP client of ddgs, which is in Rust: no ``Exception``.
    """
    from ddgs.engines import ENGINES

    try:
        make = ENGINES["text" if kind == "web" else "images"][name]
        engine = make(os.environ.get("DDGS_PROXY"), max(round(timeout_s), 1), verify=os.environ.get("SSL_CERT_FILE") or True)
        found = engine.search(query)
        return None if found is None else [vars(one) for one in found]
    except BaseException as error:
        raise WebError(f"{type(error).__name__}: {error}") from error


def _serper(settings: WebSettings, fetcher: Fetcher, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
    """Google's results, by serper.dev."""
    host, key = "google.serper.dev", settings.secret()
    yield Request("search", host, query)
    answer = fetcher.call(
        f"https://{host}/{'search' if kind == 'web' else 'images'}",
        headers={**_JSON, "Content-Type": "application/json", "X-API-KEY": key},
        body=json.dumps({"q": query, "num": count}).encode(),
    )
    return _found(_list(answer, "organic" if kind == "web" else "images"), count)


def _brave(settings: WebSettings, fetcher: Fetcher, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
    """Brave's own index, by its API."""
    host, key = "api.search.brave.com", settings.secret()
    yield Request("search", host, query)
    answer = fetcher.call(
        f"https://{host}/res/v1/{'web' if kind == 'web' else 'images'}/search?{urlencode({'q': query, 'count': count})}",
        headers={**_JSON, "X-Subscription-Token": key},
    )
    found = _list(answer, "web", "results") if kind == "web" else _list(answer, "results")
    return _found(map(_unmarked, found), count)


def _searxng(settings: WebSettings, fetcher: Fetcher, query: str, kind: Kind, count: int) -> Asking[list[Found]]:
    """The user's own instance: it may live at a private address, and alone knows whom it asks in turn."""
    url = (settings.searxng_url or "").rstrip("/")
    yield Request("search", urlsplit(url).hostname or "", query)
    words = {"q": query, "format": "json"} | ({"categories": "images"} if kind == "image" else {})
    try:
        answer = fetcher.call(f"{url}/search?{urlencode(words)}", headers=_JSON, private=True)
    except WebError as error:
        if " 403 " in str(error):
            raise WebError(f"{error}: let this SearXNG give JSON (search.formats in its settings.yml)") from error
        raise
    return _found(_list(answer, "results"), count)


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


def _found(items: Iterable[Any], count: int) -> list[Found]:
    """The items as results; without those that lead nowhere, or where another leads too."""
    results: dict[str, Found] = {}
    for item in items:
        if not isinstance(item, dict):
            continue
        link = _first(item, *_LINKS)
        if link.lower().startswith(("http://", "https://")) and len(link) <= _LINK:
            found = Found(_line(_first(item, "title"), _TITLE), _line(_first(item, *_SNIPPETS), _SNIPPET), link)
            results.setdefault(link, found)
    return list(results.values())[:count]


def _first(item: Mapping[str, Any], *names: str) -> str:
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

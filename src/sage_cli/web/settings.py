"""How the web may be used, as one value that the environment, options and settings files fill."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from sage_cli.errors import UsageError
from sage_cli.store.keys import SERVICE, from_keyring
from sage_cli.text import is_key

ProviderName: TypeAlias = Literal["ddgs", "serper", "brave", "searxng"]


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How the web may be used. Whether it may be used at all is decided elsewhere: by making a :class:`.web.Web` or not.

    Attributes:
        provider: who searches; ``ddgs`` needs no key.
        key: of ``serper`` or ``brave``; ``None`` looks into the keyring.
        searxng_url: of the user's own SearXNG, the one address that may be private.
        robots: keep to what a host's robots.txt allows.
        offline: use the cache alone.
        max_age_s: seconds that a result or page in the cache is good for.
        timeout_s: seconds that a search or a page may take in all, retries and redirects included.
        max_bytes: most bytes of a page, compressed or not.
        backoff_s: seconds before the first retry; doubled with each.

    Raises:
        UsageError: the provider is unknown, or lacks what it needs.
    """

    provider: ProviderName = "ddgs"
    key: str | None = field(default=None, repr=False)
    searxng_url: str | None = None
    robots: bool = True
    offline: bool = False
    max_age_s: float = 7 * 24 * 3600.0
    timeout_s: float = 20.0
    max_bytes: int = 10 << 20
    backoff_s: float = 0.5

    def __post_init__(self) -> None:
        if self.provider not in get_args(ProviderName):
            raise UsageError(f"there is no search provider {self.provider!r}: choose one of {', '.join(get_args(ProviderName))}")
        if self.provider == "searxng":
            try:
                address = urlsplit(self.searxng_url or "")
            except ValueError:
                address = urlsplit("")
            if address.scheme not in ("http", "https") or not address.hostname:
                raise UsageError("searxng needs the address of your instance: give --searxng-url https://...")
            if "@" in address.netloc:
                raise UsageError("--searxng-url: a user name or password cannot be used: give the address without it")

    @classmethod
    def from_environment(cls, **given: Any) -> WebSettings:
        """What the command line has no options for comes from ``SAGE_SEARCH_KEY``, ``SAGE_WEB_ROBOTS`` and ``SAGE_WEB_MAX_AGE`` (hours)."""
        found = {
            "key": os.environ.get("SAGE_SEARCH_KEY"),
            "robots": _switch("SAGE_WEB_ROBOTS"),
            "max_age_s": _hours("SAGE_WEB_MAX_AGE"),
        }
        return cls(**{name: value for name, value in found.items() if value is not None} | given)

    def secret(self) -> str:
        """The provider's key.

        Raises:
            UsageError: there is none, or it cannot be sent.
        """
        key = self.key or from_keyring(self.provider)
        if not key:
            raise UsageError(f"{self.provider} needs a key: set SAGE_SEARCH_KEY, or `keyring set {SERVICE} {self.provider}`")
        if not is_key(key):
            raise UsageError(f"the key for {self.provider} holds a letter that no key has, such as a line break: was it pasted whole?")
        return key


def _switch(variable: str) -> bool | None:
    value = os.environ.get(variable, "").lower()
    if value in ("", "1", "true", "yes", "on"):
        return True if value else None
    if value in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{variable} is {value!r}: use 1 or 0")


def _hours(variable: str) -> float | None:
    value = os.environ.get(variable)
    try:
        return float(value) * 3600 if value else None
    except ValueError:
        raise UsageError(f"{variable} is {value!r}: give a number of hours") from None

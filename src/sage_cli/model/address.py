"""Where models are served, and the keys for it."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from sage_cli.errors import UsageError
from sage_cli.store.keys import from_keyring
from sage_cli.text import without_password

KEY_VARIABLE: Final = "SAGE_API_KEY"

_SHORTHAND: Final = "openai:"
_OPENAI: Final = "https://api.openai.com/v1"
_SCHEMES: Final = ("http://", "https://")
_BARE: Final = re.compile(r"(?:localhost|[\w-]+(?:\.[\w-]+)+|\[[0-9a-f:]+\]):\d+(?:[/#]|\Z)", re.IGNORECASE)  # a host and its port


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """Where a model is served.

    Attributes:
        url: up to and with ``/v1``.
        name: by which the server knows the model; ``""`` if it serves only one.
        others: where the same model is served as well.
        query: of the address, sent with every request.
    """

    url: str
    name: str = ""
    others: tuple[RemoteAddress, ...] = ()
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> RemoteAddress | None:
        """From ``http://HOST:PORT/v1``, ``http://HOST:PORT/v1#NAME`` or ``openai:NAME``, or several with commas; ``None`` for all else.

        Raises:
            UsageError: it is meant as an address, but has no host, or no scheme.
        """
        if _BARE.match(text):
            raise UsageError(f"{_shown(text)}: did you mean http://{_shown(text)}?")
        if not text.lower().startswith((_SHORTHAND, *_SCHEMES)):
            return None
        parts = [part.strip() for part in text.split(",")]
        # With a part that is no address, the comma may be a password's.
        several = all(part.lower().startswith((_SHORTHAND, *_SCHEMES)) for part in parts)
        first, *others = [cls._parse(part, _shown(part if several else text)) for part in parts]
        return replace(first, others=tuple(others))

    @classmethod
    def _parse(cls, text: str, shown: str) -> RemoteAddress:
        url, _, name = text.partition("#")
        if text.lower().startswith(_SHORTHAND):
            url, name = os.environ.get("OPENAI_BASE_URL") or _OPENAI, text[len(_SHORTHAND) :]
        try:
            parts = urlsplit(url)
            usable = parts.hostname and f"{parts.scheme}://" in _SCHEMES and parts.port != 0
        except ValueError:  # no such port
            usable = False
        if not usable:
            raise UsageError(f"{shown}: not an address; use http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME if it serves several models")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        return cls(urlunsplit((parts.scheme, parts.netloc, path, "", "")), name, query=parts.query)

    @property
    def each(self) -> tuple[RemoteAddress, ...]:
        """All addresses, each by itself."""
        return (replace(self, others=()), *self.others)

    @property
    def host(self) -> str:
        """With its port, as people write it; of several, all."""
        return ", ".join(urlsplit(one.url).netloc.rpartition("@")[2] for one in self.each)

    @property
    def outside(self) -> str:
        """The hosts that are other machines: what is sent to a model served at several addresses may go to each of them."""
        return ", ".join(one.host for one in self.each if not one.loopback)

    @property
    def shown(self) -> str:
        """The address without a password; of several, all."""
        return ", ".join(urlsplit(one.url)._replace(netloc=one.host).geturl() for one in self.each)

    @property
    def openai(self) -> bool:
        """Whether it is OpenAI's own service."""
        return self.url == _OPENAI

    @property
    def loopback(self) -> bool:
        """Whether it is this machine itself: then nothing leaves it."""
        return all(_is_loopback(urlsplit(one.url).hostname or "") for one in self.each)


def _shown(text: str) -> str:
    """What was given for an address, without what may be a password or, in the query, a key."""
    return without_password(text).partition("?")[0]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(address: RemoteAddress, variable: str = KEY_VARIABLE) -> str:
    """The key for a server, or ``""``.

    It is the environment variable's, for OpenAI itself ``OPENAI_API_KEY``, or what the keyring has for ``sage-cli HOST``.
    """
    if key := os.environ.get(variable):
        return key
    if address.openai and (key := os.environ.get("OPENAI_API_KEY")):
        return key
    return from_keyring(address.host)

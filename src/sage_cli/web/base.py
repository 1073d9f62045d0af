"""What the modules of this package exchange: requests, results and errors. Cheap to import."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from sage_cli.errors import SageError

T = TypeVar("T")

Kind: TypeAlias = Literal["web", "image"]
Purpose: TypeAlias = Literal["search", "page", "redirect", "robots"]

# Up to what no address has in it, or sentences in other languages have behind one.
_ADDRESS: Final = re.compile(
    r"https?://[^\s<>\"'`\\{}|^\u2018-\u201f\u2026\u3001\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f\u00ab\u00bb]+",
    re.IGNORECASE,
)


class WebError(SageError):
    """The web did not give what was asked of it, or must not be asked. The model reads it too."""


@dataclass(frozen=True, slots=True)
class Request:
    """Something that is about to leave this machine.

    Attributes:
        purpose: a search; a page; where that page sent us on to; or a host's rules for robots, read before its first page.
        host: who gets it.
        text: the words searched for, or the whole address.
    """

    purpose: Purpose
    host: str
    text: str


# Yields what is about to be sent; going on sends it, closing does not.
Asking: TypeAlias = Generator[Request, None, T]


@dataclass(frozen=True, slots=True)
class Found:
    """A search result. For images ``link`` is the page that shows the image."""

    title: str
    snippet: str
    link: str


@dataclass(frozen=True, slots=True)
class Page:
    """The readable part of a page.

    Attributes:
        url: where it was found in the end, after redirects.
        date: ``YYYY-MM-DD``, when it was published or last changed; ``None`` if it does not say.
    """

    url: str
    title: str
    text: str
    date: str | None


def addresses_in(text: str) -> list[str]:
    """The web addresses written out in a text, in order, without the punctuation that follows them."""
    return [_without_punctuation(match) for match in _ADDRESS.findall(text)]


def _without_punctuation(address: str) -> str:
    """Brackets that are opened in it belong to it: ``https://en.wikipedia.org/wiki/Alien_(film)``."""
    while address.endswith(tuple(".,;:!?")) or any(
        address.endswith(end) and address.count(end) > address.count(start) for start, end in ("()", "[]")
    ):
        address = address[:-1]
    return address

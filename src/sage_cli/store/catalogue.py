"""The catalogue of named models (``catalogue.toml``), and the names that ``sage models pull`` accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import tomlkit

from sage_cli.assets import NANO
from sage_cli.errors import ModelError, UsageError

HUB: Final = "hf:"

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        kind: ``"vision"`` answers questions, ``"speech"`` transcribes.
        checkpoint: the original on the Hub, whose GGUF conversions can be searched for.
        repositories: known GGUF repositories, the preferred one first.
        match: prefix of the file's name, where a repository holds several models.
        size: of the download, in bytes.
        kv: bytes of KV cache per token at 16 bits.
        slow: answers take minutes without a GPU.
    """

    name: str
    kind: Literal["vision", "speech"]
    about: str
    repositories: tuple[str, ...]
    size: int
    slow: bool
    kv: int = 0
    checkpoint: str = ""
    match: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as a user names it.

    Attributes:
        entry: its catalogue entry, if it has one.
        repositories: Hub repositories to try, in order.
        quantization: the one the user asked for; ``None`` for automatic selection.
    """

    entry: Entry | None
    repositories: tuple[str, ...]
    quantization: str | None

    @property
    def name(self) -> str:
        """The name it is installed under, usable as a file name."""
        base = self.entry.name if self.entry else self.repositories[0].replace("/", "--")
        return f"{base}-{self.quantization}" if self.quantization else base

    @property
    def match(self) -> str:
        return self.entry.match if self.entry else ""


@cache
def catalogue() -> dict[str, Entry]:
    """All entries by name, the best first."""
    data: dict[str, dict[str, Any]] = tomlkit.parse(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")).unwrap()
    return {name: Entry(name=name, **(fields | {"repositories": tuple(fields["repositories"])})) for name, fields in data.items()}


def parse(text: str) -> Reference:
    """Read ``NAME``, ``NAME:QUANT``, ``hf:OWNER/REPO`` or ``hf:OWNER/REPO:QUANT``.

    Raises:
        UsageError: it is none of them.
        ModelError: no such name is in the catalogue.
    """
    head, _, quantization = text.removeprefix(HUB).partition(":")
    if text.startswith(HUB):
        if not _REPOSITORY.fullmatch(head):
            raise UsageError(f"{text} is not a repository: write hf:OWNER/REPO, or hf:OWNER/REPO:QUANTIZATION")
        return Reference(None, (head,), quantization or None)
    if head == NANO.name:
        raise UsageError(f"{head} comes with the package: use it with --model {head}")
    if head not in catalogue():
        raise ModelError(f"no such model: {head}; {other_names(head)}")
    entry = catalogue()[head]
    return Reference(entry, entry.repositories, quantization or None)


def other_names(name: str) -> str:
    """What to write in place of a name that no model has."""
    near = get_close_matches(name, catalogue(), n=1)
    return f"did you mean {near[0]}?" if near else "'sage models list' shows all, hf:OWNER/REPO names any other"

"""Damage that decoding met, on disk: results in other caches spare the decoding, and must not hide the damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sage_cli.store.seal import read_sealed, write_sealed
from sage_cli.video.frame import pixel_version
from sage_cli.video.media import Part

_PARTS: Final[tuple[Part, ...]] = ("video", "audio")


class DamageCache:
    """A folder with a file for each damaged stream, which holds nothing but its seal. What cannot be written is not kept.

    Args:
        folder: created on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, media: str, part: Part) -> None:
        """Note damage of a stream of the file with this fingerprint."""
        with suppress(OSError):
            write_sealed(self._note(media, part), b"")

    def parts(self, media: str) -> Iterator[Part]:
        """The streams whose damage is known."""
        for part in _PARTS:
            note = self._note(media, part)
            if read_sealed(note) is not None:
                with suppress(OSError):  # notes are used last when their media is
                    os.utime(note)
                yield part

    def _note(self, media: str, part: Part) -> Path:
        return self._folder / f"{media}-{part}-{pixel_version()}"  # another FFmpeg may decode it

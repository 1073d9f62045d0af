"""Frames as pictures: what cannot be made is told in a line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sage_cli.cli import console
from sage_cli.cli.frames import _encoded
from sage_cli.errors import UsageError
from tests.media import make_audio


@pytest.mark.parametrize("more", [(), ("--width", "64"), ("--sheet", "sheet.png")])
def test_sound_has_no_frames(refusal: Callable[..., tuple[int, str]], tmp_path: Path, more: tuple[str, ...]) -> None:
    path = make_audio(tmp_path / "talk.wav", np.zeros(16000, np.float32), rate=16000)
    status, line = refusal("frames", path, "--at", "0.5", *more)
    assert (status, line.count("\n")) == (4, 1)
    assert "has sound but no picture" in line


@pytest.mark.parametrize(("suffix", "wide"), [(".webp", 16384), (".JPG", 65536)])
def test_a_sheet_larger_than_its_format_allows_is_refused(suffix: str, wide: int) -> None:
    with pytest.raises(UsageError, match=f"{wide}x1 pixels are too many for a {suffix} file"):
        _encoded(np.zeros((1, wide, 3), np.uint8), suffix)


def test_a_pipe_gets_names_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"caf\xe9\x1b.jpg"
    console.write_path(Path(os.fsdecode(name)))
    assert capfdbinary.readouterr().out.rstrip() == name

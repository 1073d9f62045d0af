"""What the speech tests share: a tiny whisper."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.speech import Transcriber
from tests.models.tiny_whisper import write_whisper


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "ggml-tiny.bin")


@pytest.fixture(scope="session")
def transcriber(model: Path) -> Transcriber:
    return Transcriber(model, threads=1)

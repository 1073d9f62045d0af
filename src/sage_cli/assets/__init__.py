"""Bundled files: the nano models (see ``nano/README.md``) and the demo's clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

ASSETS: Final = Path(__file__).parent
CLIPS: Final = ASSETS / "demo"


@dataclass(frozen=True, slots=True)
class Nano:
    """The nano SAGE-MM with its Whisper model, and the settings it was trained with, which it requires.

    Attributes:
        name: its name for ``--model``.
        about: what it is, in lists of models.
        folder: where the files are.
        frames: maximum frames per call.
        frame_tokens: vision tokens per frame pair; 9 are 96 by 96 pixels.
    """

    name: ClassVar[str] = "nano"
    about: ClassVar[str] = "bundled model of 'sage demo'; knows coloured shapes only"
    folder: Path = ASSETS / "nano"
    frames: int = 16
    frame_tokens: int = 9

    @property
    def text(self) -> Path:
        """The language model."""
        return self.folder / "sage-nano.gguf"

    @property
    def mmproj(self) -> Path:
        """The vision encoder."""
        return self.folder / "mmproj-sage-nano.gguf"

    @property
    def own_speech(self) -> Path:
        """Where the recipe puts the Whisper model it makes."""
        return self.folder / "ggml-sage-nano.bin"

    @property
    def speech(self) -> Path:
        """The Whisper model; the bundled one if the recipe made none."""
        return self.own_speech if self.own_speech.exists() else NANO.own_speech

    @property
    def prompts(self) -> Path:
        """Its prompt texts, a few words each."""
        return ASSETS / "nano" / "prompts"


NANO: Final = Nano()

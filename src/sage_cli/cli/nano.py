"""The nano model that comes with the package: what is said of it, and how it wants to be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sage_cli.cli import console

if TYPE_CHECKING:
    from sage_cli.agent import Settings
    from sage_cli.store import ModelFiles

ABOUT = (
    "nano knows coloured shapes and a few spoken words, and nothing of your footage: it is made for 'sage demo' and for tests. "
    "For your videos get a real model: 'sage models list' shows which"
)


def warn(files: ModelFiles, *, quiet: bool) -> None:
    """Say what the nano model is not, if it is the one to be used."""
    if files.bundled and not quiet:
        console.say(ABOUT)


def speech_model(given: str | None, files: ModelFiles) -> str | None:
    """The name of the Whisper model to use: the one given, else nano's own with nano."""
    return given or (files.bundled.name if files.bundled else None)


def as_trained(settings: Settings, files: ModelFiles) -> Settings:
    """The settings that the nano model was trained with, where the user gave none (0 frames); any other model's stay."""
    nano = files.bundled
    if nano is None:
        return settings
    return replace(
        settings,
        frames=settings.frames or nano.frames,
        frame_tokens=settings.frame_tokens or nano.frame_tokens,
        prompts=nano.name,
    )

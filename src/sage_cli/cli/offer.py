"""The first run: no model is installed; offers a download, and connects only after a yes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from sage_cli.cli import console
from sage_cli.errors import ModelError

if TYPE_CHECKING:
    from sage_cli.store.models import NotInstalledError

SPEECH = "whisper-base"


def offer(missing: NotInstalledError) -> str:
    """Ask once whether to download the missing model, and a speech model if none is installed; download both.

    Returns:
        The model's name.

    Raises:
        ModelError: there is no terminal to ask on, or the answer was no; the message names the command to run.
    """
    from sage_cli.cli.machine import recommended
    from sage_cli.model.devices import this_machine
    from sage_cli.store import find_speech_model

    name = missing.name or recommended(this_machine()).name
    names = [name] if find_speech_model(None) else [name, SPEECH]
    refusal = missing if missing.name else None
    return download_after_yes(names, refusal=refusal)[0]


def download_after_yes(names: list[str], *, yes: bool = False, refusal: ModelError | None = None) -> list[str]:
    """Say how large models are, and download them if the user agrees.

    Args:
        names: as ``sage models pull`` takes them.
        yes: the user agreed already.
        refusal: raised where nobody can be asked, or the answer is no; by default an error that names the command to run.

    Returns:
        The installed models' names.

    Raises:
        ModelError: see ``refusal``.
    """
    from rich.filesize import decimal

    from sage_cli.cli.models import download
    from sage_cli.store.catalogue import catalogue, parse

    refused = refusal or ModelError(f"no model: run 'sage models pull {' '.join(names)}', or give --model the path of a GGUF")
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise refused
    entries = [catalogue()[each] for each in (parse(names[0]).name, *names[1:]) if each in catalogue()]
    for entry in entries:
        console.say(f"{entry.name}: {entry.about} ({decimal(entry.size)})")
    size = f"about {decimal(sum(entry.size for entry in entries))}" if len(entries) == len(names) else names[0]
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").netloc
    if not yes and not typer.confirm(f"sage: not installed; download {size} from {host}?", default=True, err=True):
        raise refused
    return download(names)

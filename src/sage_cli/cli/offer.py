"""The first run: no model is installed; offers a download, and connects only after a yes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sage_cli.cli import console
from sage_cli.cli.consent import agreed, at_terminal, confirm
from sage_cli.errors import ModelError
from sage_cli.session.option import size_text

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
    none = f"no model: run 'sage models pull {' '.join(names)}', or give --model the path of a GGUF"
    refusal = missing if missing.name else ModelError(none)
    return download_after_yes(names, refusal=refusal)[0]


def download_after_yes(names: list[str], *, yes: bool = False, refusal: ModelError | None = None) -> list[str]:
    """Say how large models are, and download them if the user agrees.

    Args:
        names: as ``sage models pull`` takes them.
        yes: the user agreed already.
        refusal: what is told by a command that cannot do without them, if nobody can be asked or the answer is no.

    Returns:
        The installed models' names.

    Raises:
        ModelError: see ``refusal``.
        UsageError, typer.Exit: without a ``refusal``, as :func:`confirm` raises them.
    """
    from sage_cli.cli.models import download
    from sage_cli.store.catalogue import catalogue, parse

    if refusal and not at_terminal():
        raise refusal
    entries = [catalogue()[each] for each in (parse(names[0]).name, *names[1:]) if each in catalogue()]
    for entry in entries:
        console.say(f"{entry.name}: {entry.about} ({size_text(entry.size)})")
    size = f"about {size_text(sum(entry.size for entry in entries))}" if len(entries) == len(names) else names[0]
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").netloc
    if refusal is None:
        confirm(f"download {size} from {host}", yes=yes, default=True)
    elif not agreed(f"not installed; download {size} from {host}", default=True):
        raise refusal
    return download(names)

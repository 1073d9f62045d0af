"""``sage config``: save options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.complete import setting_names
from sage_cli.errors import SageError, UsageError
from sage_cli.session.options import settable

if TYPE_CHECKING:
    from sage_cli.session.option import Option

app = typer.Typer(
    name="config",
    help="Show and change settings.\n\nPrecedence: option, environment (SAGE_FRAMES), file, default.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage config set frames 64
  sage config unset frames
  sage config list
  SAGE_FRAMES=32 sage config get frames
  sage config edit
  sage config path""",
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as frames.", autocompletion=setting_names)]


@app.command()
def get(key: Key) -> int:
    """Print the value of a setting; an empty line if it is automatic."""
    from sage_cli.session.settings import in_effect, known

    key = known(key)
    value = in_effect()[key].value
    console.write("" if value is None else settable()[key].text(value))
    return 0


@app.command(name="set")
def set_(key: Key, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.")]) -> int:
    """Write a setting to the file.

    Comments in the file are kept. What the value names is looked for at once, and a path becomes absolute.
    """
    from sage_cli.session.settings import change, known

    change(key, _usable(known(key), value))
    warn_if_overridden(key)
    return 0


@app.command()
def unset(key: Key) -> int:
    """Remove a setting from the file; restores the default."""
    from sage_cli.session.settings import change

    change(key, None)
    warn_if_overridden(key)
    return 0


@app.command(name="list")
def list_(json: Annotated[bool, typer.Option("--json", help="Print one JSON object per setting.")] = False) -> int:
    """Show every setting, its value, and its source."""
    from sage_cli.session.settings import in_effect
    from sage_cli.store import config_path

    found = in_effect()
    if json:
        for key, (value, origin) in found.items():
            plain = value if value is None or isinstance(value, (bool, int, float)) else str(value)
            console.write(console.dumps({"key": key, "value": plain, "origin": origin}))
        return 0
    rows = []
    for key, (value, origin) in found.items():
        one = settable()[key]
        set_by = {"environment": one.variable, "file": "file", "default": ""}[origin]
        rows.append((key, set_by, (one.auto or "none") if value is None else one.text(value)))
    tables.table(("SETTING", "SET BY", "VALUE"), rows)
    console.write(f"\nfile: {config_path()}")
    return 0


@app.command()
def edit() -> int:
    """Open the file in an editor: VISUAL or EDITOR."""
    import os
    import shlex
    import subprocess
    import sys

    from sage_cli.session.settings import create, from_file
    from sage_cli.store import config_path

    named = (os.environ.get(variable, "").strip() for variable in ("VISUAL", "EDITOR"))
    editor = next(filter(None, named), "notepad" if os.name == "nt" else "vi")
    path = config_path()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):  # editors draw on stdout and wait for keys
        raise UsageError(f"no terminal to edit on: use 'sage config set', or edit {path}")
    if not path.exists():
        lines = (f"# {key} = {_example(one)}" for key, one in settable().items())
        create("# Settings of sage; 'sage help config' explains them.\n" + "\n".join(lines) + "\n")
    try:
        # Backslashes stand in paths on Windows; quotes are for the shell there, too.
        command = shlex.split(editor) if os.name != "nt" else [word.strip('"') for word in shlex.split(editor, posix=False)]
        status = subprocess.run([*command, str(path)], check=False).returncode
    except (OSError, ValueError) as error:  # ValueError: a quote that is not closed
        raise SageError(f"cannot start the editor {editor}: set VISUAL or EDITOR to another, or edit {path}") from error
    if status:
        raise SageError(f"the editor {editor} ended with status {status}")
    try:
        from_file()
    except UsageError as error:
        raise UsageError(f"{error}; commands that read the file fail until this is corrected") from error
    return 0


@app.command()
def path() -> int:
    """Print the path of the file, whether it exists or not."""
    from sage_cli.store import config_path

    console.write_path(config_path())
    return 0


def _usable(key: str, value: str) -> str:
    """The value of a setting, a path as one that is right from every folder.

    Raises:
        ModelError: there is no such model, and none to pull.
        UsageError: an address, prompts or a language that cannot be.
    """
    from pathlib import Path

    from sage_cli.assets import NANO
    from sage_cli.model.address import RemoteAddress
    from sage_cli.prompts import PACKS, Prompts
    from sage_cli.speech.whisper import check_language
    from sage_cli.store import NotInstalledError, find_model, find_speech_model
    from sage_cli.store.models import read_encoder
    from sage_cli.text import user_path

    names = PACKS if key == "prompts" else (NANO.name,)
    if not value.strip() or value in names or (key == "model" and RemoteAddress.parse(value)):
        return value
    path = found = user_path(value)
    try:
        match key:
            case "model":
                found = find_model(value).text
            case "speech-model":
                found = find_speech_model(value) or path
            case "mmproj":
                read_encoder(path)
            case "prompts":
                Prompts(path)
            case "language":
                check_language(value)
    except NotInstalledError as missing:
        found = Path()
        console.say(str(missing))
    # A name of an installed model stays one, even if a folder here has it, too.
    here = settable()[key].kind == "path" and path.exists() and path in (found, *found.parents)
    return str(path.absolute()) if here else value


def warn_if_overridden(key: str) -> None:
    """Say so if a setting that was just written has no effect."""
    import os

    from sage_cli.session.settings import known

    name = settable()[known(key)].variable
    if os.environ.get(name):
        console.say(f"{name} is set in the environment and overrides the file")


def _example(one: Option) -> str:
    """A value in TOML notation."""
    text = "" if one.default is None else one.text(one.default)
    return text if type(one.default) in (bool, int, float) and one.kind != "size" else f'"{text}"'

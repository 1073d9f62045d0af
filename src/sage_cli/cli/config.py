"""``sage config``: settings that need not be typed every time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import setting_names
from sage_cli.errors import SageError, UsageError

app = typer.Typer(
    name="config",
    help="Show and change settings.\n\nAn option given on the command line wins over the environment (SAGE_FRAMES), that over the file, "
    "that over the default.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage config set frames 64
  sage config list
  SAGE_FRAMES=32 sage config get frames""",
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as frames.", show_default=False, autocompletion=setting_names)]


@app.command()
def get(key: Key) -> int:
    """Print the value of a setting that is in effect; an empty line if it is decided when it is needed."""
    from sage_cli.store import config

    console.write(_text(config.get(key)))
    return 0


@app.command(name="set")
def set_(key: Key, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.", show_default=False)]) -> int:
    """Write a setting to the file.

    Comments in the file are kept.
    """
    from sage_cli.store import config

    config.change(key, value)
    _warn_if_overridden(key)
    return 0


@app.command()
def unset(key: Key) -> int:
    """Take a setting out of the file: its default holds again."""
    from sage_cli.store import config

    config.change(key, None)
    _warn_if_overridden(key)
    return 0


@app.command(name="list")
def list_(json: Annotated[bool, typer.Option("--json", help="One JSON object a setting.")] = False) -> int:
    """Show every setting, its value, and where that comes from."""
    from sage_cli.store import config, config_path

    found = config.settings()
    if json:
        for setting in found:
            value = setting.value if setting.value is None or isinstance(setting.value, (bool, int, float)) else str(setting.value)
            console.write(console.dumps({"key": setting.key, "value": value, "origin": setting.origin}))
        return 0
    origins = {"environment": "environment", "file": str(config_path()), "default": "default"}
    width = max(len(setting.key) for setting in found)
    for setting in found:
        value = "automatic" if setting.value is None else _text(setting.value)
        source = f"environment {config.variable(setting.key)}" if setting.origin == "environment" else origins[setting.origin]
        console.write(f"{setting.key:<{width}}  {value:<12}  {source}")
    return 0


@app.command()
def edit() -> int:
    """Open the file in an editor: VISUAL or EDITOR."""
    import os
    import shlex
    import subprocess

    from sage_cli.store import config, config_path

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        lines = (f"# {key} = {_example(key)}" for key in config.KEYS)
        path.write_text("# Settings of sage; 'sage help config' says what they mean.\n" + "\n".join(lines) + "\n", encoding="utf-8")
    try:
        status = subprocess.run([*shlex.split(editor, posix=os.name != "nt"), str(path)], check=False).returncode
    except OSError as error:
        raise SageError(f"cannot start the editor {editor}: set VISUAL or EDITOR to another, or edit {path}") from error
    if status:
        raise SageError(f"the editor {editor} ended with status {status}")
    try:
        config.from_file()
    except UsageError as error:
        raise UsageError(f"{error}; until it is mended no command that reads it works") from error
    return 0


@app.command()
def path() -> int:
    """Print where the file is, whether it exists or not."""
    from sage_cli.store import config_path

    console.write(str(config_path()))
    return 0


def _warn_if_overridden(key: str) -> None:
    import os

    from sage_cli.store import config

    name = config.variable(config.known(key))
    if os.environ.get(name):
        console.say(f"{name} is set in the environment and wins over the file")


def _example(key: str) -> str:
    """A value as it stands in TOML."""
    from sage_cli.store import config

    value = getattr(config.Config(), key.replace("-", "_"))
    return '""' if value is None else f'"{_text(value)}"' if type(value) not in (bool, int, float) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    readable = getattr(value, "human_readable", None)  # of a size
    return str(readable(separator=" ")) if readable else str(value)

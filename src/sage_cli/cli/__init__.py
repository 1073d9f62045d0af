"""The ``sage`` command. The only room that prints, colours or exits.

Start-up is part of the product: this module and the command modules it imports may import nothing beyond typer and the standard library.
A command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from sage_cli.cli import cache, config, console, models
from sage_cli.cli.ask import AskCommand, ask
from sage_cli.cli.bench import bench
from sage_cli.cli.doctor import doctor
from sage_cli.cli.help import help_
from sage_cli.cli.transcribe import transcribe
from sage_cli.errors import EXIT_INTERRUPTED, SageError
from sage_cli.version import __version__

HELP = ["-h", "--help"]

ASK_EXAMPLES = """[bold]Examples[/]
  sage ask talk.mp4 "Who speaks first?" "What is on the last slide?"
  sage ask talk.mp4 "What is she holding?" --start 12:30 --end 13:00
  sage ask talk.mp4 "What is it about?" --json | jq -r .answer
  sage ask talk.mp4 - --frames 64 < questions.txt"""
TRANSCRIBE_EXAMPLES = """[bold]Examples[/]
  sage transcribe talk.mp4 -o talk.srt
  sage transcribe *.mp4 -o subtitles/ -f vtt --skip-existing
  sage transcribe talk.mp4 --language de --translate"""
DOCTOR_EXAMPLES = """[bold]Examples[/]
  sage doctor
  sage doctor --quick --json | jq .advice"""
HELP_EXAMPLES = """[bold]Examples[/]
  sage help models
  sage help transcribe"""

app = typer.Typer(
    name="sage",
    help="Ask questions about videos, answered on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from sage_cli.cli.doctor import build_details

        console.write(f"sage {__version__}")
        for line in build_details():
            console.write(line)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and what it is built on, and exit.")
    ] = False,
) -> None:
    pass


app.command(cls=AskCommand, epilog=ASK_EXAMPLES)(ask)
app.command(epilog=TRANSCRIBE_EXAMPLES)(transcribe)
app.command()(bench)
app.add_typer(models.app)
app.command(epilog=DOCTOR_EXAMPLES)(doctor)
app.add_typer(config.app)
app.add_typer(cache.app)
app.command(name="help", epilog=HELP_EXAMPLES)(help_)


def main() -> NoReturn:
    """Run ``sage`` and exit. The one place where a failure becomes a line on stderr and an exit code."""
    console.prepare()
    status = _run()
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        status = console.output_closed()
    sys.exit(status)


def _run() -> int:
    if "_SAGE_COMPLETE" in os.environ:  # asked by the shell to complete a half-typed command
        return int(typer.main.get_command(app).main(prog_name="sage", standalone_mode=False) or 0)
    try:
        with parse(sys.argv[1:]) as context:
            return int(context.command.invoke(context) or 0)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        return _usage_error(error)
    except SageError as error:
        return _failure(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failure("interrupted", EXIT_INTERRUPTED, kind="")
    except BrokenPipeError:
        return console.output_closed()
    except OSError as error:  # a full disk, a folder that cannot be written: the machine's trouble, not a bug
        where = f"{error.filename}: " if error.filename else ""
        return _failure(f"{where}{error.strerror or error}", 1)
    except Exception as error:  # noqa: BLE001
        return _failure(f"unexpected {type(error).__name__}: {error} (this is a bug in sage; --debug shows where)", 1)


def parse(words: list[str]) -> Any:
    """A command line, taken apart and checked: the context in which its command can be invoked.

    Raises:
        typer.TyperException: there is no such command or option, or it cannot have this value.
        typer.Exit: it was ``--help`` or ``--version``, and is done.
        UsageError: the settings file says something that cannot be.
    """
    command, name = cast("TyperCommand | TyperGroup", typer.main.get_command(app)), "sage"
    # Straight to the command: on the way through the group typer imports pydantic, which takes as long as all the rest of its --help.
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        name = f"{name} {words[0]}"
        command, words = cast("TyperCommand | TyperGroup", command.commands[words[0]]), words[1:]
    defaults = {} if {*HELP} & {*words} else _settings(command)
    return command.make_context(name, words, default_map=defaults, help_option_names=HELP)


def _settings(command: TyperCommand | TyperGroup) -> dict[str, Any]:
    """What the user's settings say of a command's options: its ``SAGE_CTX_SIZE`` is their ``ctx-size``."""
    names = {
        str(option.envvar).removeprefix("SAGE_").replace("_", "-").lower(): str(option.name) for option in command.params if option.envvar
    }
    if not names:
        return {}
    from sage_cli.store.paths import config_path

    if not config_path().is_file():
        return {}
    from sage_cli.store.config import from_file

    return {names[key]: value for key, value in from_file().items() if key in names}


def _usage_error(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    if not error.format_message():  # no arguments at all: the help was shown
        return error.exit_code
    command = context.command_path if context else "sage"
    return _failure(f"{error.format_message().rstrip('.')} (see '{command} --help')", error.exit_code)


def _failure(message: str, status: int, kind: str = "error: ") -> int:
    if console.debugging and kind:
        import traceback

        traceback.print_exc()
    console.say(f"{kind}{message}")
    return status

"""The ``sage`` command. The only room that prints, colours or exits.

Start-up is part of the product: this module and the command modules it imports may import nothing beyond typer and the standard library.
A command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from sage_cli.cli import console
from sage_cli.errors import EXIT_INTERRUPTED, SageError
from sage_cli.version import __version__

HELP = ["-h", "--help"]

# In the order of the help. The module of the same name holds the function, or the `app` of its subcommands; it is imported when the command
# is called, or when all are listed.
COMMANDS = ("demo", "ask", "transcribe", "bench", "models", "doctor", "config", "cache", "help")


def application(names: Iterable[str] = COMMANDS) -> TyperGroup:
    """``sage`` with these commands."""
    app = typer.Typer(
        name="sage",
        help="Ask questions about videos, answered on this machine.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": HELP},
    )
    app.callback()(_options)
    for name in names:
        module = import_module(f"sage_cli.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app)
        else:
            options: dict[str, Any] = {"cls": getattr(module, "COMMAND", None), "epilog": getattr(module, "EXAMPLES", None)}
            app.command(name, **options)(getattr(module, name))
    return cast(TyperGroup, typer.main.get_command(app))


def _show_version(wanted: bool) -> None:
    if wanted:
        from sage_cli.cli.doctor import build_details

        console.write(f"sage {__version__}")
        for line in build_details():
            console.write(line)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and what it is built on, and exit.")
    ] = False,
) -> None:
    pass


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
        return int(application().main(prog_name="sage", standalone_mode=False) or 0)
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
    command: TyperCommand | TyperGroup = application(words[:1] if words and words[0] in COMMANDS else COMMANDS)
    name = "sage"
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

"""The ``sage`` command. The only package that prints, colours or exits.

Start-up must be fast: this module and the command modules import only typer and the standard library at the top. Commands import the rest
when they run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from sage_cli.cli import console
from sage_cli.cli.options import OptionsCommand, show_plainly
from sage_cli.errors import EXIT_INTERRUPTED, ModelError, SageError, UsageError, import_trouble, machine_trouble
from sage_cli.version import __version__

HELP = ["-h", "--help"]

START = """[bold]Start with[/]
  sage demo                              see it work, without a download
  sage ask video.mp4 "What happens?"     ask about a video of yours

[bold]Documentation[/]: sage help"""

# In the order of the help. The module of the same name defines the function, or the `app` of its subcommands; it is imported when the
# command is called, or when all are listed.
COMMANDS = (
    *("demo", "ask", "chat", "transcribe", "summary", "ground", "frames", "log", "open", "mcp"),
    *("bench", "setup", "models", "doctor", "config", "cache", "help"),
)

# What people call commands that no spelling leads to.
CALLED = {
    **dict.fromkeys(("chapters", "summarize", "summarise"), "summary"),
    **dict.fromkeys(("subtitles", "subs", "captions", "transcript"), "transcribe"),
    **dict.fromkeys(("find", "search", "locate"), "ground"),
    **dict.fromkeys(("screenshots", "stills", "images"), "frames"),
    **dict.fromkeys(("pull", "install", "download"), "models"),
    **dict.fromkeys(("serve", "server"), "mcp"),
    **dict.fromkeys(("settings", "set"), "config"),
    "history": "log",
    "play": "open",
    "check": "doctor",
    "benchmark": "bench",
}


# Typer reports invalid values in the words of pydantic.
_PYDANTIC = (
    ("Value error, ", ""),
    ("Input should be a valid integer.*", "expected a whole number"),
    ("Input should be a valid number.*", "expected a number"),
    (r"Input should be greater than or equal to (\S+)", r"expected \1 or more"),
    (r"Input should be less than or equal to (\S+)", r"expected \1 or less"),
)


def application(names: Iterable[str] = COMMANDS, *, listed_only: bool = False) -> TyperGroup:
    """``sage`` with these commands.

    Args:
        listed_only: commands have a name and a description, which is all that ``sage --help`` needs; building their parameters takes long.
    """
    app = typer.Typer(
        name="sage",
        help="Ask questions about videos, answered on this machine.",
        epilog=START,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": HELP},
    )
    app.callback()(_options)
    for name in names:
        module = import_module(f"sage_cli.cli.{name}")
        if listed_only:
            app.command(name)(_listed(module.app.info.help if hasattr(module, "app") else getattr(module, name).__doc__))
        elif hasattr(module, "app"):
            app.add_typer(module.app)
        else:
            app.command(name, cls=OptionsCommand, epilog=getattr(module, "EXAMPLES", None))(getattr(module, name))
    group = cast(TyperGroup, typer.main.get_command(app))
    for command in _leaves(group):
        _share_examples(command)
        show_plainly(command)
    return group


def _listed(about: str) -> Callable[[], None]:
    def command() -> None: ...

    command.__doc__ = about
    return command


def _leaves(command: Any) -> Iterator[Any]:
    for child in getattr(command, "commands", {}).values():
        yield from _leaves(child)
    yield command


def _share_examples(group: Any) -> None:
    """End the help of each subcommand with the examples of it among its group's."""
    head, *lines = (group.epilog or "").splitlines() or [""]
    for name, child in getattr(group, "commands", {}).items():
        if own := [line for line in lines if f"sage {group.name} {name} " in f"{line} "]:
            child.epilog = "\n".join([head, *own])


def _show_version(wanted: bool) -> None:
    if wanted:
        from sage_cli.cli.doctor import build_details

        console.write(f"sage {__version__}")
        for line in build_details():
            console.write(line)
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", is_eager=True, callback=_show_version, help="Show versions and exit."),
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours; works everywhere.")] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run ``sage`` and exit. The one place where a failure becomes a line on stderr and an exit code."""
    console.prepare()
    status = _run()
    console.tell_replaced()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = console.output_closed()
    except OSError:  # a full disk, or stdout was closed from the start
        console.output_closed()
        status = status or 1
    # CPython remembers a KeyboardInterrupt in code that a library runs from a string (namedtuple, pydantic), even a handled one, and ends
    # `python -m sage_cli` by SIGINT instead of with this status. Running another string makes it forget.
    exec("")
    sys.exit(status)


def _run() -> int:
    if "_SAGE_COMPLETE" in os.environ:  # the shell asks for completions
        with suppress(KeyboardInterrupt):  # whose line is the user's prompt
            return int(application().main(prog_name="sage", standalone_mode=False) or 0)
        return EXIT_INTERRUPTED
    _set_up_completion(sys.argv[1:])
    try:
        with parse(_without_colours(sys.argv[1:])) as context:
            _begin(context.params)
            return int(context.command.invoke(context) or 0)
    except typer.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich's error when the reader of its output is gone
            return console.output_closed()
        raise
    except typer.TyperException as error:
        return _usage_error(error)
    except SageError as error:
        return _failure(str(error), error.exit_code, error.code)
    except KeyboardInterrupt:
        return _failure("interrupted", EXIT_INTERRUPTED, "interrupted")
    except BrokenPipeError:
        return console.output_closed()
    except (OSError, MemoryError) as error:  # a full disk, a folder without write permission: not a bug
        return _failure(machine_trouble(error), 1)
    except ImportError as error:
        return _failure(import_trouble(error), ModelError.exit_code, ModelError.code)
    except Exception as error:  # noqa: BLE001
        return _failure(f"unexpected {type(error).__name__}: {error} (this is a bug in sage; --debug shows where)", 1, "bug")


def _begin(given: Mapping[str, Any]) -> None:
    """What every command begins with.

    Args:
        given: its parameters, by name.
    """
    console.log(verbose=bool(given.get("verbose")), debug=bool(given.get("debug")), quietly=bool(given.get("quiet")))
    if any(name.startswith("SAGE_") for name in os.environ):
        from sage_cli.session.settings import misspelt

        for variable, near in misspelt().items():
            console.note(f"{variable} has no effect: did you mean {near}?")


def _set_up_completion(words: list[str]) -> None:
    """Let ``--show-completion`` and ``--install-completion`` take a shell's name, if one is given, and mend typer's script for zsh.

    Typer has either options without a value, for the shell that is running, or, with this variable, options that need one.
    """
    option, _, shell = " ".join(words[:2]).replace("=", " ", 1).partition(" ")
    if option not in ("--show-completion", "--install-completion"):
        return
    if shell and not shell.startswith("-"):
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    from sage_cli.cli.complete import complete_at_once

    complete_at_once()


def _without_colours(words: list[str]) -> list[str]:
    """Handle ``--no-color``, at any position, by the environment: typer's help checks that before options are parsed."""
    end = words.index("--") if "--" in words else len(words)
    if "--no-color" not in words[:end]:
        return words
    os.environ["NO_COLOR"] = "1"
    return [*(word for word in words[:end] if word != "--no-color"), *words[end:]]


def parse(words: list[str]) -> Any:
    """Parse and check a command line; return the context in which its command can be invoked.

    Raises:
        typer.TyperException: unknown command or option, or an invalid value.
        typer.Exit: ``--help`` or ``--version`` was given, and has been printed.
        UsageError: a command has another name.
    """
    if meant := CALLED.get(words[0]) if words else None:
        raise UsageError(f"no such command {words[0]!r}. Did you mean {meant!r}? (see 'sage --help')")
    one = bool(words) and words[0] in COMMANDS
    command: TyperCommand | TyperGroup = application(
        words[:1] if one else COMMANDS, listed_only=all(word.startswith("-") for word in words)
    )
    name = "sage"
    # Go to the command directly: through the group, typer imports pydantic, which doubles the time of --help.
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        name = f"{name} {words[0]}"
        command, words = cast("TyperCommand | TyperGroup", command.commands[words[0]]), words[1:]
    return command.make_context(name, words, help_option_names=HELP)


def _usage_error(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    if not error.format_message():  # no arguments: the help was shown
        return error.exit_code
    command = context.command_path if context else " ".join(["sage", *(word for word in sys.argv[1:2] if word in COMMANDS)])
    message = error.format_message().rstrip(".")
    for pattern, plain in _PYDANTIC:
        message = re.sub(pattern, plain, message)
    return _failure(f"{message[:1].lower()}{message[1:]} (see '{command} --help')", error.exit_code, UsageError.code)


def _failure(message: str, status: int, code: str = SageError.code) -> int:
    """Report a failure on stderr and, if results are JSON, on stdout too."""
    if console.debugging and code != "interrupted":
        import traceback

        print(console.neutral(traceback.format_exc()), end="", file=sys.stderr)
    console.say(message if code == "interrupted" else f"error: {message}")
    with suppress(OSError, SageError):
        console.write_error(console.json_wanted(sys.argv[1:]), message, code, status)
    return status

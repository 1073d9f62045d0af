"""Command-line options: typer signatures generated from :class:`sage_cli.session.options.Options`.

Typer parses words and flags only. The session checks values and reports invalid ones.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from sage_cli.cli import complete, console
from sage_cli.cli.usage import plain_help
from sage_cli.errors import UsageError
from sage_cli.session.option import Option
from sage_cli.session.options import Options, declared, taken_by

Command = Callable[..., int]

LONGEST_METAVAR = 15  # characters; more leaves too little space for the help at 80 columns


def argument(metavar: str, help: str) -> Any:
    """An argument of text."""
    return typer.Argument(metavar=metavar, help=help, parser=str)  # not by typer's string type, which rejects file names that are not UTF-8


def takes(command: str) -> Callable[[Command], Command]:
    """Replace a function's parameter ``options`` by all options of a command; the function receives the checked options."""

    def decorate(function: Command) -> Command:
        taken = taken_by(command)
        own = [one for one in inspect.signature(function, eval_str=True).parameters.values() if one.name != "options"]
        parameters = [*own, *map(_parameter, taken)]
        if any(one.advanced for one in taken):
            parameters.append(_help_all())

        @wraps(function)
        def run(**given: Any) -> int:
            return function(**{one.name: given[one.name] for one in own}, options=checked(command, given))

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def checked(command: str, given: Mapping[str, Any]) -> Options:
    """The options that typer parsed, completed from the environment and the settings file.

    Raises:
        UsageError: a value is invalid.
    """
    from sage_cli.session import load_options

    taken = taken_by(command)
    # Typer gives an empty list for an option that is absent.
    return load_options(
        {one.name: one.flag for one in taken}, **{one.name: given[one.name] if given[one.name] != [] else None for one in taken}
    )


def check_forms(options: Options, form: str = "text") -> None:
    """Check that output is asked for in one form.

    Args:
        form: the value of ``--as``.

    Raises:
        UsageError: two options exclude each other.
    """
    named, as_json = form not in ("text", "json"), form == "json"
    given = {f"--as {form}": named, "--json": options.json and not as_json, "--jsonl": options.jsonl}
    given["--schema"] = named and options.schema is not None
    if len(both := [flag for flag, is_given in given.items() if is_given]) > 1:
        raise UsageError(f"{both[0]} and {both[1]} exclude each other: choose one")


def output_form(options: Options) -> Literal["text", "json", "jsonl"]:
    """The form of output that ``--json`` or ``--jsonl`` asks for."""
    return "json" if options.json else "jsonl" if options.jsonl else "text"


class OptionsCommand(TyperCommand):
    """Allows options without their value, ``--web`` for ``--web=on``; typer itself has no optional values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        alone = {one.flag: one for one in declared().values() if one.alone}

        def complete(at: int, word: str) -> str:
            one = alone.get(word) if at < end else None
            return word if one is None or args[at + 1 : at + 2] in [[value] for value in one.choices] else f"{word}={one.alone}"

        return super().parse_args(ctx, [complete(at, word) for at, word in enumerate(args)])


class Argument(TyperArgument):
    """An argument whose help shows its name only, without braces and type."""

    def display_type_rich(self, ctx: Any) -> str | None:
        return None

    def get_usage_pieces(self, ctx: Any) -> list[str]:
        return [self.metavar or self.name.upper()]


class PlainOption(TyperOption):
    """An option whose help shows its metavar, without type and bounds; a flag has none."""

    def display_type_rich(self, ctx: Any) -> str | None:
        return None if self.is_flag else self.metavar

    def _get_number_range_help_str(self) -> str | None:
        return None


def show_plainly(command: Any) -> None:
    """Make the help of a command readable at 80 columns: plain arguments and options, paragraphs set to the terminal's width. Boxes are
    for terminals that can draw them."""
    command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")
    for one in command.params:
        if isinstance(one, TyperArgument):
            one.__class__ = Argument
        elif isinstance(one, TyperOption):
            one.__class__ = PlainOption
            _describe_value(one)
    make = command.get_help_option

    def without_type(ctx: Any) -> Any:
        option = make(ctx)
        if isinstance(option, TyperOption):
            option.__class__ = PlainOption
        return option

    command.get_help_option = without_type
    boxed = command.format_help

    def format_help(ctx: Any, formatter: Any) -> None:
        if console.draws():
            boxed(ctx, formatter)
        else:
            console.write(plain_help(command, ctx))  # as typer does with boxes: what it asks for the text of, it takes for an error's

    command.format_help = format_help


def _describe_value(one: TyperOption) -> None:
    """Add to an option's help what typer would put into brackets: long lists of choices, and the default."""
    if choices := getattr(one.type_descriptor, "choices", None):
        one.metavar, told = _choices_text(tuple(map(str, choices)))
        one.help = f"{one.help}{told}"
    if one.show_default and one.default not in (None, False):
        one.help = f"{one.help} Default: {one.default}."
    one.show_default = False


def _choices_text(choices: tuple[str, ...]) -> tuple[str, str]:
    """The metavar of choices, and what the help says of them."""
    text = "|".join(choices)
    return (text, "") if len(text) <= LONGEST_METAVAR else ("NAME", f" One of: {', '.join(choices)}.")


# ---- declarations ------------------------------------------------------------------------------------------------


def _parameter(one: Option) -> inspect.Parameter:
    kind: Any = bool | None if one.switch else list[str] | None if one.many else str | None
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, _typer_option(one)])


def _typer_option(one: Option) -> Any:
    metavar, choices = ("", "") if one.metavar else _choices_text(one.choices)
    return typer.Option(
        *one.spelled,
        rich_help_panel=one.panel or None,
        help=f"{one.about}{choices}",
        hidden=one.advanced,
        metavar=one.metavar or metavar or None,
        autocompletion=_completion(one),
        parser=None if one.switch else str,  # as for an argument
    )


def _completion(one: Option) -> Callable[[str], complete.Completions] | None:
    if one.complete:
        found: Callable[[str], complete.Completions] = getattr(complete, one.complete)
        return found

    def choices(incomplete: str) -> complete.Completions:
        return [(choice, "") for choice in one.choices]

    return choices if one.choices else None


def _help_all() -> inspect.Parameter:
    declaration = typer.Option("--help-all", is_eager=True, expose_value=False, callback=_show_all, help="Show all options and exit.")
    return inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, declaration])


def _show_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        for one in context.command.params:
            one.hidden = False  # type: ignore[attr-defined]
        if text := context.get_help():
            console.write(text)
        raise typer.Exit

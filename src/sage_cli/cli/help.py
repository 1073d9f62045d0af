"""``sage help TOPIC``: what does not belong to a single command."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import help_topics
from sage_cli.errors import UsageError

EXAMPLES = """[bold]Examples[/]
  sage help models
  sage help transcribe"""

TOPICS = Path(__file__).with_name("topics")


def help(
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]", help="A topic, or a command.", show_default=False, autocompletion=help_topics),
    ] = None,
) -> int:
    """Explain a topic or a command; without TOPIC, list them.

    Topics are models, config, cache, scripting and examples.
    """
    if not topic:
        console.write("\n".join(f"{name:<12} {summary}" for name, summary in topics().items()))
        console.write("\nsage help TOPIC shows one of these, sage COMMAND --help a command.")
        return 0
    path = TOPICS / f"{topic[0]}.md"
    if len(topic) == 1 and topic[0] in topics():
        _show(path.read_text(encoding="utf-8"))
        return 0
    return _command(topic)


def topics() -> dict[str, str]:
    """Names and titles, in the order of the names."""
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in sorted(TOPICS.glob("*.md"))}


def _command(words: list[str]) -> int:
    """The help of a command, as ``--help`` shows it."""
    from sage_cli.cli import COMMANDS, parse

    if words[0] not in COMMANDS:
        near = get_close_matches(words[0], [*topics(), *COMMANDS], n=1)
        raise UsageError(f"no such topic or command: {words[0]}{f', did you mean {near[0]}?' if near else ''} ('sage help' lists them)")
    parse([*words, "--help"])
    return 0


def _show(text: str) -> None:
    """Markdown is made to be read as it is; on a terminal it is set."""
    if not sys.stdout.isatty():
        console.write(text.rstrip())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    terminal = Console(highlight=False)
    terminal.print(Markdown(text), width=min(terminal.width, 100))

"""``sage help TOPIC``: the pages of ``docs/``, which are installed with the package."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.complete import Completions, quietly
from sage_cli.errors import UsageError
from sage_cli.text import is_link

if TYPE_CHECKING:
    from markdown_it.token import Token

EXAMPLES = """[bold]Examples[/]
  sage help models
  sage help transcribe"""

INSTALLED = Path(__file__).parents[1] / "docs"  # a wheel's copy of the folder `docs` (see pyproject.toml)
DOCS = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[3] / "docs"


@quietly
def help_topics(incomplete: str) -> Completions:
    """Topics and commands."""
    from sage_cli.cli import application

    return [*({name: command.get_short_help_str() for name, command in application().commands.items()} | topics()).items()]


def help(
    topic: Annotated[list[str] | None, typer.Argument(metavar="[TOPIC]", help="A topic, or a command.", autocompletion=help_topics)] = None,
) -> int:
    """Show a page of the documentation.

    Without TOPIC, lists the pages. TOPIC may also be a command.
    """
    if not topic:
        tables.facts(topics().items())
        console.write("\n'sage help TOPIC' shows a page, 'sage COMMAND --help' a command's options.")
        return 0
    if len(topic) == 1 and (page := _pages().get(topic[0])):
        _show(_page(page))
        return 0
    return _command(topic)


def topics() -> dict[str, str]:
    """Titles of the pages by name, in alphabetical order."""
    return {name: _title(_page(path)) for name, path in sorted(_pages().items())}


def _pages() -> dict[str, Path]:
    return {path.stem: path for path in DOCS.glob("*.md") if path.stem.islower()}


def _page(path: Path) -> str:
    """The Markdown of a page, without the note in front of a generated one."""
    return re.sub(r"\A<!--.*?-->\s*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def _title(text: str) -> str:
    return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), "")


def _command(words: list[str]) -> int:
    """The help of a command, as ``--help`` shows it."""
    from sage_cli.cli import CALLED, COMMANDS, parse

    if words[0] not in COMMANDS:
        near = [CALLED[words[0]]] if words[0] in CALLED else get_close_matches(words[0], [*topics(), *COMMANDS], n=1)
        raise UsageError(f"no such topic or command: {words[0]}{f', did you mean {near[0]}?' if near else ''} (see 'sage help')")
    parse([*words, "--help"])
    return 0


def _show(text: str) -> None:
    """Print Markdown: formatted on a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        console.write(text.rstrip())
        return
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Markdown, TableElement

    class Folded(TableElement):
        """A table whose cells are never cut."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                for column in table.columns:  # type: ignore[union-attr]
                    column.overflow = "fold"
                yield table

    class Page(Markdown):
        elements = Markdown.elements | {"table_open": Folded}

        def __init__(self, text: str) -> None:
            super().__init__(text)
            for block in self.parsed:
                block.children = _without_files(block.children or [])

    terminal = console.screen()
    terminal.print(Page(text), width=min(terminal.width, 100))


def _without_files(tokens: Sequence[Token]) -> list[Token]:
    """Inline Markdown of which all links lead somewhere from a terminal: a link to another page names the command that shows it, and of
    files that are not installed, such as pictures, the text is left."""
    from markdown_it.token import Token

    left: list[Token] = []
    pages = _pages()
    page: str | None = None  # that the link being read leads to; empty if to none
    for token in tokens:
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if token.type == "link_close" and page is not None:
            if page:
                command = Token("code_inline", "code", 0, content=f"sage help {page}")
                left += [Token("text", "", 0, content=" ("), command, Token("text", "", 0, content=")")]
            page = None
        elif not target or is_link(target):
            left.append(token)
        elif token.type == "image":
            left.append(Token("text", "", 0, content=token.content))
        else:
            page = name if (name := target.partition("#")[0].removesuffix(".md")) in pages else ""
    return left

"""``sage mcp``: videos for coding agents, by the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sage_cli.cli import console
from sage_cli.cli.options import takes
from sage_cli.errors import ExtraError, ModelError, UsageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from sage_cli.session import Session


EXAMPLES = """[bold]Examples[/]
  sage mcp ~/Videos                       # what a client starts
  claude mcp add sage -- sage mcp ~/Videos
  sage mcp --skill > .claude/skills/sage/SKILL.md"""


@takes("mcp")
def mcp(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="FOLDER...", help="Folders whose files may be opened. Default: this one.")
    ] = None,
    skill: Annotated[bool, typer.Option("--skill", help="Print a skill file for coding agents and exit.")] = False,
    *,
    options: Options,
) -> int:
    """Serve videos to coding agents.

    A server of the Model Context Protocol on stdin and stdout, with the tools list_videos, ask, transcribe, summary, find_event, frames
    and list_models. The model is loaded by the first question and stays loaded. Nothing outside the folders is opened.
    """
    if skill:
        console.write((Path(__file__).parents[1] / "mcp" / "SKILL.md").read_text(encoding="utf-8").rstrip())
        return 0
    console.need_stdout()
    if options.web == "ask":
        raise UsageError("sage mcp has nobody to ask, as --web=ask does: use --web, or --web=off")
    try:
        import mcp as _sdk  # noqa: F401
    except ImportError:
        raise ExtraError("sage mcp needs the MCP SDK", "mcp") from None

    from sage_cli.hardware.memory import limit_heaps
    from sage_cli.mcp import Folders, run
    from sage_cli.session import Session
    from sage_cli.text import user_path

    limit_heaps()
    allowed = Folders([user_path(folder) for folder in folders or ["."]])
    with Session(options) as session:
        _check(session)
        console.note(f"serving {allowed} on stdin and stdout; a client such as a coding agent starts this command itself")
        run(session, allowed)
    return 0


def _check(session: Session) -> None:
    """Find at once what every call would fail for: who starts the server sees it, and the agent that calls it cannot mend it.

    Raises:
        SageError: an option cannot be used, or a model that was named is not there.
    """
    options = session.options
    _ = session.allowed_tools
    if options.speech_model is not None:
        _ = session.speech_file
    try:
        _ = session.settings
    except ModelError as error:
        if options.model is not None or options.mmproj is not None:
            raise
        # Transcripts and frames need none, and one may be pulled meanwhile.
        console.note(f"questions cannot be answered yet: {error}")

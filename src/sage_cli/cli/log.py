"""``sage log``: earlier questions and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.consent import Yes, confirm
from sage_cli.errors import SageError, UsageError
from sage_cli.text import STDIN, from_argument, user_path

if TYPE_CHECKING:
    from sage_cli.session import Session
    from sage_cli.session.log import Entry
    from sage_cli.video import Video

app = typer.Typer(
    name="log",
    help="Show earlier questions and answers.\n\n`sage ask` and `sage chat` keep them in a file that only you can read. "
    "`sage config set log false` turns that off.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage log list --count 5
  sage log list --json
  sage log search train station -n 3 --json
  sage log show 12 --report talk.html
  sage log show 12 --json
  sage log clear --yes""",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per entry.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, metavar="N", help="Number of entries.")]
Id = Annotated[int, typer.Argument(metavar="ID", help="Number of an entry.")]


@app.command("list")
def list_(count: Count = 20, json: Json = False) -> int:
    """List the newest entries."""
    from sage_cli.session import log

    return _show(log.newest(count), json)


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words in question, answer or file name.")],
    count: Count = 20,
    json: Json = False,
) -> int:
    """Find entries that hold all words."""
    from sage_cli.session import log

    return _show(log.search(" ".join(map(from_argument, words)), count), json)


@app.command()
def show(
    id: Id,
    json: Json = False,
    report: Annotated[str | None, typer.Option("--report", metavar="FILE", help="Write a report, .html or .md.")] = None,
) -> int:
    """Show an entry: the question, the answer and its evidence."""
    from sage_cli.timecode import format_span

    entry = find_entry(id)
    if report:
        from sage_cli.report import report_format, write_report
        from sage_cli.session import open_session

        report_format(report)
        with open_session() as session:
            video = _video(entry, session)
            write_report(user_path(report), [(entry.record, video)])
        console.say(f"saved {report}{f', without frames: {video}' if isinstance(video, str) else ''}")
        return 0
    if json:
        console.write(console.dumps(_record(entry)))
        return 0
    tables.text(f"{entry.asked.astimezone():%Y-%m-%d %H:%M}  {entry.video}")
    tables.text(entry.question)
    tables.text(entry.answer if entry.answer is not None else f"(no answer: {entry.record['reason']})")
    for one in entry.record["evidence"]:
        tables.text(f"  {format_span(one['span']['start'], one['span']['end'])}  {console.basis(one['what'], one.get('said', ''))}")
    return 0


@app.command()
def clear(yes: Yes = False) -> int:
    """Remove all entries; asks first."""
    from sage_cli.session import log

    confirm("remove all entries of the log", yes=yes)
    console.say(f"{log.clear()} entries removed")
    return 0


def find_entry(id: int) -> Entry:
    """The entry of this number.

    Raises:
        UsageError: there is none.
    """
    from sage_cli.session import log

    entry = log.entry(id)
    if entry is None:
        raise UsageError(f"there is no entry {id}: 'sage log list' shows which there are")
    return entry


def _video(entry: Entry, session: Session) -> Video | str:
    """The video that an entry is about, or why it cannot be had any more."""
    from sage_cli.cli.opening import opened

    if entry.video == STDIN:
        return "the video came from stdin, which is not kept"
    try:
        opened(session, entry.video)
    except SageError as error:
        return str(error)
    return session.as_asked(entry.record, entry.video)


def _show(entries: list[Entry], json: bool) -> int:
    if json:
        for entry in entries:
            console.write(console.dumps(_record(entry)))
    elif entries:
        tables.table(("ID", "ASKED", "VIDEO", "QUESTION AND ANSWER"), map(_row, entries))
    else:
        console.say("the log holds no such entry")
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    answer = entry.answer if entry.answer is not None else "(no answer)"
    name = entry.video.rsplit("/", 1)[-1]
    return str(entry.id), f"{entry.asked.astimezone():%Y-%m-%d %H:%M}", name, f"{' '.join(entry.question.split())}\n{answer}"


def _record(entry: Entry) -> dict[str, object]:
    return {"id": entry.id, "conversation": entry.conversation, "path": entry.video, **entry.record}

"""``sage open ID|TIME``: the video of an answer in a player, at the evidence."""

from __future__ import annotations

from typing import Annotated

import typer

from sage_cli.errors import UsageError

EXAMPLES = """[bold]Examples[/]
  sage open             # the video asked about last, at its evidence
  sage open 12:30       # the same at this time
  sage open 12          # the video of entry 12 of the log, at its evidence
  sage open 12 -e 2     # at the second part of its evidence"""


def open(
    what: Annotated[str | None, typer.Argument(metavar="[ID|TIME]", help="Entry of the log, or a time.")] = None,
    number: Annotated[int, typer.Option("--evidence", "-e", min=1, metavar="N", help="Which part of the evidence.")] = 1,
) -> int:
    """Open the video of an answer in mpv or VLC, on a machine with a display.

    A number is an entry of `sage log list`. A time has a colon or a unit, as in 1:30 or 90s; it is one of the video asked about last.
    """
    from sage_cli.cli.log import find_entry
    from sage_cli.cli.player import play
    from sage_cli.session import log
    from sage_cli.timecode import parse_within

    if what is not None and what.isdecimal():
        entry = find_entry(int(what[:30]))  # Python reads no numbers of thousands of digits
    else:
        newest = log.newest(1)
        if not newest:
            raise UsageError("the log is empty: ask something first")
        entry = newest[0]
        if what is not None:
            play(entry.video, parse_within(what, entry.record["duration"]))
            return 0
    evidence = entry.record["evidence"]
    if number > max(1, len(evidence)):
        raise UsageError(
            f"--evidence {number}: the answer of entry {entry.id} has {len(evidence)} part{'s'[: len(evidence) != 1]} of evidence"
        )
    play(entry.video, evidence[number - 1]["span"]["start"] if evidence else 0.0)
    return 0

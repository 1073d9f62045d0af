"""Ask follow-up questions that mean nothing without the question before them, with and without the earlier turns.

``python -m benchmarks.speech_questions make WORK`` writes the ten talks. ``python -m benchmarks.follow_ups ask WORK RUN --model MODEL``
holds a conversation of two questions about each, as ``sage chat`` does; with ``--no-history`` the second question is asked alone.
``... table RUN...`` prints the counts of runs side by side.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.speech_questions import ask_options, columns, read, right, share, summary, talks, video_name
from sage_cli import open_session
from sage_cli.session.conversation import Conversation


def ask(work: Path, run: Path, limit: int | None = None, *, history: bool, **options: Any) -> None:
    """Hold the conversations that ``run`` does not have yet, and append what came of them: a row per question."""
    done = {row["video_path"] for row in read(run) if row["turn"] == 1}
    with open_session(**options, log=False) as session, run.open("a", encoding="utf-8") as file:
        for talk in talks()[:limit]:
            name = video_name(talk)
            if name in done:
                continue
            conversation = Conversation(session, work / name, linked=history)
            rows = []
            for turn, (question, wanted) in enumerate(talk["conversation"]):
                started, worked = time.monotonic(), time.process_time()
                found = summary(conversation.ask(question), session.settings.reply_tokens)
                took = {"seconds": time.monotonic() - started, "cpu": time.process_time() - worked}
                rows.append({"video_path": name, "turn": turn, "question": question, "right": wanted, **found, **took})
                print(f"{name} {question} {found['tools']} {found['answer']!r} {took['seconds']:.0f} s", flush=True)
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            file.flush()


def table(runs: list[Path]) -> str:
    """A Markdown table with a column per run."""
    return columns(runs, _count)


def _count(rows: list[dict[str, Any]]) -> dict[str, str]:
    firsts, follow_ups = ([row for row in rows if row["turn"] == turn] for turn in (0, 1))
    understood = {row["video_path"] for row in firsts if right(row, row["answer"])}
    return {
        "conversations": str(len(follow_ups)),
        "right, first question": share(right(row, row["answer"]) for row in firsts),
        "right, follow-up": share(right(row, row["answer"]) for row in follow_ups),
        "right, follow-up to a right answer": share(right(row, row["answer"]) for row in follow_ups if row["video_path"] in understood),
        "follow-ups without an answer": share(row["answer"] is None for row in follow_ups),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask")
    ask_options(asking)
    asking.add_argument("--no-history", dest="history", action="store_false", help="show each question alone")
    commands.add_parser("table").add_argument("run", type=Path, nargs="+")
    given = vars(parser.parse_args())
    match given.pop("command"):
        case "ask":
            ask(**{name: value for name, value in given.items() if value is not None})
        case "table":
            print(table(given["run"]))


if __name__ == "__main__":
    main()

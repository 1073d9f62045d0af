"""``sage ask VIDEO QUESTION``: answer questions about a video."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import MEDIA, media_files
from sage_cli.cli.options import OptionsCommand, takes
from sage_cli.errors import EXIT_NO_ANSWER, UsageError
from sage_cli.session.options import Options
from sage_cli.text import decode, from_argument, is_link

if TYPE_CHECKING:
    from sage_cli.session import Session

STDIN = "-"
COMMAND = OptionsCommand

EXAMPLES = """[bold]Examples[/]
  sage ask talk.mp4 "Who speaks first?" "What is on the last slide?"
  sage ask talk.mp4 "What is she holding?" --start 12:30 --end 13:00
  sage ask talk.mp4 "What is it about?" --json | jq -r .answer
  sage ask talk.mp4 - < questions.txt"""


@takes("ask")
def ask(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video file.", show_default=False, autocompletion=media_files, parser=str)],
    questions: Annotated[
        list[str],
        typer.Argument(metavar="QUESTION...", help="Question; [bold]-[/] reads stdin, one per line.", show_default=False, parser=str),
    ],
    options: Options,
) -> int:
    """Ask questions about a video.

    The model looks at frames of the whole video, then uses tools if needed. Options can be saved: see `sage help config`.
    """
    if options.json and options.jsonl:
        raise UsageError("--json and --jsonl exclude each other: choose one")
    if options.web == "ask" and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--web=ask needs a terminal: use --web, or leave it out")
    console.need_stdout()
    check_order(video, questions)
    asked = read_questions(questions)

    from sage_cli.agent.events import Working
    from sage_cli.cli.consent import Consent
    from sage_cli.cli.evidence import check_evidence, downloads, save_evidence
    from sage_cli.cli.offer import offer
    from sage_cli.cli.renderers import follow, renderer
    from sage_cli.session import open_session
    from sage_cli.session.conversation import Conversation

    check_evidence(options, video)
    with open_session(options, consent=Consent(), offer=offer) as session:
        # Cheap checks first: a mistyped path is reported before a model is loaded.
        with downloads(session):
            opened = session.video(video)
        session.check(opened)
        introduce(session)
        output: Literal["text", "json", "jsonl"] = "json" if options.json else "jsonl" if options.jsonl else "text"
        several, structured = len(asked) > 1, options.schema is not None
        with renderer(output, quiet=options.quiet, verbose=options.verbose, several=several, structured=structured) as view:
            view.show(Working(0.0, 0, "load", 0, 0))
            tell_plan(session)
            conversation = Conversation(session, video, linked=False)
            answered = [follow(conversation.ask(question), view) for question in asked]
        if conversation.log_problem and not options.quiet:
            console.say(conversation.log_problem)
        save_evidence(conversation)
    return 0 if all(answered) else EXIT_NO_ANSWER


# ---- what is said before an answer ---------------------------------------------------------------------------------


def introduce(session: Session) -> None:
    """Warn about the limits of the bundled model, if it is used."""
    if session.bundled and not session.options.quiet:
        console.say(
            "nano, the bundled model, knows coloured shapes and a few spoken words, and nothing of your footage. "
            "For your own videos, install a real model: 'sage models list'"
        )


def tell_plan(session: Session) -> None:
    """Report the memory plan if it is reduced, or if --verbose asks for it."""
    if session.remote:
        return
    options, plan = session.options, session.plan
    if not options.quiet and (options.verbose or not plan.fits or (plan.reduced and sys.stderr.isatty())):
        console.say(f"{'adapted to this machine' if plan.fits else 'this machine has too little memory'}: {plan.text}")


# ---- what was typed ------------------------------------------------------------------------------------------------


def check_order(video: str, questions: list[str]) -> None:
    """Recognize common mistakes in the arguments.

    Raises:
        UsageError: the video is an address but no link, the question comes first, there are two videos, a question is not quoted, or video
            and questions are both on stdin.
    """
    if video in (STDIN, "/dev/stdin") and STDIN in questions:
        raise UsageError("stdin holds the video or the questions, not both: name the video, or write the question")
    if re.match(r"[a-z][a-z0-9+.-]*://", video, re.IGNORECASE) and not is_link(video):
        raise UsageError(f"{video} is no link that sage can open: links begin with http:// or https://")
    files = [word for word in questions if word != STDIN and ((word.lower().endswith(MEDIA) and " " not in word) or _is_file(word))]
    if files and not is_link(video) and not _is_file(video) and not video.lower().endswith(MEDIA):
        raise UsageError(f"the video comes before the question: sage ask {files[0]} {from_argument(video)!r}")
    if files:
        raise UsageError(f"{files[0]} is a file, not a question: ask about one video at a time")
    if len(questions) > 1 and not any(" " in word or word.endswith("?") or word == STDIN for word in questions[:-1]):
        whole = " ".join(map(from_argument, questions))
        raise UsageError(f'put the question in quotes: sage ask {video} "{whole}"')


def read_questions(words: list[str]) -> list[str]:
    """The questions in order, ``-`` replaced by the lines of stdin.

    Raises:
        UsageError: a question is empty, or there is none.
    """
    questions: list[str] = []
    for word in words:
        if word == STDIN:
            lines = decode(sys.stdin.buffer.read()).splitlines()
            questions += [line.strip() for line in lines if line.strip()]
        elif word.strip():
            questions.append(from_argument(word).strip())
        else:
            raise UsageError("the question is empty: write what you want to know about the video")
    if not questions:
        raise UsageError("no question on stdin: write one per line")
    return questions


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # for example too long for a file name
        return False

"""``sage ask VIDEO QUESTION``: answer questions about videos."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

from sage_cli.cli import console
from sage_cli.cli.batch import exists, names_medium, of_folders
from sage_cli.cli.options import argument, check_forms, takes
from sage_cli.errors import SageError, UsageError
from sage_cli.session.options import Options
from sage_cli.text import MEDIA, STDIN, decode, from_argument, is_link, lines

EXAMPLES = """[bold]Examples[/]
  sage ask talk.mp4 "Who speaks first?" "What is on the last slide?"
  sage ask talk.mp4 "What is she holding?" --start 12:30 --end 13:00
  sage ask *.mp4 --question "What is it about?" --json | jq -r .answer
  sage ask talk.mp4 - < questions.txt"""


@takes("ask")
def ask(
    video: Annotated[str, argument("VIDEO", "Video or recording, or a folder of them; - reads stdin.")],
    words: Annotated[
        list[str] | None, argument("[QUESTION...]", "Question; [bold]-[/] reads stdin, one per line. With --question: more videos.")
    ] = None,
    *,
    options: Options,
) -> int:
    """Ask questions about a video.

    The model looks at frames of the whole video, then uses tools if needed. Without a question, a conversation begins.
    Options can be saved: see `sage help config`.
    """
    check_forms(options)
    console.need_stdout()
    given, questions = split_words(video, words or [], options.question)
    if not questions:
        return _converse(video, options)
    if options.resume and not options.log:
        raise UsageError("--resume takes answers from the log, which is off: leave out --no-log, or 'sage config set log true'")
    found = of_folders(given, recursive=options.recursive)
    videos = [one.name for one in found]
    asked = read_questions(questions)

    from sage_cli.cli.consent import Consent
    from sage_cli.cli.evidence import check_evidence
    from sage_cli.cli.offer import offer
    from sage_cli.cli.several import Asking
    from sage_cli.session import Session

    check_evidence(options, videos)
    options = replace(options, jobs=min(options.jobs, len(videos)))  # memory is planned for as many models
    with Session(options, consent=Consent(options.web), offer=offer) as session:
        asking = Asking(session, asked)
        try:
            status = asking.about(videos, several=videos != [video])
        except SageError:  # what was answered before is worth keeping
            asking.save()
            raise
        asking.save()
    return status


def _converse(video: str, options: Options) -> int:
    """A conversation in place of a question, where there is a person to have it with."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()) or options.json or options.jsonl or options.schema:
        raise UsageError(f'no question: sage ask {quote(video)} "What happens?", or sage chat {quote(video)} for a conversation')
    if Path(video).is_dir():
        raise UsageError(f'no question: sage ask {quote(video)} "What happens?" asks about each video of the folder')
    from sage_cli.cli.chat import converse

    return converse(video, options)


# ---- what was typed ------------------------------------------------------------------------------------------------


def split_words(first: str, words: list[str], given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The videos and the questions of a command line.

    Args:
        first, words: the arguments.
        given: questions given by ``--question``; every argument is a video then.

    Raises:
        UsageError: the arguments cannot be meant as they are.
    """
    from sage_cli.session.arguments import media_argument

    videos, questions = ([first, *words], [*given]) if given else ([first], words)
    for video in videos:
        media_argument(video)
    if not given:
        _check_order(first, words)
    elif lost := next((word for word in words if (" " in word or word.endswith("?")) and not (exists(word) or is_link(word))), None):
        raise UsageError(f"{from_argument(lost)!r} is not a video: with --question, every argument is one")
    if STDIN in questions and {STDIN, "/dev/stdin"} & {*videos}:
        raise UsageError("stdin holds the video or the questions, not both: name the video, or write the question")
    return videos, questions


def _check_order(video: str, words: list[str]) -> None:
    """Recognize common mistakes: the question comes first, there are two videos without ``--question``, or a question is not quoted."""
    from sage_cli.session.arguments import question_argument

    files = [word for word in words if word != STDIN and (names_medium(word) or exists(word))]
    if files and not is_link(video) and not exists(video) and not video.lower().endswith(MEDIA):
        raise UsageError(f"the video comes before the question: sage ask {quote(files[0])} {quote(from_argument(video))}")
    if files:
        raise UsageError(
            f"{files[0]} is a file, not a question; for several videos: "
            f'sage ask {quote(video)} {quote(files[0])} --question "What happens?"'
        )
    for word in words:
        question_argument(word)
    if len(words) > 1 and not any(" " in word or word.endswith("?") or word == STDIN for word in words[:-1]):
        whole = " ".join(map(from_argument, words))
        raise UsageError(f"put the question in quotes: sage ask {quote(video)} {quote(whole)}")


def read_questions(words: list[str]) -> list[str]:
    """The questions in order, ``-`` replaced by the lines of stdin.

    Raises:
        UsageError: a question is empty, or there is none.
    """
    from sage_cli.session.arguments import question_argument

    questions: list[str] = []
    for word in words:
        questions += lines(decode(sys.stdin.buffer.read())) if word == STDIN else [question_argument(from_argument(word)).strip()]
    if not questions:
        raise UsageError("no question on stdin: write one per line")
    return questions

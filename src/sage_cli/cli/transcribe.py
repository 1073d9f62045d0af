"""``sage transcribe MEDIA...``: transcripts and subtitles of videos and recordings."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from sage_cli.cli import console
from sage_cli.cli.bars import progress
from sage_cli.cli.batch import Failure, Input, of_folders, report
from sage_cli.cli.interrupts import interrupts, resumable
from sage_cli.cli.opening import opened
from sage_cli.cli.options import argument, check_forms, output_form, takes
from sage_cli.errors import SageError, UsageError
from sage_cli.session.options import Options, declared
from sage_cli.text import decode, media_label

if TYPE_CHECKING:
    from sage_cli.session import Session

EXAMPLES = """[bold]Examples[/]
  sage transcribe talk.mp4 -o talk.srt
  sage transcribe *.mp4 -o subtitles/ -f vtt --skip-existing
  sage transcribe recordings/ --recursive --jsonl > all.jsonl
  sage transcribe talk.mp4 --language de --translate"""

_FOR_EYES: Final = ("txt", "md")  # formats; programs read the others, also from a terminal's screen
_TIME: Final = re.compile(r"\[[\d:. >-]+\]  ")  # of a line


@takes("transcribe")
def transcribe(
    media: Annotated[list[str], argument("MEDIA...", "Video or audio file, or a folder of them; [bold]-[/] reads stdin.")],
    options: Options,
) -> int:
    """Transcribe speech in videos and recordings.

    Prints segments as they are decoded. After an interruption, rerun the command to resume. Transcripts are cached.
    """
    if form := _json(options):
        options = replace(options, format=form)
    found = of_folders(media, recursive=options.recursive)
    tasks = _plan(found, options.output, options.format)
    if options.words:
        _check_words(tasks, options.source)
    if options.skip_existing:
        tasks = _without_existing(tasks)
    if any(task.target is None for task in tasks):
        console.need_stdout()

    from sage_cli.output import check_targets
    from sage_cli.session import Session

    check_targets([task.target for task in tasks if task.target], [Path(task.source) for task in tasks])
    failures: list[Failure] = []
    with Session(options) as session:
        parallel = options.jobs > 1 and len(tasks) > 1 and options.source != "subtitles"
        for failure in (_in_parallel if parallel else _in_turn)(tasks, session):
            failure.write(options.format or "text")
            failures.append(failure)
    return report(failures, len(tasks))


# ---- what to do ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """One transcript.

    Attributes:
        source: the media as given by the user.
        target: the output file; ``None`` for stdout.
        named: whether the target is named after the source.
        copy: of the media, if it is a pipe that another process has read.
    """

    source: str
    format: str
    target: Path | None
    copy: Path | None = None
    named: bool = False

    @property
    def name(self) -> str:
        return media_label(self.source)


def _json(options: Options) -> Literal["json", "jsonl"] | None:
    """The format that ``--json`` or ``--jsonl`` asks for."""
    check_forms(options)
    if (form := output_form(options)) == "text":
        return None
    if options.format not in (None, form):
        raise UsageError(f"--{form} and --format {options.format} exclude each other: choose one")
    return form


def _plan(found: Sequence[Input], output: str | None, format: str | None) -> list[Task]:
    """The transcripts to write."""
    from sage_cli.output import STDOUT, format_of, is_folder

    tasks = [Task(one.name, format or "txt", None) for one in found]
    if output is None or output == STDOUT:
        if len(tasks) > 1 and not tasks[0].format.startswith("json"):
            raise UsageError("several files need a folder for their transcripts: add --output DIR, or --jsonl for all on stdout")
        return tasks
    if is_folder(output):
        names = _names(tasks, [one.inside for one in found])
        return [replace(task, target=Path(output) / f"{name}.{task.format}", named=True) for task, name in zip(tasks, names, strict=True)]
    if len(tasks) > 1:
        raise UsageError(f"--output {output} is one file for {len(tasks)} transcripts: name a folder (for a new one: {output}/)")
    return [Task(tasks[0].source, format or format_of(output, declared()["format"].choices, "txt"), Path(output))]


def _check_words(tasks: Sequence[Task], source: str) -> None:
    """Raises: UsageError: the times of words would be in no transcript."""
    if source == "subtitles":
        raise UsageError("--words is for speech, and subtitles have no times of words: leave out --from subtitles or --words")
    if other := next((task.format for task in tasks if not task.format.startswith("json")), None):
        raise UsageError(f"--words is for json and jsonl, and {other} has no place for them: add --format json, or leave out --words")


def _names(tasks: Sequence[Task], inside: Sequence[Path]) -> list[str]:
    """The paths of transcripts in a folder for them, without suffix. What was found in a folder goes into one of the same name."""
    from sage_cli.output import folded

    paths = [folder / task.name for folder, task in zip(inside, tasks, strict=True)]
    stems = [str(path.parent / path.stem) for path in paths]
    often = Counter(map(folded, stems))
    # talk.mp4 gives talk.srt; where talk.mkv is given too, they give talk.mp4.srt and talk.mkv.srt.
    names = [stem if often[folded(stem)] == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]
    counts = Counter(map(folded, names))
    if twice := [name for name in names if counts[folded(name)] > 1]:
        same = sorted({name for name in names if folded(name) == folded(twice[0])})
        said = f"two files are called {same[0]}" if len(same) == 1 else f"{' and '.join(same)} are one name on some systems"
        raise UsageError(f"{said}: transcribe them into different folders")
    return names


def _without_existing(tasks: list[Task]) -> list[Task]:
    if any(task.target is None for task in tasks):
        raise UsageError("--skip-existing needs output files: add --output")
    left = [task for task in tasks if task.target is not None and not task.target.exists()]
    if len(left) < len(tasks):
        console.note(f"skipped {len(tasks) - len(left)} of {len(tasks)} files: they already have a transcript")
    return left


# ---- one transcript ------------------------------------------------------------------------------------------------


def _in_turn(tasks: Sequence[Task], session: Session) -> Iterator[Failure]:
    """Transcribe files one after another; the failure of a single one is an error."""
    if len(tasks) == 1:
        opened(session, tasks[0].source)  # a mistyped path is reported before a missing model
    _check_model(session)
    for task in tasks:
        try:
            _write(session, task)
        except (SageError, OSError) as error:
            if len(tasks) == 1 or isinstance(error, BrokenPipeError):
                raise
            yield Failure.of(task.source, error)


def _check_model(session: Session) -> None:
    """Raises: ModelError: speech is to be decoded, and cannot be: a broken model is not the media's fault."""
    if session.options.source == "speech":
        _ = session.transcriber


def _write(session: Session, task: Task) -> None:
    """Write one transcript.

    Raises:
        SageError: the media cannot be read or decoded.
        OSError: the transcript cannot be written.
    """
    with (
        _target(task) as out,
        interrupts() as stop_if_asked,
        resumable(),
        closing(_pieces(session, task, console.note)) as pieces,  # this also removes its progress bar
    ):
        for piece in pieces:
            out(piece)
            stop_if_asked()


def _pieces(session: Session, task: Task, say: Callable[[str], None]) -> Generator[str]:
    """The text of the transcript in pieces, as it is decoded; empty pieces report progress during silence. Notices go to ``say``."""
    from sage_cli.output import check_targets
    from sage_cli.speech.cues import present
    from sage_cli.speech.formats import FORMATS, About
    from sage_cli.speech.lines import Layout
    from sage_cli.speech.segment import Spoken
    from sage_cli.video import no_speech

    options = session.options
    session.pipes.add(task.source, task.copy)
    video = opened(session, task.source)
    start, end = session.span(video)
    subtitles = session.converted(video)
    layout = Layout(options.max_line_width, options.max_line_count, options.max_cue_seconds)
    format = FORMATS[task.format](layout, written=subtitles is not None)
    if subtitles and subtitles.file and task.target:
        check_targets([task.target], [subtitles.file])
    if options.source != "speech" and (missing := session.subtitle_trouble(video)):
        say(f"{task.name}: {missing}")
    if not subtitles and (foreign := session.language_trouble(video)):
        say(f"{task.name}: {foreign}")
    about = About(task.source, task.name, video.duration, subtitles.source if subtitles else session.transcriber_name)
    yield format.head(about)
    spoken = Spoken()
    printed = task.target is None and sys.stdout.isatty()  # then the text itself shows how far it is
    with progress(task.name, start, end, hidden=printed) as advance, closing(session.parts(video, subtitles)) as parts:
        for part in parts:
            for segment in present(part.segments, start, end, layout, words=options.words, on_screen=format.on_screen):
                spoken.add(segment)
                yield format.segment(segment)
            advance(part.seconds)
            yield ""
    yield format.foot(replace(about, language=spoken.language, notices=tuple(notice.text for notice in video.notices)))
    if video.damage:
        say(f"{task.name}: {video.damage}")
    if spoken.language is None and not _has_text(task):  # else it fails, and says more
        say(f"{task.name} has {no_speech(video, start, end)}: its transcript is empty")


@contextmanager
def _target(task: Task) -> Iterator[Callable[[str], None]]:
    """Opens the target; gives the function that writes to it. A transcript without text does not replace one with text.

    Raises:
        SageError: it would have. The file is not what was asked for, and a script would take it for that.
    """
    if task.target is None:
        shown = _shown if task.format in _FOR_EYES else console.neutral
        safe = console.neutral_json if task.format.startswith("json") else shown if sys.stdout.isatty() else str
        if task.format != "json":
            yield lambda text: console.write(safe(text), end="")
            return
        held: list[str] = []  # a failure leaves no half an object
        yield held.append
        console.write(safe("".join(held)), end="")
        return
    from sage_cli.output import open_text, telling_replaced
    from sage_cli.speech.formats import has_text

    written: list[str] = []
    told = telling_replaced(task.target) if task.named else nullcontext()
    with told, open_text(task.target, [Path(task.source)]) as file:

        def out(text: str) -> None:
            written.append(text)
            print(text, end="", file=file)

        yield out
        if _has_text(task) and not has_text("".join(written), task.format):
            raise SageError(f"{task.target} stays as it is: it has text, and {task.name} has none (delete the file to replace it)")
    if console.shows_progress():
        console.say(f"wrote {task.target}")


def _shown(text: str) -> str:
    """Lines for a terminal as wide as it is now: wrapped at words, beside their times, or below them if there is no room for words."""
    from sage_cli.cli.renderers.live import fold
    from sage_cli.cli.tables import NARROWEST

    width, rows = console.screen().width, list[str]()
    for line in console.neutral(text).splitlines():
        time = _TIME.match(line)
        indent = time.end() if time else 0
        if time and width - indent < NARROWEST:
            rows.append(time[0].rstrip())
            rows += [f"  {part}" for part in fold(line[indent:], width - 2)]
        else:
            first, *others = fold(line[indent:], width - indent)
            rows += [line[:indent] + first, *(" " * indent + part for part in others)]
    return "".join(f"{row}\n" for row in rows)


def _has_text(task: Task) -> bool:
    """Whether the target is a transcript with text by now."""
    from sage_cli.speech.formats import has_text

    return bool(task.target and task.target.is_file() and has_text(decode(task.target.read_bytes()), task.format))


# ---- several at a time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """The text of a transcript, and what to tell about it."""

    text: str
    notices: tuple[str, ...]


class Worker:
    """Transcribes in a worker process and returns the text, so that only the parent writes files and notices."""

    def __init__(self, options: Options) -> None:
        from sage_cli.session import Session

        console.quiet = True  # the parent tells what there is to tell
        self._session = Session(options)
        _check_model(self._session)

    def __call__(self, task: Task) -> Whole | Failure:
        notices: list[str] = []
        try:
            with closing(_pieces(self._session, task, notices.append)) as pieces:
                return Whole("".join(pieces), tuple(notices))
        except (SageError, OSError) as error:
            return Failure.of(task.source, error)


def _in_parallel(tasks: Sequence[Task], session: Session) -> Iterator[Failure]:
    """Transcribe files in worker processes, so that one that crashes whisper.cpp does not affect the others."""
    from sage_cli.bench.pool import Died, work_here
    from sage_cli.hardware.threads import cores
    from sage_cli.speech.whisper import MOST_THREADS

    options = session.options
    if session.speech_file is None and options.source == "speech":
        _ = session.transcriber  # reports a missing model
    jobs = _affordable(session)
    threads = options.threads or max(1, min(MOST_THREADS, cores() // jobs))
    file = session.speech_file
    own = replace(options, speech_model=str(file) if file else None, jobs=1, threads=threads)
    # A worker has neither stdin nor the descriptors behind other pipes.
    given = [replace(task, copy=session.pipes.copied(task.source)) for task in tasks]
    with progress(f"{len(tasks)} files", 0, len(tasks)) as advance, closing(work_here(partial(Worker, own), given, jobs)) as outcomes:
        for done, (task, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, Died):
                yield Failure(task.source, outcome.reason)
            elif isinstance(outcome, Failure):
                yield outcome
            else:
                for notice in outcome.notices:
                    console.note(notice)
                try:
                    with _target(task) as out:
                        out(outcome.text)
                except (SageError, OSError) as error:
                    if isinstance(error, BrokenPipeError):
                        raise
                    yield Failure.of(task.source, error)
            advance(done)


def _affordable(session: Session) -> int:
    """The number of jobs that cores and memory allow: each loads the whole model."""
    from sage_cli.hardware.memory import free_memory
    from sage_cli.hardware.plan import speech_memory
    from sage_cli.hardware.threads import cores

    size = session.speech_file.stat().st_size if session.speech_file else 0
    wanted = session.options.jobs
    bearable = max(1, min(cores(), free_memory() // speech_memory(size)))
    if bearable < wanted:
        console.note(f"using --jobs {bearable} instead of {wanted}: cores or memory do not allow more")
    return min(wanted, bearable)

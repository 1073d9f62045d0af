"""``sage transcribe MEDIA...``: what is said in videos and recordings, as text and subtitles."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import media_files, usable_models
from sage_cli.cli.interrupts import interrupts
from sage_cli.cli.options import option
from sage_cli.errors import EXIT_INTERRUPTED, ModelError, SageError, UsageError, VideoError

if TYPE_CHECKING:
    from sage_cli.speech import Transcriber
    from sage_cli.speech.cues import Layout
    from sage_cli.speech.formats import Format
    from sage_cli.video import Video

STDIN = STDOUT = "-"

EXAMPLES = """[bold]Examples[/]
  sage transcribe talk.mp4 -o talk.srt
  sage transcribe *.mp4 -o subtitles/ -f vtt --skip-existing
  sage transcribe talk.mp4 --language de --translate"""


# What sage_cli.speech.formats.FORMATS holds; spelled out because --help must not import it.
FormatName = Literal["txt", "srt", "vtt", "json", "jsonl", "csv", "tsv", "lrc", "md"]


def transcribe(
    context: typer.Context,
    media: Annotated[
        list[str],
        typer.Argument(
            metavar="MEDIA...",
            help="Videos or sound files of any kind; [bold]-[/] reads one from stdin.",
            show_default=False,
            autocompletion=media_files,
        ),
    ],
    format: Annotated[
        FormatName | None, option("Output", "--format", "-f", help="Default: what the file name of --output says, else txt.")
    ] = None,
    output: Annotated[
        str | None,
        option("Output", "--output", "-o", metavar="FILE|DIR|-", help="Where to. Default: stdout; several files need a DIR."),
    ] = None,
    words: Annotated[bool, option("Output", "--words", help="Time every word, too (json and jsonl).")] = False,
    max_line_width: Annotated[
        int | None, option("Output", "--max-line-width", min=8, metavar="N", help="Break subtitles (srt, vtt) into lines of N characters.")
    ] = None,
    max_line_count: Annotated[
        int, option("Output", "--max-line-count", min=1, metavar="N", help="Most such lines on screen at once. Default: 2.")
    ] = 2,
    skip_existing: Annotated[bool, option("Output", "--skip-existing", help="Pass over media whose transcript is there.")] = False,
    model: Annotated[
        str | None,
        option(
            "Model",
            "--model",
            "-m",
            metavar="NAME|PATH",
            envvar="SAGE_SPEECH_MODEL",
            autocompletion=usable_models,
            help="Whisper model: a ggml-*.bin or, like base.en, a name in the models folder. Default: the largest there.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        option("Model", "--threads", min=1, metavar="N", envvar="SAGE_THREADS", help="CPU threads. Default: all cores, up to 8."),
    ] = None,
    jobs: Annotated[
        int, option("Model", "--jobs", "-j", min=1, metavar="N", help="Files at a time, each with a model of its own. Default: 1.")
    ] = 1,
    offline: Annotated[bool, option("Model", "--offline", help="Use only what is on this machine, as is always so yet.")] = False,
    language: Annotated[
        str,
        option(
            "Listening",
            "--language",
            "-l",
            metavar="CODE",
            envvar="SAGE_LANGUAGE",
            help="What is spoken: en, de, zh ... Default: auto, found out.",
        ),
    ] = "auto",
    translate: Annotated[bool, option("Listening", "--translate", help="Write English, whatever is spoken.")] = False,
    prompt: Annotated[
        str, option("Listening", "--prompt", metavar="TEXT", help="Text that sets spelling and style, e.g. names that occur.")
    ] = "",
    start: Annotated[str | None, option("Listening", "--start", metavar="TIME", help="Begin here: SS, MM:SS or HH:MM:SS.")] = None,
    end: Annotated[str | None, option("Listening", "--end", metavar="TIME", help="End here.")] = None,
    vad: Annotated[
        bool | None,
        option(
            "Listening",
            "--vad/--no-vad",
            help="Leave out what is not speech, with a Silero model (ggml-silero-*.bin in the models folder). "
            "Default: so if there is one, else by loudness; --no-vad decodes everything.",
        ),
    ] = None,
    beam_size: Annotated[
        int | None,
        option("Listening", "--beam-size", min=1, metavar="N", help="Beams of a beam search, up to 8. Default: greedy."),
    ] = None,
    temperature: Annotated[float, option("Listening", "--temperature", metavar="T", help="Of sampling. Default: 0.")] = 0.0,
    quiet: Annotated[bool, option("Output", "--quiet", "-q", help="Nothing but transcripts and errors.")] = False,
    verbose: Annotated[bool, option("Output", "--verbose", "-v", help="Library logs too.")] = False,
    debug: Annotated[bool, option("Output", "--debug", help="Tracebacks and all logs.")] = False,
) -> int:
    """Transcribe what is said in videos and recordings.

    Segments come as they are decoded. Stopped half-way, the same command goes on where it stopped; done, it answers at once.
    """
    console.log(verbose=verbose, debug=debug)
    tasks = _plan(media, output, format)
    if skip_existing:
        tasks = _without_existing(tasks, quiet)

    from sage_cli.output import check_targets

    check_targets([task.target for task in tasks if task.target], [Path(source) for source in media])

    from sage_cli.speech import SpeechOptions, Transcriber
    from sage_cli.speech.cues import Layout
    from sage_cli.timecode import parse

    span = _Span(parse(start) if start else 0.0, parse(end) if end else None)
    path = _find_model(model)
    listening = SpeechOptions(
        language=language, translate=translate, prompt=prompt, beam_size=beam_size, temperature=temperature, vad=vad is not False
    )
    transcriber = Transcriber(path, listening, threads=threads)

    failures: list[tuple[str, str, int]] = []
    if jobs > 1 and len(tasks) > 1:
        failures = _in_parallel(tasks, _arguments(context), _affordable(jobs, path, quiet), threads, quiet)
    else:
        run = _Run(transcriber, path.name, span, Layout(max_line_width or 42, max_line_count), words, quiet)
        for task in tasks:
            try:
                run(task)
            except (SageError, OSError) as error:
                if len(tasks) == 1 or isinstance(error, (ModelError, BrokenPipeError)):
                    raise
                failures.append((task.source, _reason(error), getattr(error, "exit_code", 1)))
    return _report(failures, len(tasks))


# ---- what to do ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Task:
    """One transcript: from what, in which format, and where to; ``None`` is stdout."""

    source: str
    format: str
    target: Path | None

    @property
    def name(self) -> str:
        return "stdin" if self.source == STDIN else Path(self.source).name


@dataclass(frozen=True, slots=True)
class _Span:
    """The part that is asked for, in seconds; up to the end if there is none."""

    start: float
    end: float | None

    def within(self, duration: float) -> tuple[float, float]:
        end = duration if self.end is None else min(self.end, duration)
        if self.start >= end:
            raise UsageError(f"nothing lies between --start and --end: the media is {duration:.1f} seconds long")
        return self.start, end


def _plan(sources: Sequence[str], output: str | None, format: str | None) -> list[_Task]:
    """The transcripts to write.

    Raises:
        UsageError: stdin or a target is wanted twice, or several transcripts would go into one place.
    """
    from sage_cli.output import format_of, is_folder

    if sources.count(STDIN) > 1:
        raise UsageError("stdin can be read once: give - once")
    if output == "":
        raise UsageError("--output is empty: name a file or a folder, or - for stdout")
    folder = output is not None and output != STDOUT and is_folder(output)
    if len(sources) > 1 and not folder:
        if output is None or output == STDOUT:
            raise UsageError("several files need a folder for their transcripts: add --output DIR")
        if Path(output).suffix or Path(output).is_file():
            raise UsageError(f"--output {output} is one file for {len(sources)} transcripts: name a folder (for a new one: {output}/)")
        folder = True
    format = format or (format_of(output, get_args(FormatName), "txt") if output not in (None, STDOUT) and not folder else "txt")
    if not folder:
        return [_Task(sources[0], format, None if output in (None, STDOUT) else Path(str(output)))]
    tasks = [_Task(source, format, None) for source in sources]
    stems = Counter(Path(task.name).stem for task in tasks)
    # talk.mp4 gives talk.srt; where talk.mkv is given too, they give talk.mp4.srt and talk.mkv.srt.
    names = [Path(task.name).stem if stems[Path(task.name).stem] == 1 else task.name for task in tasks]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"two files are called {twice[0]}: transcribe them into different folders")
    return [replace(task, target=Path(str(output)) / f"{name}.{format}") for task, name in zip(tasks, names, strict=True)]


def _without_existing(tasks: list[_Task], quiet: bool) -> list[_Task]:
    if any(task.target is None for task in tasks):
        raise UsageError("--skip-existing needs files to look for: add --output")
    left = [task for task in tasks if task.target is not None and not task.target.exists()]
    if len(left) < len(tasks) and not quiet:
        console.say(f"{len(tasks) - len(left)} of {len(tasks)} transcripts are there already")
    return left


def _find_model(name: str | None) -> Path:
    from sage_cli.store import find_speech_model

    found = find_speech_model(name)
    if found is None:
        raise ModelError("no speech model: run 'sage models pull whisper-base', or give --model the path of a Whisper model (ggml-*.bin)")
    return found


# ---- one transcript ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """How every transcript of this call is made."""

    transcriber: Transcriber
    model: str
    span: _Span
    layout: Layout
    words: bool
    quiet: bool

    def __call__(self, task: _Task) -> None:
        """Write one transcript.

        Raises:
            SageError: the media cannot be read or decoded.
            OSError: the transcript cannot be written.
        """
        from sage_cli.speech.formats import FORMATS

        format = FORMATS[task.format](self.layout)
        with _target(task.target, task.source) as out, _local(task.source) as path, interrupts() as stop_if_asked:
            video = _open(path, task)
            try:
                with closing(self._pieces(task, format, video)) as pieces:  # its progress bar goes away with it
                    for piece in pieces:
                        out(piece)
                        stop_if_asked()
            except KeyboardInterrupt:
                if not self.quiet:
                    console.say("what is done is kept: the same command goes on from here")
                raise

    def _pieces(self, task: _Task, format: Format, video: Video) -> Generator[str]:
        """The text of the transcript, as it comes; empty pieces where nothing is said for long."""
        from sage_cli.speech import Transcript, TranscriptCache
        from sage_cli.speech.cues import present
        from sage_cli.speech.formats import About
        from sage_cli.store import cache_dir
        from sage_cli.store.cache import note_media

        start, end = self.span.within(video.duration)
        about = About(task.name, video.duration, self.model)
        yield format.head(about)
        said = False
        if video.has_audio:
            if task.source != STDIN:
                note_media(video.id, Path(task.source))
            cache = TranscriptCache(cache_dir() / "transcripts")
            visible = sys.stderr.isatty() and not self.quiet and not (task.target is None and sys.stdout.isatty())
            with _progress(task.name, end - start) if visible else nullcontext() as show:
                for part in Transcript(self.transcriber, video, video.id, cache).parts(start, end):
                    for segment in present(part.segments, start, end, self.layout, words=self.words):
                        said = True
                        about = replace(about, language=segment.language)
                        yield format.segment(segment)
                    if show:
                        show(part.seconds - start)
                    yield ""
        yield format.foot(about)
        if not said and not self.quiet:
            console.say(f"{task.name} has no {'speech' if video.has_audio else 'sound'}: its transcript is empty")


def _open(path: Path, task: _Task) -> Video:
    from sage_cli.video import Video

    try:
        return Video(path)
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), task.source if task.source != STDIN else "stdin")) from error


@contextmanager
def _local(source: str) -> Iterator[Path]:
    """The media as a file that can be read more than once: what comes through a pipe is put on the disk first."""
    import shutil
    import tempfile

    path = Path(source)
    if source != STDIN and not (path.is_fifo() or path.is_char_device()):
        yield path
        return
    if source == STDIN and sys.stdin.isatty():
        raise UsageError("stdin is a terminal: pipe media into it, or name a file")
    with tempfile.TemporaryDirectory(prefix="sage-") as folder:
        copy = Path(folder) / "media"
        with copy.open("wb") as file, open(0, "rb", closefd=False) if source == STDIN else path.open("rb") as pipe:
            shutil.copyfileobj(pipe, file, 1 << 20)
        yield copy


@contextmanager
def _target(path: Path | None, source: str) -> Iterator[Callable[[str], None]]:
    """What to write with; ``None`` is stdout."""
    if path is None:
        yield _write_stdout
        return
    from sage_cli.output import open_text

    with open_text(path, [Path(source)]) as file:
        yield lambda text: print(text, end="", file=file)


def _write_stdout(text: str) -> None:
    sys.stdout.write(console.neutral(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


@contextmanager
def _progress(name: str, seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar on stderr with what is left to wait."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TimeElapsedColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # stdout may be a pipe: rich must not take it over.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=True) as bar:
        task = bar.add_task(console.neutral(name).replace("[", r"\["), total=seconds)
        yield lambda done: bar.update(task, completed=done)


# ---- several at a time ---------------------------------------------------------------------------------------------


def _arguments(context: typer.Context) -> list[str]:
    """The options of this call that a call for one of its files needs too, as they would be typed."""
    own = {"media", "output", "format", "jobs", "skip_existing", "quiet", "threads"}
    typed: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in own or value is None or value == parameter.default:
            continue
        if isinstance(value, bool):
            typed.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            typed.append(f"{parameter.opts[0]}={value}")
    return typed


def _affordable(jobs: int, model: Path, quiet: bool) -> int:
    """As many jobs as cores and memory bear: every one holds the whole model."""
    from sage_cli.speech.whisper import available_cores

    each = model.stat().st_size * 3 // 2 + (300 << 20)
    bearable = max(1, min(available_cores(), _free_memory() // each))
    if bearable < jobs and not quiet:
        console.say(f"--jobs {bearable} instead of {jobs}: more than this machine's cores or memory bear")
    return min(jobs, bearable)


def _free_memory() -> int:
    """Bytes that can be had without swapping; half of all there is where the system does not tell."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 4 << 30


def _in_parallel(tasks: list[_Task], arguments: list[str], jobs: int, threads: int | None, quiet: bool) -> list[tuple[str, str, int]]:
    """Every file in a process of its own, so that one that brings whisper.cpp down takes no other along."""
    import subprocess
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from sage_cli.speech.whisper import available_cores

    share = threads or max(1, min(8, available_cores() // jobs))
    running: list[subprocess.Popen[str]] = []
    failures = []

    def run(task: _Task) -> tuple[_Task, int, str]:
        command = [sys.executable, "-m", "sage_cli", "transcribe", *arguments, "--quiet", f"--threads={share}"]
        command += [f"--format={task.format}", f"--output={task.target}", "--", task.source]
        # stdin is for the one task that reads it.
        child = subprocess.Popen(command, stdin=None if task.source == STDIN else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        running.append(child)
        _, complaints = child.communicate()
        return task, child.returncode, complaints

    pool = ThreadPoolExecutor(jobs)
    show = _progress(f"{len(tasks)} files", len(tasks)) if sys.stderr.isatty() and not quiet else nullcontext()
    try:
        with show as advance:
            for done, future in enumerate(as_completed([pool.submit(run, task) for task in tasks]), 1):
                task, status, complaints = future.result()
                if status == EXIT_INTERRUPTED:
                    raise KeyboardInterrupt
                if status:
                    last = complaints.strip().rpartition("\n")[2].removeprefix("sage: ").removeprefix("error: ")
                    failures.append((task.source, last or f"its process ended with status {status}", status if 0 < status < 128 else 1))
                if advance:
                    advance(done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in running:
            if child.poll() is None:
                child.terminate()
    return failures


def _reason(error: SageError | OSError) -> str:
    """One line; the machine's own troubles as ``FILE: No space left on device``."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror or error}" if error.filename else str(error.strerror or error)
    return str(error)


def _report(failures: list[tuple[str, str, int]], tasks: int) -> int:
    """Say what failed; the exit code is the failures' common one, else 1."""
    if not failures:
        return 0
    console.say(f"{len(failures)} of {tasks} files failed:")
    for source, reason, _status in failures:
        console.say(reason if source in reason else f"{source}: {reason}")
    statuses = {status for _source, _reason, status in failures}
    return statuses.pop() if len(statuses) == 1 else 1

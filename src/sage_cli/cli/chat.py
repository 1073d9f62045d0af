"""``sage chat VIDEO``: a conversation with a video."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.consent import Consent, at_terminal
from sage_cli.cli.keys import unseen_keys
from sage_cli.cli.options import argument, check_forms, takes
from sage_cli.errors import EXIT_INTERRUPTED, EXIT_NO_ANSWER, SageError, UsageError, machine_trouble
from sage_cli.session.options import Options
from sage_cli.text import decode, is_utf16, lines, user_path

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from sage_cli.cli.renderers import Renderer
    from sage_cli.session.conversation import Conversation


EXAMPLES = """[bold]Examples[/]
  sage chat talk.mp4
  sage chat talk.mp4 --continue"""

HELP: Final = {
    "/at TIME": "ask about the half minute around a time",
    "/from TIME [TIME]": "ask about a part; /from alone: about the whole video",
    "/frames": "show which frames were looked at",
    "/transcript [TIME TIME]": "show what is said",
    "/tools on|off": "let the model use tools, or answer from the first look",
    "/save FILE": "save the conversation as a report, .html or .md",
    "/open [TIME]": "open the video in a player",
    "/help": "show this",
    "/quit": "leave; so does Ctrl-D",
}

_AROUND_S: Final = 15.0


@takes("chat")
def chat(
    video: Annotated[str, argument("VIDEO", "Video or recording.")],
    resume: Annotated[bool, typer.Option("--continue", "-c", help="Take up the last conversation about this video.")] = False,
    *,
    options: Options,
) -> int:
    """Talk with a video.

    Ask one question after another; each sees the earlier ones. Ctrl-C stops an answer, Ctrl-D leaves. /help lists what else there is.
    """
    return converse(video, options, resume=resume)


def converse(video: str, options: Options, *, resume: bool = False) -> int:
    """A conversation about a video, until its end."""
    from sage_cli.cli.offer import offer
    from sage_cli.cli.opening import introduce, opened, tell_plan
    from sage_cli.session import Session
    from sage_cli.session.conversation import Conversation

    console.need_stdout()
    check_forms(options)
    with Session(options, consent=Consent(options.web), offer=offer) as session:
        session.check(opened(session, video))
        introduce(session)
        tell_plan(session)
        conversation = Conversation(session, video, resume=resume)
        if resume and not conversation.runs:
            console.note(f"the log holds no conversation about {conversation.video.label}: this is a new one")
        for run in conversation.runs:  # also those that the model is not given
            if run["answer"] is not None and run["fingerprint"] == conversation.video.id:
                console.say(f"earlier: {run['question']} {run['answer']}")
        return Talk(conversation).run()


class Talk:
    """Reads lines and answers them until there are no more."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.commands: dict[str, Callable[[str], None]] = {
            "at": self.at,
            "from": self.part,
            "frames": self.frames,
            "transcript": self.transcript,
            "tools": self.tools,
            "save": self.save,
            "open": self.open,
            "help": self.help,
        }

    def run(self) -> int:
        """Until /quit, Ctrl-D or the end of a pipe. Return the exit code: for a person 0; for a pipe that of the lines that failed, 1 if
        they differ."""
        failed: set[int] = set()
        lines = self._lines()
        while True:
            try:
                for line in lines:
                    if line.split()[0] in ("/quit", "/exit"):
                        break
                    failed |= self._failure(line)
                break
            except KeyboardInterrupt:  # too late to stop an answer; between two lines it ends no conversation of a person
                if not at_terminal():
                    raise
        if at_terminal() or not failed:
            return 0
        return failed.pop() if len(failed) == 1 else SageError.exit_code

    def _failure(self, line: str) -> set[int]:
        """Do what a line asks for; return the exit code if that failed."""
        try:
            return set() if self.answer(line) else {EXIT_NO_ANSWER}
        except KeyboardInterrupt:
            console.say("stopped")
            return {EXIT_INTERRUPTED}
        except SageError as error:
            console.say(f"error: {error}")
            return {error.exit_code}
        except BrokenPipeError:  # nobody reads the answers any more
            raise
        except (OSError, MemoryError) as error:
            console.say(f"error: {machine_trouble(error)}")
            return {SageError.exit_code}

    def answer(self, line: str) -> bool:
        """Do what a line asks for; return whether it was done: false for a question without an answer."""
        if not line.startswith("/"):
            return self._ask(line)
        name, rest = [*line[1:].split(maxsplit=1), "", ""][:2]
        command = self.commands.get(name)
        if command is None:
            raise UsageError(f"there is no /{name}: /help lists what there is")
        # Some take long, and what is typed meanwhile is the next line. On a dumb terminal nothing shows it again.
        with nullcontext() if console.dumb() else unseen_keys():
            command(rest)
        return True

    def _ask(self, question: str) -> bool:
        from sage_cli.cli.renderers import follow

        with self._renderer as view:
            answered = follow(self.conversation.ask(question), view)
        if self.conversation.log_problem:
            console.note(self.conversation.log_problem)
            self.conversation.log_problem = ""
        return answered

    @cached_property
    def _renderer(self) -> AbstractContextManager[Renderer]:
        """One for all questions: it shows the model and the limits once."""
        from sage_cli.cli.renderers import renderer

        return renderer(self.conversation.session.options)

    # ---- commands --------------------------------------------------------------------------------------------------

    def at(self, rest: str) -> None:
        from sage_cli.timecode import parse_within

        words = rest.split()
        if len(words) != 1:
            raise UsageError("/at takes one time, as in /at 12:30")
        time = parse_within(words[0], self.conversation.video.duration)
        self._part(time - _AROUND_S, time + _AROUND_S)

    def part(self, rest: str) -> None:
        from sage_cli.timecode import parse

        words = rest.split()
        if not words:
            self.conversation.span = None
            console.say("asking about the whole video")
        elif len(words) <= 2:
            self._part(parse(words[0]), parse(words[1]) if len(words) == 2 else self.conversation.video.duration)
        else:
            raise UsageError("/from takes one time or two, as in /from 12:30 15:00")

    def _part(self, start: float, end: float) -> None:
        from sage_cli.timecode import format_span

        span = self.conversation.session.span(self.conversation.video, max(0.0, start), end)
        self.conversation.span = span
        console.say(f"asking about {format_span(*span)}; /from alone goes back to the whole video")

    def frames(self, rest: str) -> None:
        from sage_cli.cli.thumbnails import show_spans
        from sage_cli.timecode import format_clock, format_clock_ms, format_span

        if not self.conversation.runs:
            raise UsageError("nothing was looked at yet: ask something first")
        run, video = self.conversation.subjects()[-1]
        clocks = [format_clock(time) for time in run["frames"]]
        exact = len(set(clocks)) < len(clocks)  # several in a second
        self._show(f"first look: {' '.join(map(format_clock_ms, run['frames']) if exact else clocks) or 'no frames'}")
        spans = [(one["span"]["start"], one["span"]["end"]) for one in run["evidence"]]
        for one, span in zip(run["evidence"], spans, strict=True):
            self._show(f"{format_span(*span)}  {console.basis(one['what'], one.get('said', ''))}")
        if not isinstance(video, str):
            show_spans(video, spans)

    def transcript(self, rest: str) -> None:
        from sage_cli.timecode import format_clock, parse

        words = rest.split()
        if len(words) not in (0, 2):
            raise UsageError("/transcript takes no times or two, as in /transcript 12:30 15:00")
        start, end = map(parse, words) if words else self.conversation.span or (None, None)
        said, session, video = False, self.conversation.session, self.conversation.video
        with closing(session.parts(video, session.subtitles(video), start=start, end=end)) as parts:
            for segment in (segment for part in parts for segment in part.segments):
                said = True
                self._show(f"{format_clock(segment.start)}  {' '.join(segment.text.split())}")
        if not said:
            console.say("nothing is said there")

    def tools(self, rest: str) -> None:
        if rest not in ("on", "off"):
            raise UsageError("/tools takes on or off")
        self.conversation.tools = rest == "on"
        console.say(f"tools are {rest}")

    def save(self, rest: str) -> None:
        from sage_cli.report import write_report

        name = rest[1:-1] if len(rest) > 2 and rest[0] == rest[-1] and rest[0] in "'\"" else rest
        if not name:
            raise UsageError("/save takes a file name, as in /save talk.html")
        if not self.conversation.runs:
            raise UsageError("there is nothing to save yet: ask something first")
        write_report(user_path(name), runs := self.conversation.subjects())
        lacking = "; ".join(dict.fromkeys(video for _, video in runs if isinstance(video, str)))
        console.say(f"saved {name}{f'; frames are missing: {lacking}' if lacking else ''}")

    def open(self, rest: str) -> None:
        from sage_cli.cli.player import play
        from sage_cli.timecode import parse

        play(self.conversation.video.path, parse(rest) if rest else 0.0)

    def help(self, rest: str) -> None:
        tables.facts(HELP.items(), stderr=True)

    def _show(self, line: str) -> None:
        """Print a line of a command's result. JSON on stdout is of answers alone."""
        options = self.conversation.session.options
        if options.json or options.jsonl:
            console.say(line)
        else:
            tables.text(line)

    # ---- lines -----------------------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        """What is typed, or comes through a pipe, without blank lines."""
        if not at_terminal():
            return (line for text in _texts(sys.stdin.buffer) for line in lines(text))
        read = _plain_line if console.dumb() else partial(_prompt(keep=self.conversation.session.options.log).prompt, "> ")
        console.say(f"ask about {self.conversation.video.label}; /help lists commands, Ctrl-D leaves")
        return iter(partial(_typed, read), None)  # no generator: that an interrupt would end


def _texts(pipe: BinaryIO) -> Iterator[str]:
    """What comes through a pipe, as text: line by line, so that a program can wait for each answer; UTF-16 as a whole."""
    for line in pipe:
        yield decode(line + pipe.read() if is_utf16(line) else line)


def _typed(read: Callable[[], str]) -> str | None:
    """The next line that is not blank; ``None`` after Ctrl-D."""
    while True:
        try:
            if line := read().strip():
                return line
        except KeyboardInterrupt:
            continue
        except EOFError:
            return None


def _plain_line() -> str:
    """A line that is typed on a terminal that knows no escape sequences; it is not edited here."""
    if not (line := console.ask(">")):
        raise EOFError
    return line


def _prompt(*, keep: bool) -> PromptSession[str]:
    """Line editing with history and completion; on stderr, for stdout is for answers.

    Args:
        keep: keep the history for later conversations.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.output import create_output

    from sage_cli.store.paths import history_path
    from sage_cli.store.private import private_file

    class Kept(FileHistory):
        """Lives as long as this conversation where the file cannot be read or written (a full disk)."""

        def load_history_strings(self) -> Iterable[str]:
            with suppress(OSError):
                return super().load_history_strings()
            return ()

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(string)

    history: History = InMemoryHistory()
    if keep:
        path = history_path()
        with suppress(OSError):  # a read-only home: the history lives as long as this conversation
            private_file(path)
            history = Kept(str(path))
    words = [command.split()[0] for command in HELP]
    return PromptSession(
        history=history,
        completer=WordCompleter(words, sentence=True),
        complete_while_typing=False,
        enable_suspend=True,
        output=create_output(stdout=sys.stderr),
    )

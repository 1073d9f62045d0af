"""stdout, stderr and logging, as every command uses them."""

from __future__ import annotations

import codecs
import logging
import os
import re
import shutil
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from sage_cli.errors import NOTICES, SageError, naming
from sage_cli.signals import clean_up_when_ended
from sage_cli.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

EXIT_OUTPUT_CLOSED = 141  # as a shell reports a program that SIGPIPE ended

_STDOUT = "standard output"
_QUOTED: Final = 160  # characters of what is said in a span of evidence

debugging = False  # --debug
quiet = False  # --quiet
_stdout_closed = False
_incomplete = False  # stdout's encoding lacked characters
_REPLACE: Final = "sage_cli.replace"

# Characters that could move the cursor, change colours or the title, reverse text or break a line; and code points that cannot be encoded.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FOREIGN = re.compile("[^\t\n -~]")


def neutral(text: str) -> str:
    """Sanitize text from a model or a file for a terminal: control characters become visible substitutes."""
    return _UNSAFE.sub(lambda match: chr(0x2400 + ord(match[0])) if match[0] < " " else "\ufffd", text.replace("\r\n", "\n"))


def basis(what: str, said: str) -> str:
    """How a span of evidence was examined, and the beginning of what is said there, if that is known."""
    return f'{what}: "{shortened(said, _QUOTED)}"' if said else what


def neutral_json(text: str) -> str:
    """The same for JSON, without loss: such characters, and those that stdout's encoding may lack, become ``\\u`` escapes."""
    escaped = _UNSAFE if "utf" in (sys.stdout.encoding or "").lower() else _FOREIGN
    return escaped.sub(lambda match: re.sub("....", r"\\u\g<0>", match[0].encode("utf-16-be", "surrogatepass").hex()), text)


def write(text: str, end: str = "\n") -> None:
    """Print results on stdout, a line unless ``end`` says otherwise, and flush."""
    print(text, end=end, flush=True)


def write_path(path: Path) -> None:
    """Print a path as a line of results: sanitized on a terminal, byte for byte in a pipe, so that programs find the file."""
    if sys.stdout.isatty():
        write(neutral(str(path)))
        return
    need_stdout()
    with naming(_STDOUT):
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(f"{path}{os.linesep}"))
        sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Print a line for the user on stderr; wrapped at words on a terminal."""
    line = f"sage: {' '.join(neutral(text).split())}"
    if sys.stderr.isatty():
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: nobody has told the terminal its size
        line = _wrapped(line, max(10, columns), indent=" " * 6)
    print(line, file=sys.stderr, flush=True)


def _wrapped(line: str, width: int, indent: str) -> str:
    """A line in rows of whole words. A word wider than a row is left to the terminal: a path that it breaks can still be copied."""
    from rich.cells import cell_len

    first, *words = line.split(" ")
    rows = [first]
    for word in words:
        row = f"{rows[-1]} {word}"
        if cell_len(row) > width:
            rows.append(indent + word)
        else:
            rows[-1] = row
    return "\n".join(rows)


def note(text: str) -> None:
    """The same for a notice: nothing with --quiet."""
    if not quiet:
        say(text)


def shows_progress() -> bool:
    """Whether somebody follows the work on stderr."""
    return sys.stderr.isatty() and not quiet


def ask(prompt: str) -> str:
    """Print a prompt on stderr and read a line from stdin; ``""`` at the end of input."""
    try:
        print(prompt, end=" ", file=sys.stderr, flush=True)
        return sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # what is said of it begins a line
        raise


def dumb() -> bool:
    """Whether the terminal obeys no control sequence, as a shell in Emacs."""
    return os.environ.get("TERM") in ("dumb", "unknown")


def screen(*, stderr: bool = False) -> Console:
    """The terminal, for rich."""
    from rich.console import Console

    # Rich takes a "dumb" terminal for 80 columns wide, whatever it is.
    width = shutil.get_terminal_size().columns if dumb() else None
    return Console(stderr=stderr, width=width, highlight=False)


def draws() -> bool:
    """Whether stdout is a terminal on which more can be drawn than lines of text."""
    return sys.stdout.isatty() and not dumb()


def prepare() -> None:
    """Set the process up: no answer may fail for its alphabet, no library may write to the terminal, signals clean up."""
    global quiet
    quiet = False
    _open_standard_streams()
    codecs.register_error(_REPLACE, _replace)
    for stream, errors in ((sys.stdout, _REPLACE), (sys.stderr, "replace")):
        # A pipe or a file receives UTF-8, as all files do, whatever the alphabet of a terminal here.
        encoding = None if stream.isatty() or os.environ.get("PYTHONIOENCODING", "").partition(":")[0] else "utf-8"
        stream.reconfigure(encoding=encoding, errors=errors)  # type: ignore[union-attr]
    sys.stdout, sys.stderr = cast(TextIO, _Results(sys.stdout)), cast(TextIO, _Notices(sys.stderr))
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(capture=True)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    clean_up_when_ended()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see sage_cli.__main__
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """An error handler as ``replace`` is, for stdout, that takes a note of it."""
    global _incomplete
    if not isinstance(error, UnicodeEncodeError):
        raise error
    _incomplete = not error.encoding.lower().startswith("utf")  # which lacks nothing but halves of surrogate pairs
    return "?" * (error.end - error.start), error.end


def tell_replaced() -> None:
    """Say so if stdout's encoding lacked characters of the results."""
    if _incomplete:
        say(f"standard output is {sys.stdout.encoding}: '?' stands for characters that it lacks; set PYTHONIOENCODING=utf-8 to get them")


def need_stdout() -> None:
    """Check stdout before work whose results go there.

    Raises:
        SageError: it is closed.
    """
    if _stdout_closed:
        raise SageError(f"{_STDOUT} is closed: there is nowhere to write results to")


def _open_standard_streams() -> None:
    """Open standard streams that the process was started without (``2>&-``): the next opened file would otherwise receive their output."""
    global _stdout_closed
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Writing results to a closed stdout is an error; notices are dropped.
            handle = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
            _stdout_closed |= name == "stdout"


class _Stream:
    """A standard stream whose writes fail in another way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Results(_Stream):
    """stdout whose failed writes say what could not be written, whoever writes: our code, rich, or typer."""

    def write(self, text: str) -> int:
        if text:
            need_stdout()
        with naming(_STDOUT):
            return self._stream.write(text)

    def flush(self) -> None:
        with naming(_STDOUT):
            self._stream.flush()


class _Notices(_Stream):
    """stderr whose writes never fail: a notice that cannot be written (``2>/dev/full``) does not cost the answer."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def log(*, verbose: bool = False, debug: bool = False, quietly: bool = False) -> None:
    """Show the logs of sage's packages and of the libraries on stderr, or only notices. ``quietly``: not even these."""
    global debugging, quiet
    debugging, quiet = debug, quietly
    if not (verbose or debug):
        if not quietly:
            NOTICES.addHandler(_Notice())
        return
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("sage_cli").setLevel(logging.DEBUG if debug else logging.INFO)


def output_closed() -> int:
    """Handle a closed stdout (``| head -1``): redirect it, or Python would report the error again at shutdown."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OUTPUT_CLOSED


class _StderrHandler(logging.Handler):
    """Writes to the current ``sys.stderr``: a live view replaces it and prints log lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(neutral(self.format(record)), file=sys.stderr)


class _Notice(logging.Handler):
    """Tells each kind of notice once: the caches of a run are in one place, and each video opens them again."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        kind = getattr(record, "kind", record.msg)  # that of a worker's, whose words are all that its parent gets
        if kind not in self._told:
            self._told.add(kind)
            say(record.getMessage())


def json_wanted(words: Sequence[str]) -> str:
    """The form of results that a command line asks for, ``json`` or ``jsonl``, also if it cannot be parsed; ``""`` if it is another."""
    end = words.index("--") if "--" in words else len(words)
    found = re.findall(r"\0(?:--|-f\0?|--(?:format|as)[\0=])(jsonl?)(?=\0)", "\0".join(["", *words[:end], ""]))
    return max(found, default="")  # with both, objects have a type


def write_error(form: str, message: str, code: str, status: int, video: str | None = None) -> None:
    """Print an error beside the results, if they are JSON.

    Args:
        form: of the results: ``json``, ``jsonl``, or another.
        code: for programs, such as ``video``.
        video: what failed, as given, if there are several.
    """
    if form in ("json", "jsonl"):
        kind = {"type": "error"} if form == "jsonl" else {}
        which = {} if video is None else {"video": video}
        write(dumps({**kind, **which, "error": " ".join(message.split()), "code": code, "exit_code": status}))


def dumps(record: Any) -> str:
    """One line of JSON that is safe to show on a terminal."""
    import json

    return neutral_json(json.dumps(record, ensure_ascii=False))

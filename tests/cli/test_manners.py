"""Conventions of the command line for shells, pipes, programs and mistyped commands, in real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sage_cli.assets import CLIPS
from tests.cli.conftest import Popen

Sage = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Popen]
Refusal = Callable[..., tuple[int, str]]

SHORT = CLIPS / "short.mp4"
NANO = ["--model", "nano", "-q", "--threads", "1"]
SAGE = f"{sys.executable} -m sage_cli"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
BINDING = shutil.which("setpriv")  # makes permissions bind root, too


@pytest.fixture
def shell(environment: dict[str, str]) -> Sage:
    """A line for bash in which ``sage`` is sage."""

    def run(line: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", f'sage() {{ {SAGE} "$@"; }}\n{line}']
        return subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", env=environment | more, check=False)

    return run


# ---- what was typed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mp4", "b.mp4", "what?"], "b.mp4 is a file, not a question; for several videos: sage ask a.mp4 b.mp4 --question"),
        (["a.mp4", "who is it?", "--question", "what?"], "'who is it?' is not a video: with --question, every argument is one"),
        ([".", "what?"], ". holds no video"),
        (["What is it?", "a.mp4"], "the video comes before the question: sage ask a.mp4 'What is it?'"),
        (["a.mp4", "what", "is", "this"], "put the question in quotes: sage ask a.mp4 'what is this'"),
        (["my a.mp4", "what", "is", "this"], "sage ask 'my a.mp4' 'what is this'"),  # can be pasted
        (["ftp://host/x.mp4", "what?"], "no link that sage can open"),
        (["a.mp4", ""], "the question is empty"),
        (["a.mp4", "", "what?"], "the question is empty"),
        (["a.mp4", "what?", "--frames", "abc"], "--frames cannot be 'abc': expected a whole number from 1 to 65536"),
        (["a.mp4", "what?", "--ctx-size", "4294967297"], "--ctx-size cannot be '4294967297': expected a whole number from 256"),
        (["a.mp4", "what?", "--threads", "99999999999"], "--threads cannot be '99999999999'"),
        (["a.mp4", "what?", "--model", ""], "--model is empty"),
        (["a.mp4", "what?", "--web=ask"], "needs a terminal"),
        (["a.mp4", "what?", "--no-tool", "telepathy"], "a.mp4"),  # the path comes first
    ],
)
def test_mistakes_in_one_line(refusal: Refusal, words: list[str], said: str) -> None:
    status, line = refusal("ask", *words)
    assert status in (2, 4)
    assert said in line and line.count("\n") == 1, line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cache", "prune", "--older-than", "x"], "'--older-than': expected a number (see 'sage cache prune --help')"),
        (["cache", "prune", "--older-than", "-1"], "'--older-than': expected 0 or more"),
        (["cache", "clear", "--kind", "y"], "'--kind': 'y' is not one of 'transcripts', "),
        (["cache", "prune", "--older-than"], "requires an argument (see 'sage cache --help')"),
        (["log", "show", "x"], "'ID': expected a whole number"),
        (["mcp", "--web=ask"], "sage mcp has nobody to ask"),
        (["frames", "a.mp4", "--width", "3"], "'--width': expected 16 or more"),
        (["ground", "a.mp4", "a star", "--as", "edl", "--json"], "--as edl and --json exclude each other: choose one"),
        (["summary", "a.mp4", "--as", "md", "--json"], "--as md and --json exclude each other: choose one"),
        (["summary", "a.mp4", "--as", "md", "--schema", "{}"], "--as md and --schema exclude each other: choose one"),
        (["demo", "--json", "--jsonl"], "--json and --jsonl exclude each other: choose one"),
    ],
)
def test_values_are_refused_in_plain_words(refusal: Refusal, words: list[str], said: str) -> None:
    status, line = refusal(*words)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line


@pytest.mark.parametrize("words", [["ask", "nonesuch.mp4", "what?"], ["transcribe", "nonesuch.mp4"]])
def test_the_path_comes_before_the_model(sage: Sage, words: list[str]) -> None:
    done = sage(*words)
    assert (done.returncode, done.stdout) == (4, "")
    assert "nonesuch.mp4" in done.stderr


def test_help_fits_80_columns_and_60_lines(shell: Sage) -> None:
    short, long = shell("sage ask --help", COLUMNS="80").stdout, shell("sage ask --help-all", COLUMNS="80").stdout
    assert len(short.splitlines()) <= 60
    assert max(map(len, [*short.splitlines(), *long.splitlines()])) <= 80
    assert "--help-all" in short and "--gpu-layers" not in short
    assert "--gpu-layers" in long
    assert not re.search(r"<(bool|str|list)|\{QUESTION", short + long)
    front = shell("sage", COLUMNS="80")
    assert "sage demo" in front.stdout[-500:] and "sage ask video.mp4" in front.stdout[-500:] and "sage help" in front.stdout[-500:]


# ---- text from outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        r"""sage ask {video} $'Which shape appears last? caf\xe9' {nano} --json""",
        r"""printf 'Which shape appears last? caf\xc3\xa9' | iconv -t UTF-16 | sage ask {video} - {nano} --json""",
        r"""LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 sage ask {video} $'Which shape appears last? caf\xc3\xa9' {nano} --json""",
    ],
)
def test_questions_in_any_encoding(shell: Sage, line: str) -> None:
    done = shell(line.format(video=SHORT, nano=" ".join(NANO)))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["question"] == "Which shape appears last? café"


def test_prompts_in_any_encoding(shell: Sage) -> None:
    done = shell(rf"sage transcribe {CLIPS / 'speech.mp4'} -m nano -q --threads 1 --prompt $'caf\xe9'")
    assert (done.returncode, done.stderr) == (0, "")


# ---- streams -------------------------------------------------------------------------------------------------------


def test_closed_standard_streams(shell: Sage) -> None:
    ask = f"sage ask {SHORT} 'Which shape appears last?' {' '.join(NANO)}"
    answer = "A red star appears last.\n"
    for closed in ("<&- 2>&-", "2>/dev/full"):
        done = shell(f"{ask} {closed}")
        assert (done.returncode, done.stdout) == (0, answer), closed
    done = shell(f"{ask} >&-")
    assert (done.returncode, done.stdout) == (1, "")
    told = "sage: error: standard output is closed: there is nowhere to write results to\n"
    assert done.stderr == told
    for words in ("help ask", "models list", f"transcribe {SHORT} --model nano"):
        done = shell(f"sage {words} >&-")
        assert (done.returncode, done.stderr) == (1, told), words
    for words in ("--help", "--show-completion bash"):
        done = shell(f"sage {words} >/dev/full")
        assert (done.returncode, done.stderr) == (1, "sage: error: standard output: No space left on device\n"), words
    assert shell(f"sage ask nonesuch.mp4 what? {' '.join(NANO)} 2>&-").stdout == ""


def test_the_reader_of_help_goes_away(shell: Sage) -> None:
    done = shell("sage ask --help-all | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[-1] in ("141", "0")  # 0: all of it fitted into the pipe
    with subprocess.Popen(["bash", "-c", f"sleep 1; {SAGE} --help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (141, b"")


@pytest.mark.parametrize(
    "line",
    ["sage ask <(cat {video}) 'Which shape appears last?' {nano}", "cat {video} | sage ask /dev/stdin 'Which shape appears last?' {nano}"],
)
def test_a_pipe_in_place_of_a_video(shell: Sage, environment: dict[str, str], line: str) -> None:
    done = shell(line.format(video=SHORT, nano=" ".join(NANO)))
    assert (done.returncode, done.stdout) == (0, "A red star appears last.\n"), done.stderr
    assert not any(Path(environment["TMPDIR"]).iterdir())


bound = pytest.mark.skipif(
    not hasattr(os, "geteuid") or (ROOT and BINDING is None), reason="needs a user whom permissions bind, or setpriv"
)
BOUND_SAGE = [
    *([BINDING, "--bounding-set", "-dac_override,-dac_read_search"] if ROOT and BINDING else []),
    *(sys.executable, "-m", "sage_cli"),
]


@bound
def test_a_cache_that_may_not_be_opened_is_none(environment: dict[str, str], tmp_path: Path) -> None:
    """As after ``sudo sage``: it stops nobody."""
    (closed := tmp_path / "closed").mkdir(mode=0)
    words = ["ask", str(SHORT), "Which shape appears last?", *NANO, "-v"]
    environment["SAGE_CACHE_DIR"] = str(closed)
    done = subprocess.run([*BOUND_SAGE, *words], env=environment, capture_output=True, text=True, check=False)
    closed.chmod(0o700)
    assert (done.returncode, done.stdout) == (0, "A red star appears last.\n"), done.stderr
    assert "nothing is cached" in done.stderr


@bound
@pytest.mark.parametrize("command", [["ask", "what?"], ["transcribe"]])
def test_what_may_not_be_read(environment: dict[str, str], tmp_path: Path, command: list[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "v.mp4").write_bytes(SHORT.read_bytes())
    (locked / "v.mp4").chmod(0)
    for mode in (0o700, 0):
        locked.chmod(mode)
        words = [command[0], str(locked / "v.mp4"), *command[1:], "--model", "nano"]
        done = subprocess.run([*BOUND_SAGE, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 4, done.stderr
        assert "v.mp4" in done.stderr
    locked.chmod(0o700)


def test_without_a_home(environment: dict[str, str]) -> None:
    for name in "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME":
        environment.pop(name, None)
    # A user that the system does not know, as in a container that runs under any number.
    nobody = "import pwd\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\n"
    program = f"{nobody}import sys; sys.argv = ['sage', 'config', 'list']\nfrom sage_cli.cli import main; main()"
    done = subprocess.run([sys.executable, "-Bc", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- for programs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["ask", "v.mp4", "what?", "--json"], "video", 4),
        (["ask", SHORT, "what?", "--json"], "model", 3),
        (["ask", SHORT, "what?", "--json", "--frames", "x"], "usage", 2),
        (["ask", SHORT, "--json"], "usage", 2),
        (["ask", "v.mp4", "what?", "--jsonl"], "video", 4),
        (["summary", "v.mp4", "--as", "json"], "video", 4),
    ],
)
def test_errors_as_json(sage: Sage, words: list[object], code: str, status: int) -> None:
    done = sage(*words)
    [line] = done.stdout.splitlines()
    record = json.loads(line)
    assert (record["code"], record["exit_code"], done.returncode) == (code, status, status)
    assert done.stderr == f"sage: error: {record['error']}\n"
    assert record.get("type") == ("error" if "--jsonl" in words else None)


@pytest.mark.parametrize("encoding", ["", ":strict", "utf-8", "cp1252"])
def test_results_in_a_pipe_are_utf8_or_it_is_told(encoding: str) -> None:
    """Whatever a terminal here takes: Windows has its code pages, and this locale is ASCII."""
    program = r"import sage_cli.cli as cli; cli._run = lambda: cli.console.write('\u65e5\u672c \xe9') or 0; cli.main()"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env={**os.environ, **ascii_only}, check=True)
    if encoding == "cp1252":
        assert done.stdout.rstrip() == b"?? \xe9"
        assert done.stderr.count(b"standard output is cp1252") == 1
    else:
        assert done.stdout.decode().rstrip() == "\u65e5\u672c \xe9"
        assert not done.stderr


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


# Gets Ctrl-C when it is about to import a module.
INTERRUPTED = """
import os, runpy, signal, sys
class Finder:
    def find_spec(name, *_):
        if name == module:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder)
runpy.run_module("sage_cli", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("module", ["sage_cli.cli", "typer", "sage_cli.cli.ask", "av"])
def test_ctrl_c_at_the_start(module: str, environment: dict[str, str]) -> None:
    """From the first lines of sage_cli/__main__.py on; before them, the interpreter says what it was doing."""
    command = [sys.executable, "-c", INTERRUPTED, module, "ask", str(SHORT), "Which shape appears last?", *NANO]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) in ((130, "sage: interrupted\n"), (-signal.SIGINT, ""))


# ---- settings ------------------------------------------------------------------------------------------------------


def test_a_cache_limit_of_0_leaves_nothing(sage: Sage, environment: dict[str, str]) -> None:
    environment["SAGE_CACHE_LIMIT"] = "0"
    assert sage("ask", SHORT, "Which shape appears last?", *NANO).returncode == 0
    assert sage("transcribe", CLIPS / "speech.mp4", "-m", "nano", "-q").returncode == 0
    assert not Path(environment["SAGE_CACHE_DIR"]).exists()


def test_an_option_equal_to_the_default_reaches_workers(sage: Sage, environment: dict[str, str], tmp_path: Path) -> None:
    environment["SAGE_LANGUAGE"] = "klingon"
    media = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in media:
        path.write_bytes((CLIPS / "speech.mp4").read_bytes())
    done = sage("transcribe", *media, "-m", "nano", "-q", "-j", "2", "-o", f"{tmp_path}/out/", "--language", "auto")
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret number" in (tmp_path / "out" / "b.txt").read_text()


def test_offline_is_kept_by_bench(sage: Sage, environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SAGE_OFFLINE": "true", "HF_HOME": str(tmp_path / "hub")}
    done = sage("bench", "hf:allenai/SAGE-Bench")
    assert done.returncode == 2
    assert "allows no download" in done.stderr
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"question": "?", "video_path": "v", "answer": "1", "full_answer": "1", "num_attempts": 1}\n')
    done = sage("bench", answers, "--judge", "http://judge.example/v1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the judge at judge.example needs a connection" in done.stderr

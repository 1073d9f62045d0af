"""Every row of the documented table of exit codes, with its line on stderr, in a real process."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.cli.conftest import SMALL, Popen
from tests.media import make_audio, make_video, tone
from tests.models import TinyModel, write_qwen3_vl, write_truncated

Sage = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Popen]
Refusal = Callable[..., tuple[int, str]]
PAGE = Path(__file__).parents[2] / "docs" / "scripting.md"


def refused(done: subprocess.CompletedProcess[str], status: int, said: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(rf"sage: error: [^\n]*{said}[^\n]*\n", done.stderr), done.stderr


def test_the_page_names_them_all() -> None:
    from sage_cli.cli import console
    from sage_cli.errors import EXIT_INTERRUPTED, EXIT_NO_ANSWER, ModelError, SageError, UsageError, VideoError

    codes = {error.exit_code for error in (SageError, UsageError, ModelError, VideoError)}
    codes |= {0, EXIT_NO_ANSWER, EXIT_INTERRUPTED, console.EXIT_OUTPUT_CLOSED}
    codes |= {128 + number for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)}
    section = PAGE.read_text(encoding="utf-8").partition("## Exit codes\n")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == codes


# ---- 0: answered ---------------------------------------------------------------------------------------------------


def test_answered(sage: Sage, model: TinyModel, clip: Path) -> None:
    done = sage("ask", clip, "what?", "-m", model.text, *SMALL)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr == ""


def test_a_cache_that_cannot_be_written_is_done_without(sage: Sage, model: TinyModel, clip: Path, environment: dict[str, str]) -> None:
    """Regression: where computing took long, KV prefixes were kept too, and one cause had two lines."""
    environment["SAGE_CACHE_DIR"] = str(clip)
    done = sage("ask", clip, "what?", "-m", model.text, *SMALL, "--kv-cache", "on")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "is not used: Not a directory" in done.stderr


def test_questions_from_stdin_share_a_run(sage: Sage, model: TinyModel, clip: Path) -> None:
    done = sage("ask", clip, "first?", "-", "-m", model.text, *SMALL, "--json", input="second?\n\n third? \n")
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["question"] for record in records] == ["first?", "second?", "third?"]
    assert all(record["answer"] and record["reason"] is None for record in records)
    # A question may look at the same frames twice; the second one encodes none.
    first, second = (record["usage"] for record in records[:2])
    assert first["images_reused"] < first["images"]
    assert second["images_reused"] == second["images"] > 0


def test_version(sage: Sage) -> None:
    done = sage("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"sage \d+\.\d+\S*\nPython \S+, .*\nllama.cpp from .*: CPU.*\nwhisper.cpp .*\n", done.stdout)


# ---- 1: failure ----------------------------------------------------------------------------------------------------


def test_no_temporary_folder(start: Start, model: TinyModel, clip: Path) -> None:
    def no_file_may_grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    # Media from stdin have to be kept while they are read; a file is read where it is.
    with clip.open("rb") as media, start("ask", "-", "what?", "-m", model.text, preexec_fn=no_file_may_grow, stdin=media) as process:
        stdout, stderr = process.communicate()
    refused(subprocess.CompletedProcess([], process.returncode, stdout, stderr), 1, "temporary files.*TMPDIR")
    with start("ask", clip, "what?", "-m", model.text, *SMALL, preexec_fn=no_file_may_grow) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, bool(stdout)) == (0, True)
    assert "the log" in stderr  # could not be written; that costs no answer


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no full device")
def test_full_disk(start: Start, model: TinyModel, clip: Path) -> None:
    with Path("/dev/full").open("w") as full, start("ask", clip, "what?", "-m", model.text, *SMALL, stdout=full) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr == "sage: error: standard output: No space left on device\n"


@pytest.mark.parametrize("words", [["ask"], ["transcribe"]])
def test_a_link_that_cannot_be_reached(sage: Sage, words: list[str]) -> None:
    """Regression: what yt-dlp logs was shown as a notice, before the line that says the same."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        link = f"http://127.0.0.1:{unused.getsockname()[1]}/talk.mp4"
    refused(sage(*words, link, *["What?"][: words == ["ask"]]), 1, "refused; check the connection, and try again to resume")


# ---- 2: usage ------------------------------------------------------------------------------------------------------


def test_empty_question(sage: Sage, clip: Path) -> None:
    refused(sage("ask", clip, " \n"), 2, "question is empty")


def test_no_question_on_stdin(sage: Sage, clip: Path) -> None:
    refused(sage("ask", clip, "-", input="\n"), 2, "no question on stdin")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aks"], "Did you mean 'ask'"),
        (["chapters", "talk.mp4"], r"no such command 'chapters'\. Did you mean 'summary'\? \(see 'sage --help'\)"),
        (["ask", "v.mp4"], 'no question: sage ask v.mp4 "What happens\\?"'),
        (["ask", "v.mp4", "what?", "--frames", "0"], "--frames"),
        (["ask", "v.mp4", "what?", "--frame"], r"no such option.*\(see 'sage ask --help'\)"),
        (["ask", "v.mp4", "what?", "--kv-type", "q3"], "--kv-type"),
        (["ask", "-", "-"], "stdin holds the video or the questions, not both"),
    ],
)
def test_wrong_words(refusal: Refusal, words: list[str], said: str) -> None:
    status, line = refusal(*words)
    assert status == 2
    assert re.fullmatch(rf"sage: error: [^\n]*{said}[^\n]*\n", line)


@pytest.mark.parametrize("words", [["ask", "what?", "--report"], ["transcribe", "-f", "vtt", "-o"], ["frames", "--at", "1", "--sheet"]])
def test_a_name_that_is_too_long(refusal: Refusal, tmp_path: Path, words: list[str]) -> None:
    name = f"{'signed' * 60}.mp4"
    output, more = ("out.jpg", []) if words[0] == "frames" else ("out.html", ["--speech-model", "nano"])
    status, line = refusal(words[0], name, *words[1:], tmp_path / output, *more)
    assert (status, line.replace("open", "read")) == (4, f"sage: error: cannot read {name}: File name too long\n")  # by version of Python


def test_what_cannot_be_written_is_refused_before_the_work(refusal: Refusal, clip: Path, tmp_path: Path) -> None:
    ask, link = ("ask", clip, "what?", "-m", "nonesuch"), tmp_path / "link.html"
    link.hardlink_to(clip)
    assert refusal(*ask, "--report", link) == (2, f"sage: error: {link} is the input {clip}: give the output another name\n")
    assert refusal(*ask, "--clips", clip) == (2, f"sage: error: --clips {clip}: this is a file; name a folder\n")
    status, line = refusal(*ask, "--report", link / "b" / "c.html")
    assert (status, "c.html: Not a directory" in line) == (1, True)


@pytest.mark.parametrize("words", [["--start", "1:00"], ["--start", "1", "--end", "1"], ["--start", "soon"]])
def test_empty_part(refusal: Refusal, model: TinyModel, clip: Path, words: list[str]) -> None:
    status, line = refusal("ask", clip, "what?", "-m", model.text, *words)
    assert status == 2
    assert re.fullmatch(
        r"sage: error: (the start is not before the end, or outside the media|--start cannot be 'soon': expected a time).*\n", line
    )


def test_nothing_asked(sage: Sage) -> None:
    done = sage()
    assert done.returncode == 2
    assert done.stdout.startswith("Usage: sage")
    assert done.stderr == ""


# ---- 3: the model --------------------------------------------------------------------------------------------------


def test_missing_model(sage: Sage, clip: Path) -> None:
    refused(sage("ask", clip, "what?", "-m", "nonesuch.gguf"), 3, "no such model: nonesuch.gguf")


def test_no_model_given(sage: Sage, clip: Path) -> None:
    refused(sage("ask", clip, "what?"), 3, "no model: .*--model")


def test_language_model_without_mmproj(sage: Sage, model: TinyModel, clip: Path, tmp_path: Path) -> None:
    alone = shutil.copy(model.text, tmp_path / "alone.gguf")
    refused(sage("ask", clip, "what?", "-m", alone), 3, "language model alone.*--mmproj")


def test_mmproj_of_another_size(sage: Sage, model: TinyModel, clip: Path, tmp_path: Path) -> None:
    wider = write_qwen3_vl(tmp_path, width=128)
    refused(sage("ask", clip, "what?", "-m", model.text, "--mmproj", wider.mmproj), 3, "does not belong to")


def test_mmproj_of_another_family(sage: Sage, model: TinyModel, other_model: TinyModel, clip: Path) -> None:
    refused(sage("ask", clip, "what?", "-m", model.text, "--mmproj", other_model.mmproj), 3, "mmproj")


@pytest.mark.parametrize("broken", ["text", "mmproj"])
def test_corrupt_gguf(sage: Sage, model: TinyModel, clip: Path, tmp_path: Path, broken: str) -> None:
    cut = write_truncated(getattr(model, broken), tmp_path / "cut.gguf")
    text, mmproj = (cut, model.mmproj) if broken == "text" else (model.text, cut)
    refused(sage("ask", clip, "what?", "-m", text, "--mmproj", mmproj), 3, "cut.gguf")


def test_not_a_gguf(sage: Sage, clip: Path) -> None:
    refused(sage("ask", clip, "what?", "-m", clip), 3, "not a GGUF file")


def test_context_too_small(sage: Sage, model: TinyModel, clip: Path) -> None:
    refused(sage("ask", clip, "what?", "-m", model.text, "--ctx-size", "256"), 3, "context of 256 tokens.*--ctx-size")


def test_speech_model_that_is_none(sage: Sage, model: TinyModel, clip: Path) -> None:
    refused(sage("ask", clip, "what?", "-m", model.text, "--speech-model", clip), 3, "not a Whisper model")


@pytest.mark.parametrize(
    ("module", "extra", "words"),
    [
        ("mcp", "mcp", ["mcp"]),
        ("yt_dlp", "url", ["frames", "http://127.0.0.1:1/talk.mp4", "--at", "1"]),
        ("pyarrow", "bench", ["bench", "set.parquet", "-m", "nano", "-o", "run"]),
        ("ray", "ray", ["bench", "set.jsonl", "-m", "nano", "-o", "run", "--executor", "ray"]),
    ],
)
def test_extra_that_is_not_installed(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, module: str, extra: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, module, None)
    Path("set.parquet").touch()
    Path("set.jsonl").write_text(json.dumps({"video": str(clip), "question": "What?", "answer": "A"}))
    status, told = refusal(*words)
    assert status == 3
    assert f": install sage with this extra, as in uv tool install '.[{extra}]'" in told.splitlines()[-1]


# ---- 4: the video --------------------------------------------------------------------------------------------------


def missing(path: Path) -> Path:
    return path


def text_file(path: Path) -> Path:
    path.write_text("I am not a video.\n" * 100)
    return path


def truncated(path: Path) -> Path:
    make_video(path, seconds=2)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def audio_only(path: Path) -> Path:
    return make_audio(path, tone(1), codec="aac")


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def without_frames(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        output.add_stream("libx264", rate=25)
        output.start_encoding()
    return path


@pytest.mark.parametrize("make", [missing, text_file, truncated, audio_only, empty_file, without_frames])
def test_unreadable_video(sage: Sage, model: TinyModel, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    refused(sage("ask", make(tmp_path / "video.mp4"), "what?", "-m", model.text), 4, "video.mp4")


# ---- 5: no answer --------------------------------------------------------------------------------------------------


def test_no_answer_in_time(sage: Sage, model: TinyModel, clip: Path) -> None:
    done = sage("ask", clip, "what?", "-m", model.text, *SMALL, "--timeout", "0.001")
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr == "sage: no answer: the time limit of 0.001 s (--timeout) was reached\n"


# ---- signals and pipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "sage: interrupted\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")]
)
def test_stopped_in_a_run(
    start: Start, model: TinyModel, clip: Path, environment: dict[str, str], number: signal.Signals, status: int, said: str
) -> None:
    with start("ask", clip, "what?", "-m", model.text, "--jsonl", "--threads", "1") as process:
        assert process.stdout
        for line in process.stdout:
            if json.loads(line)["type"] == "text_delta":
                break
        process.send_signal(number)
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (status, said)
    assert not any(Path(environment["TMPDIR"]).iterdir())


def test_stopped_while_frames_are_read(start: Start, model: TinyModel, environment: dict[str, str], tmp_path: Path) -> None:
    video = make_video(tmp_path / "long.mp4", seconds=120, fps=10, size=(320, 240), gop=300)
    with start("ask", video, "what?", "-m", model.text, "--jsonl", "--threads", "1", "--frames", "100") as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["type"] == "run_started"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "sage: interrupted\n")
    assert not any(Path(environment["TMPDIR"]).iterdir())


def test_stdout_closed_early(start: Start, model: TinyModel, clip: Path) -> None:
    with start("ask", clip, "what?", "-m", model.text, *SMALL, "--jsonl") as process:
        assert process.stdout and process.stderr
        assert json.loads(process.stdout.readline())["type"] == "run_started"
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (141, "")


# ---- what goes wrong without a code of its own ---------------------------------------------------------------------


def test_debug_shows_the_traceback(sage: Sage, clip: Path) -> None:
    done = sage("ask", clip, "what?", "-m", "nonesuch", "--debug")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("sage: error: no such model")


def test_a_traceback_is_sanitized(sage: Sage, tmp_path: Path) -> None:
    done = sage("ask", tmp_path / "\x1b]0;title\x07\x1b[31m\u202e\x9b.mp4", "what?", "-m", "nano", "--debug")
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert not re.search("[\x1b\x07\u202e\x9b]", done.stderr)


def test_a_bug_is_one_line(sage: Sage, model: TinyModel, clip: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "site" / "json_repair").mkdir(parents=True)
    (tmp_path / "site" / "json_repair" / "__init__.py").write_text("raise RuntimeError('two\\nlines')")
    environment["PYTHONPATH"] = str(tmp_path / "site")
    refused(sage("ask", clip, "what?", "-m", model.text), 1, r"unexpected RuntimeError: two lines .*--debug")

"""``sage transcribe`` in a real process, with a tiny Whisper model and media of all kinds."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.cells import cell_len

from sage_cli.cli import main
from sage_cli.cli.batch import Input
from sage_cli.cli.transcribe import _plan, _shown
from sage_cli.errors import UsageError
from sage_cli.session import Session
from sage_cli.speech import Progress, Segment
from tests.cli.conftest import Popen
from tests.media import make_audio, make_video
from tests.models.tiny_whisper import write_whisper
from tests.speech.sounds import RATE, babble, hush

Sage = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Popen]


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "ggml-tiny.bin")


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of which seven are spoken."""
    sound = np.concatenate([hush(1), babble(7), hush(1)])
    return make_audio(tmp_path_factory.mktemp("talk") / "talk.wav", sound, rate=RATE)


@pytest.fixture
def transcribe(
    whisper: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Sage]:
    """Run ``sage transcribe`` with the tiny model in this process, which saves a second of start-up."""
    for name in os.environ.keys() | environment:
        if name.startswith("SAGE_"):
            monkeypatch.delenv(name, raising=False)
            if name in environment:
                monkeypatch.setenv(name, environment[name])
    terminated = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = ["sage", "transcribe", *map(str, words), "-m", str(whisper), "--threads", "1", "--quiet"]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        stdout, stderr = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(stop.value.code or 0), stdout, stderr)

    yield run
    signal.signal(signal.SIGTERM, terminated)


def refused(done: subprocess.CompletedProcess[str], status: int, said: str) -> None:
    assert done.returncode == status, done.stderr
    assert re.fullmatch(rf"sage: error: [^\n]*{said}[^\n]*\n", done.stderr), done.stderr


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_segments_on_stdout_notices_on_stderr(sage: Sage, whisper: Path, talk: Path) -> None:
    done = sage("transcribe", talk, "-m", whisper, "--threads", "1")
    assert done.returncode == 0
    assert re.fullmatch(r"(\[00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}\]  [a-z ]+\n){2}", done.stdout)
    assert done.stderr == ""


def test_a_model_from_the_models_folder(sage: Sage, whisper: Path, talk: Path, environment: dict[str, str]) -> None:
    folder = Path(environment["SAGE_MODELS_DIR"])
    folder.mkdir()
    shutil.copy(whisper, folder / "ggml-tiny.en.bin")
    by_name = sage("transcribe", talk, "-m", "tiny.en", "--threads", "1")
    assert (by_name.returncode, by_name.stderr) == (0, "")
    assert sage("transcribe", talk, "--threads", "1").stdout == by_name.stdout
    assert sage("transcribe", talk, "--threads", "1", "--no-vad", "--quiet").stdout != by_name.stdout


@pytest.mark.parametrize("name", ["srt", "vtt", "json", "md"])
def test_the_file_s_name_chooses_the_format(transcribe: Sage, talk: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / f"talk.{name}"
    done = transcribe(talk, "-o", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert target.read_text() == transcribe(talk, "-f", name).stdout
    assert [path.name for path in tmp_path.glob("talk*")] == [target.name]


def test_words(transcribe: Sage, talk: Path) -> None:
    segments = json.loads(transcribe(talk, "-f", "json", "--words").stdout)["segments"]
    assert all([word["text"] for word in segment["words"]] == segment["text"].split() for segment in segments)


def test_the_language_is_that_of_most_of_the_speech(transcribe: Sage, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Segment(0, 2, "Hola.", 1.0, language="es"), Segment(2, 6, "And so", 1.0), Segment(7, 8, "adios", 1.0, language="es")]
    monkeypatch.setattr(Session, "parts", lambda *_: (Progress((segment,), segment.end) for segment in said))
    assert json.loads(transcribe(talk, "--json").stdout)["language"] == "en"


def test_a_part_is_on_the_media_s_clock(transcribe: Sage, talk: Path) -> None:
    """And holds the segments of the whole that reach into it."""
    part = transcribe(talk, "-f", "jsonl", "--start", "1", "--end", "00:06").stdout.splitlines()
    whole = transcribe(talk, "-f", "jsonl").stdout.splitlines()
    assert part == [line for line in whole if json.loads(line)["start"] < 6 and json.loads(line)["end"] > 1]
    assert part


def test_a_pipe(start: Start, whisper: Path, talk: Path, transcribe: Sage) -> None:
    with start("transcribe", "-", "-m", whisper, "--threads", "1", "-q", stdin=subprocess.PIPE, text=False) as process:
        streams: tuple[Any, Any] = process.communicate(talk.read_bytes())  # type: ignore[arg-type]
        stdout, stderr = streams
    assert (process.returncode, stderr) == (0, b"")
    assert stdout == transcribe(talk).stdout.encode()


def test_the_second_run_is_recalled(transcribe: Sage, talk: Path, environment: dict[str, str]) -> None:
    first = transcribe(talk)
    (kept,) = (Path(environment["SAGE_CACHE_DIR"]) / "transcripts").iterdir()
    lines = kept.read_bytes()
    assert transcribe(talk).stdout == first.stdout
    assert kept.read_bytes() == lines


# ---- media of all kinds --------------------------------------------------------------------------------------------


def layout(path: Path, rate: int, channels: str, codec: str = "pcm_s16le", language: str = "und") -> Path:
    """Eight seconds of talk at a sample rate and in a channel layout, the same in every channel."""
    sound = babble(8)
    with av.open(str(path), "w") as output:
        track = output.add_stream(codec, rate=rate, layout=channels)
        track.metadata["language"] = language
        resampler = av.AudioResampler("s16", channels, rate)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(track.encode(piece))
        output.mux(track.encode(None))
    return path


def changing_rate(path: Path) -> Path:
    """MPEG-TS with the sample rate changing in the middle, as broadcasts do."""
    parts = [layout(path.with_name(f"{rate}.ts"), rate, "stereo", "mp2") for rate in (44100, 32000)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "8 kHz mono": lambda folder: layout(folder / "m.wav", 8000, "mono"),
    "5.1 surround": lambda folder: layout(folder / "m.wav", 48000, "5.1"),
    "96 kHz": lambda folder: layout(folder / "m.flac", 96000, "stereo", "flac"),
    "variable sample rate": lambda folder: changing_rate(folder / "m.ts"),
    "video": lambda folder: make_video(folder / "m.mp4", seconds=8, audio=np.repeat(babble(8), 3), audio_rate=48000),
    "opus": lambda folder: make_video(folder / "m.webm", seconds=8, codec="libvpx-vp9", audio=np.repeat(babble(8), 3), audio_rate=48000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_media(transcribe: Sage, tmp_path: Path, kind: str) -> None:
    done = transcribe(KINDS[kind](tmp_path), "-f", "jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    segments = [json.loads(line) for line in done.stdout.splitlines()]
    assert segments
    assert segments[-1]["end"] <= 16.5


def test_a_language_that_the_model_does_not_know_is_told(sage: Sage, whisper: Path, tmp_path: Path) -> None:
    path = layout(tmp_path / "charla.mka", 16000, "mono", language="spa")
    done = sage("transcribe", path, "-m", whisper, "--threads", "1")
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        ["sage: charla.mka: the sound is marked es, and ggml-tiny.bin knows English only: use a multilingual model"],
    )


def test_a_truncated_mp3(transcribe: Sage, tmp_path: Path) -> None:
    whole = make_audio(tmp_path / "whole.mp3", np.repeat(babble(30), 3))
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2 + 101])
    done = transcribe(cut, "-f", "jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["end"] == pytest.approx(15, abs=1)


@pytest.mark.parametrize(("kind", "said"), [("video without audio", "has no sound"), ("silence", "has no speech")])
def test_nothing_said_is_a_result(sage: Sage, whisper: Path, tmp_path: Path, kind: str, said: str) -> None:
    path = make_video(tmp_path / "m.mp4", audio=None) if kind != "silence" else make_audio(tmp_path / "m.wav", hush(9), rate=RATE)
    done = sage("transcribe", path, "-m", whisper, "-f", "vtt")
    assert (done.returncode, done.stdout) == (0, "WEBVTT\n\n")
    assert re.search(rf"^sage: {path.name} {said}: its transcript is empty$", done.stderr, re.MULTILINE)
    part = sage("transcribe", path, "-m", whisper, "--end", "1")
    assert f"{path.name} {said}{' at 00:00:00-00:00:01' if kind == 'silence' else ''}: its transcript is empty" in part.stderr
    (target := tmp_path / "old.txt").write_text("of another\n")
    kept = sage("transcribe", path, "-m", whisper, "-o", target)
    assert (kept.returncode, target.read_text()) == (1, "of another\n")
    assert f"error: {target} stays as it is" in kept.stderr
    assert "its transcript is empty" not in kept.stderr  # it is not


# ---- what cannot be done -------------------------------------------------------------------------------------------


def test_unreadable_media(transcribe: Sage, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    for name, said in (("empty.mp4", "is empty"), ("text.mp4", "cannot be read"), ("none.mp4", "does not exist")):
        done = transcribe(tmp_path / name)
        refused(done, 4, said)
        assert done.stdout == ""


def test_nothing_on_stdin(sage: Sage, whisper: Path) -> None:
    refused(sage("transcribe", "-", "-m", whisper, "-q", input=""), 4, "stdin is empty")


def test_no_such_model(sage: Sage, talk: Path) -> None:
    refused(sage("transcribe", talk), 3, "no speech model")
    refused(sage("transcribe", talk, "-m", "huge.en"), 3, "no such model: huge.en")


def test_a_broken_model(sage: Sage, talk: Path, whisper: Path, tmp_path: Path) -> None:
    cut = tmp_path / "ggml-cut.bin"
    cut.write_bytes(whisper.read_bytes()[:-100])
    refused(sage("transcribe", talk, "-m", cut), 3, "cut short")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--language", "klingon"], "no language 'klingon'"),
        (["--beam-size", "99"], "a whole number from 1 to 8"),
        (["--start", "8", "--end", "2"], "the start is not before the end"),
        (["--start", "soon"], "a time: HH:MM:SS"),
        (["-f", "docx"], "docx"),
        (["--skip-existing"], "--skip-existing"),
        (["--words"], "--words is for json and jsonl, and txt has no place for them"),
        (["--words", "-o", "a.vtt"], "--words is for json and jsonl, and vtt has no place for them"),
        (["--words", "--json", "--from", "subtitles"], "subtitles have no times of words"),
    ],
)
def test_options_that_cannot_work(transcribe: Sage, talk: Path, words: list[str], said: str) -> None:
    refused(transcribe(talk, *words), 2, said)


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        (("Talk.mp4", "talk.mkv"), ["Talk.mp4.srt", "talk.mkv.srt"]),
        (("Caf\u00e9.mp4", "cafe\u0301.mkv"), ["Caf\u00e9.mp4.srt", "cafe\u0301.mkv.srt"]),
        (("a/Stra\u00dfe.mp4", "talk.mkv"), ["Stra\u00dfe.srt", "talk.srt"]),
    ],
)
def test_names_that_are_one_file_on_some_systems(sources: tuple[str, ...], targets: list[str]) -> None:
    assert [task.target.name for task in _plan([*map(Input, sources)], "out/", "srt") if task.target] == targets
    with pytest.raises(UsageError, match=r"(\S+) and (?!\1)\S+ are one name on some systems"):
        _plan([*map(Input, (*sources, f"other/{sources[0].swapcase()}", sources[0]))], "out/", "srt")


def test_targets_that_cannot_work(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = shutil.copy(talk, tmp_path / "other")
    refused(transcribe(talk, other), 2, "--output DIR")
    refused(transcribe(talk, other, "-o", tmp_path), 2, "two files are called talk")
    refused(transcribe(talk, "-o", talk / "below.txt"), 1, "(Not a directory|File exists)")


@pytest.mark.parametrize("name", ["out", "out/new", "v1.2/", "out.txt"])
def test_what_an_output_is_depends_on_its_name_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a loop as for all files in one command."""
    monkeypatch.chdir(tmp_path)
    both = [Input("a.mp4"), Input("b.mp4")]
    single = [_plan([one], name, None)[0].target for one in both]
    if name == "out.txt":
        assert single == [Path(name), Path(name)]
        with pytest.raises(UsageError, match="one file for 2 transcripts"):
            _plan(both, name, None)
    else:
        assert single == [Path(name) / "a.txt", Path(name) / "b.txt"]
        assert [task.target for task in _plan(both, name, None)] == single


def test_a_new_folder_is_made_with_its_parents(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    assert transcribe(talk, "-o", tmp_path / "new" / "texts", "-f", "srt").returncode == 0
    assert (tmp_path / "new" / "texts" / "talk.srt").is_file()


def test_a_recording_is_never_replaced_by_its_transcript(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    """Whatever the output is called; the ways to spell one path are in tests/test_output.py."""
    media = Path(shutil.copy(talk, tmp_path / "talk.txt"))
    content = media.read_bytes()
    refused(transcribe(media, "-o", media), 2, "is the input")
    refused(transcribe(media, "-o", tmp_path), 2, "is the input")
    other = Path(shutil.copy(talk, tmp_path / "other.txt"))
    refused(transcribe(media, other, "-o", tmp_path / ".." / tmp_path.name), 2, "is the input")
    assert media.read_bytes() == other.read_bytes() == content


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "--output is empty"),
        ("talk.docx", "known are txt, srt"),
        ("x.ass", r"format \.ass is unknown"),
        ("talk.wav.bak", "known are txt"),
    ],
)
def test_outputs_that_nobody_can_mean(
    transcribe: Sage, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(transcribe(talk, "-o", output), 2, said)
    assert not list(tmp_path.glob("*talk*")) + list(tmp_path.glob("x*"))


def test_several_transcripts_do_not_go_into_one_file(transcribe: Sage, talk: Path, several: list[Path], tmp_path: Path) -> None:
    refused(transcribe(several[0], several[2], "-o", tmp_path / "out.srt"), 2, "one file for 2 transcripts")
    assert not (tmp_path / "out.srt").exists()
    assert transcribe(several[0], several[2], "-o", f"{tmp_path / 'out.srt'}/").returncode == 0  # as the message says
    assert sorted(path.name for path in (tmp_path / "out.srt").iterdir()) == ["a.txt", "c.txt"]


def test_a_failed_run_leaves_no_folder(transcribe: Sage, several: list[Path], tmp_path: Path) -> None:
    refused(transcribe(several[1], "-o", f"{tmp_path / 'new'}/"), 4, "cannot be read")
    assert not (tmp_path / "new").exists()


def test_a_full_disk(start: Start, whisper: Path, talk: Path, tmp_path: Path) -> None:
    """Writing stops at 60 bytes; a limit on file size fails as a full disk does, and needs no right to mount one."""

    def no_file_may_grow() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))

    target = tmp_path / "talk.txt"
    with start("transcribe", talk, "-m", whisper, "-q", "-o", target, "--threads", "1", preexec_fn=no_file_may_grow) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr == f"sage: error: {target}: File too large\n"
    assert not list(tmp_path.glob("talk*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")
def test_a_really_full_disk(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let tests mount")
    try:
        (disk / "filler").write_bytes(b"x" * 4096)
        refused(transcribe(talk, "-o", disk / "talk.txt"), 1, "No space left on device")
        assert [path.name for path in disk.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_stdout_closed_early(start: Start, whisper: Path, talk: Path) -> None:
    with start("transcribe", talk, "-m", whisper, "-q", "--threads", "1") as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_that_stalls(start: Start, whisper: Path, talk: Path, tmp_path: Path, transcribe: Sage) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    content = talk.read_bytes()
    with start("transcribe", fifo, "-m", whisper, "-q", "--threads", "1") as process:
        with fifo.open("wb") as pipe:
            pipe.write(content[:5000])
            pipe.flush()
            time.sleep(1)
            assert process.poll() is None  # it waits
            pipe.write(content[5000:])
        stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert stdout == transcribe(talk).stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_into_a_pipe_or_a_device(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    """A file renamed onto it would take its place."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert transcribe(talk, "-o", fifo).returncode == 0
        assert os.read(reader, 1 << 16).decode() == transcribe(talk).stdout
    finally:
        os.close(reader)
    assert fifo.is_fifo()
    assert not list(tmp_path.glob("*.part"))


def test_into_a_link(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    """Its target is written; the link stays."""
    file, link = tmp_path / "talk.txt", tmp_path / "link.txt"
    file.write_text("old")
    link.symlink_to(file)
    assert transcribe(talk, "-o", link).returncode == 0
    assert link.is_symlink()
    assert file.read_text() == transcribe(talk).stdout


# ---- several -------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(talk: Path, tmp_path: Path) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    good = [shutil.copy(talk, folder / name) for name in ("a.wav", "c.wav")]
    bad = folder / "b.wav"
    bad.write_text("nothing to hear")
    return [Path(good[0]), bad, Path(good[1])]


@pytest.mark.parametrize("more", [["--jobs", "1"], ["--jobs", "3", "--from", "auto"]])
def test_each_its_own_output_and_failures_at_the_end(transcribe: Sage, several: list[Path], tmp_path: Path, more: list[str]) -> None:
    out = tmp_path / "out"
    done = transcribe(*several, "-o", out, "-f", "srt", *more, "--prompt", "names: a b")
    assert done.returncode == 4
    first, second = done.stderr.splitlines()
    assert first == "sage: 1 of 3 files failed:"
    assert "b.wav" in second
    assert sorted(path.name for path in out.iterdir()) == ["a.srt", "c.srt"]
    assert (out / "a.srt").read_text() == (out / "c.srt").read_text() != ""


def test_workers_tell_what_one_process_tells(sage: Sage, whisper: Path, talk: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    cache = Path(environment["SAGE_CACHE_DIR"])
    cache.mkdir(exist_ok=True)
    (cache / "transcripts").touch()
    silent = make_audio(tmp_path / "silent.wav", hush(2), rate=RATE)
    joined = tmp_path / "joined.wav"
    os.mkfifo(joined)
    threading.Thread(target=lambda: joined.write_bytes(talk.read_bytes() * 2), daemon=True).start()
    done = sage("transcribe", silent, joined, "-o", tmp_path / "out", "-m", whisper, "--threads", "1", "--jobs", "2")
    assert done.returncode == 0
    joined_is_cut, is_silent, not_kept = sorted(done.stderr.splitlines())
    assert joined_is_cut.startswith("sage: joined.wav: only the first 9 s are read")
    assert is_silent == "sage: silent.wav has no speech: its transcript is empty"
    assert not_kept.startswith(f"sage: the cache in {cache / 'transcripts'} is not used: ")


def test_skip_existing(transcribe: Sage, several: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.srt").write_text("mine")
    done = transcribe(several[0], several[2], "-o", out, "-f", "srt", "--skip-existing")
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "a.srt").read_text() == "mine"
    assert "00:00:0" in (out / "c.srt").read_text()


def test_names_that_differ_in_the_suffix_only(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    other = make_audio(tmp_path / "talk.mp3", np.repeat(babble(5), 3))
    assert transcribe(talk, other, "-o", tmp_path / "out").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["talk.mp3.txt", "talk.wav.txt"]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_several_on_stdout_are_json(transcribe: Sage, several: list[Path], form: str) -> None:
    """Each object has the name of its file; one that fails has its error."""
    done = transcribe(*several, f"--{form}")
    assert done.returncode == 4
    assert done.stdout == transcribe(*several, "-f", form).stdout
    found = objects(done.stdout)
    assert list(dict.fromkeys(one["video"] for one in found)) == [str(path) for path in several]
    kind = {"type": "error"} if form == "jsonl" else {}
    (failed,) = (one for one in found if one["video"] == str(several[1]))
    assert failed == {**kind, "video": str(several[1]), "error": failed["error"], "code": "video", "exit_code": 4}
    refused(transcribe(*several), 2, "add --output DIR, or --jsonl")


def objects(text: str) -> list[Any]:
    """JSON values one after the other."""
    found, text = [], text.strip()
    while text:
        value, end = json.JSONDecoder().raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


@pytest.mark.parametrize("words", [["--json"], ["--jsonl"], ["-f", "json"], ["-fjsonl"], ["--format=json"], ["--format", "jsonl"]])
def test_an_error_is_json_where_results_are(transcribe: Sage, talk: Path, tmp_path: Path, words: list[str]) -> None:
    for more, status, code in (
        ((tmp_path / "none.mp4",), 4, "video"),
        ((talk, "--beam-size", "x"), 2, "usage"),
        ((talk, "--x"), 2, "usage"),
    ):
        done = transcribe(*more, *words)
        said = json.loads(done.stdout)
        assert (said["exit_code"], said["code"], done.returncode) == (status, code, status)
        assert said.get("type") == ("error" if "jsonl" in words[-1] else None)
    assert transcribe(tmp_path / "none.mp4", "-f", "srt").stdout == ""


def test_forms_that_exclude_each_other(transcribe: Sage, talk: Path) -> None:
    refused(transcribe(talk, "--json", "-f", "srt"), 2, "--json and --format srt exclude each other")
    refused(transcribe(talk, "--json", "--jsonl"), 2, "--json and --jsonl exclude each other")


@pytest.mark.parametrize("jobs", [1, 2])
def test_silence_does_not_replace_a_transcript(transcribe: Sage, talk: Path, tmp_path: Path, jobs: int) -> None:
    """Two recordings of one name, in a loop."""
    (folder := tmp_path / "other").mkdir()
    silent, out = make_audio(folder / "talk.mp3", np.repeat(hush(2), 3)), tmp_path / "out"
    more = [make_audio(folder / "more.wav", hush(2), rate=RATE)] * (jobs - 1)
    assert transcribe(talk, "-o", out).returncode == 0
    before = (out / "talk.txt").read_text()
    done = transcribe(silent, *more, "-o", out, "--jobs", jobs)
    assert (done.returncode, (out / "talk.txt").read_text()) == (1, before)  # else a script takes the old text for this recording's
    told = f"{out}/talk.txt stays as it is: it has text, and talk.mp3 has none (delete the file to replace it)"
    assert done.stderr.endswith(f"{told}\n")
    for path in more:
        assert (out / f"{path.stem}.txt").read_text() == ""
    assert transcribe(talk, "-o", out, "--json").returncode == 0
    failed = json.loads(transcribe(silent, "-o", out, "--json", "--jobs", jobs).stdout)
    assert (failed["exit_code"], "talk.json stays as it is" in failed["error"]) == (1, True)
    assert transcribe(silent, "-o", tmp_path / "new.txt").returncode == 0
    assert (tmp_path / "new.txt").read_text() == ""


def test_folders_in_a_folder(transcribe: Sage, talk: Path, tmp_path: Path) -> None:
    """Left out, but not without a word; with --recursive, transcripts lie in folders of the same names."""
    for name in ("01", "02/b"):
        (folder := tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(talk, folder)
    refused(
        transcribe(tmp_path / "in", "-o", tmp_path / "out"),
        4,
        "holds no video or recording itself, but its folders do: add --recursive",
    )
    done = transcribe(tmp_path / "in", "-r", "-o", tmp_path / "out", "-f", "srt")
    assert (done.returncode, done.stderr) == (0, "")
    found = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*.srt"))
    assert found == ["out/01/talk.srt", "out/02/b/talk.srt"]


# ---- killed --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = np.concatenate([part for n in range(6) for part in (babble(22, n), hush(2))])
    return make_audio(tmp_path_factory.mktemp("lecture") / "lecture.wav", sound, rate=RATE)


def windows(folder: Path) -> Iterator[int]:
    """Start times of the cached windows, in the order of writing."""
    for path in (folder / "transcripts").glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            if line.endswith(b"}") and b'"segments"' in line:
                yield json.loads(line.partition(b" ")[2])["at"]


@pytest.mark.parametrize("finished", [1, 3])
def test_killed_and_run_again(
    start: Start, transcribe: Sage, whisper: Path, lecture: Path, tmp_path: Path, environment: dict[str, str], finished: int
) -> None:
    target, cache = tmp_path / "lecture.srt", Path(environment["SAGE_CACHE_DIR"])
    with start("transcribe", lecture, "-m", whisper, "-q", "--threads", "1", "-o", target) as process:
        while process.poll() is None and len(list(windows(cache))) < finished:
            time.sleep(0.005)
        process.kill()
    assert not target.exists()
    assert transcribe(lecture, "-o", target).returncode == 0
    begun = list(windows(cache))
    assert len(begun) >= 5
    assert begun == sorted(set(begun))  # none was decoded twice
    assert not list(tmp_path.glob("*.part"))
    shutil.rmtree(cache)
    assert target.read_text() == transcribe(lecture, "-f", "srt").stdout


def test_interrupted(start: Start, whisper: Path, lecture: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    target = tmp_path / "lecture.srt"
    with start("transcribe", lecture, "-m", whisper, "--threads", "1", "-o", target) as process:
        while process.poll() is None and not list(windows(Path(environment["SAGE_CACHE_DIR"]))):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "rerun the command to resume" in stderr
    assert not list(tmp_path.glob("lecture*"))


def test_help_imports_nothing_heavy(environment: dict[str, str]) -> None:
    program = (
        "import sys\nfrom sage_cli.cli import main\nsys.argv = ['sage', 'transcribe', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'av', 'pydantic', 'sage_cli.speech'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_subtitles_are_converted_without_a_speech_model(sage: Sage, tmp_path: Path, clip: Path) -> None:
    video = tmp_path / "talk.mp4"
    video.write_bytes(clip.read_bytes())
    none = sage("transcribe", video, "--from", "subtitles")
    assert (none.returncode, none.stdout) == (4, "")
    assert "has no subtitles" in none.stderr
    video.with_suffix(".srt").write_text("1\n00:00:00,250 --> 00:00:01,500\nThe train is late.\n")
    for source in ("subtitles", "auto"):
        assert sage("transcribe", video, "--from", source).stdout == "[00:00:00.250 --> 00:00:01.500]  The train is late.\n"
    done = sage("transcribe", video, "--from", "subtitles", "-f", "srt", "--start", "1")
    assert "00:00:00,250 --> 00:00:01,500" in done.stdout


def test_a_transcript_of_another_recording_of_that_name_is_not_replaced_unseen(sage: Sage, tmp_path: Path, clip: Path) -> None:
    told = []
    for name in ("a", "a", "b"):  # as a loop does
        (tmp_path / name).mkdir(exist_ok=True)
        video = Path(shutil.copy(clip, tmp_path / name / "talk.mp4"))
        video.with_suffix(".srt").write_text(f"1\n00:00:00,250 --> 00:00:01,500\nThis is {name}.\n")
        done = sage("transcribe", video, "--from", "subtitles", "-f", "vtt", "-o", f"{tmp_path / 'out'}/")
        assert done.returncode == 0
        told.append(done.stderr)
    assert told == ["", "", f"sage: replaced {tmp_path / 'out' / 'talk.vtt'}, whose content was different\n"]


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_on_a_terminal_lines_are_wrapped_at_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    english = "a sentence that somebody says without a pause so that it is longer than the terminal is wide, however wide that is. " * 2
    chinese = "今天天气很好我们一起去公园散步然后在湖边吃午饭" * 4
    time = "[00:00:00.000 --> 00:00:02.000]"
    rows = _shown("".join(f"{time}  {text}\n" for text in (english, chinese))).splitlines()
    assert all(cell_len(row) <= columns for row in rows)
    beside, below = f"{time}  a sentence", (time, "  a sentence")
    assert rows[0].startswith(beside) if columns >= 80 else (rows[0], rows[1][:12]) == below
    assert {len(row) - len(row.lstrip()) for row in rows} == {0, 33 if columns >= 80 else 2}
    parts = [row.removeprefix(time).strip() for row in rows]
    assert [" ".join(parts).split()[: len(english.split())], "".join(parts)[-len(chinese) :]] == [english.split(), chinese]
    assert _shown("") == ""
    assert _shown("# talk\n\n**00:00** One.\n") == "# talk\n\n**00:00** One.\n"
    for narrow in ("1", "2", "3"):  # as far as characters are no wider
        monkeypatch.setenv("COLUMNS", narrow)
        assert "".join(_shown(f"{time}  {chinese}\n").split()).endswith(chinese)


def test_conversion_keeps_times_sounds_and_speakers(sage: Sage, tmp_path: Path, clip: Path) -> None:
    video = Path(shutil.copy(clip, tmp_path / "talk.mp4"))
    written = "WEBVTT\n\n00:00:00.250 --> 00:00:00.350\n<v Ann>The train is late.</v>\n\n00:00:01.000 --> 00:00:01.500\n[door slams]\n\n"
    video.with_suffix(".vtt").write_text(written)
    assert sage("transcribe", video, "--from", "subtitles", "-f", "vtt").stdout == written
    said = "[00:00:00.250 --> 00:00:00.350]  Ann: The train is late.\n[00:00:01.000 --> 00:00:01.500]  [door slams]\n"
    assert sage("transcribe", video, "--from", "subtitles").stdout == said


def test_the_subtitles_that_are_read_are_not_replaced(sage: Sage, tmp_path: Path, clip: Path) -> None:
    video = Path(shutil.copy(clip, tmp_path / "talk.mp4"))
    subtitles = video.with_suffix(".srt")
    subtitles.write_text("1\n00:00:00,250 --> 00:00:01,500\n<i>The train</i> is late.\n")
    before = subtitles.read_bytes()
    for words in ([video, "-o", subtitles], [video, "-o", subtitles, "--start", "1"], [tmp_path, "-f", "srt", "-o", tmp_path]):
        refused(sage("transcribe", *words, "--from", "subtitles"), 2, "is the input")
        assert subtitles.read_bytes() == before

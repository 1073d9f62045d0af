"""Several videos in one command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from sage_cli.agent.events import Answer, Event
from sage_cli.agent.record import RunRecord
from sage_cli.assets import CLIPS
from sage_cli.cli import batch, console, main
from sage_cli.cli.batch import Input, of_folders
from sage_cli.cli.several import Worker
from sage_cli.errors import SageError, VideoError
from sage_cli.session import Session
from sage_cli.session.conversation import Conversation
from sage_cli.session.settings import load_options
from sage_cli.video import Video
from tests.media import make_audio, make_video

NANO = ["--model", "nano", "--threads", "1", "--quiet"]
LAST = "Which shape appears last?"
Sage = Callable[..., CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, and what is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, clip in (("b.mp4", "short.mp4"), ("a.MP4", "speech.mp4")):
        shutil.copy(CLIPS / clip, folder / name)
    for name in ("notes.txt", ".hidden.mp4"):
        (folder / name).write_text("none")
    return folder


def test_a_folder_means_its_videos(sage: Sage, folder: Path) -> None:
    done = sage("ask", folder, LAST, *NANO)
    assert done.returncode == 0
    assert done.stdout == f"{folder}/a.MP4\n  A white diamond appears last.\n\n{folder}/b.mp4\n  A red star appears last.\n"


def test_recordings_are_asked_with_the_videos(sage: Sage, folder: Path, tmp_path: Path) -> None:
    make_audio(folder / "c.wav", Video(CLIPS / "speech.mp4").audio(), rate=16000)
    saved = "--report", tmp_path / "all.html", "--stills", tmp_path / "stills"
    done = sage("ask", folder, "Which number is spoken?", *NANO[:-1], "--json", *saved)
    records = {Path(record["video"]).name: record for record in map(json.loads, done.stdout.splitlines())}
    assert list(records) == ["a.MP4", "b.mp4", "c.wav"]
    record = records["c.wav"]
    assert (record["answer"], record["frames"], record["budget"]["frames"]) == ("The number is seven.", [], 0)
    assert "c.wav has no picture: there are no stills of it" in done.stderr
    assert done.stderr.count("no picture") == 1
    assert {path.name[0] for path in (tmp_path / "stills").iterdir()} == {"a"}
    report = (tmp_path / "all.html").read_text()
    assert "c.wav" in report
    assert "Limits" in report
    assert "0x0" not in report


def test_a_folder_of_recordings_is_transcribed(sage: Sage, folder: Path, tmp_path: Path) -> None:
    for name in "a.srt", "b.srt":
        (folder / name).write_text("1\n00:00:00,250 --> 00:00:01,500\nThe train is late.\n")
    done = sage("transcribe", folder, "--from", "subtitles", "-o", tmp_path / "texts")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_come_at_the_end_and_do_not_stop_the_others(sage: Sage, folder: Path, jobs: int) -> None:
    pipe = folder / "pipe.mp4"
    feed(pipe, folder / "b.mp4")
    words = [pipe, "missing.mp4", folder / "a.MP4", "--question", LAST, "--question", "Which shape appears first?"]
    done = sage("ask", *words, *NANO, "--json", "--jobs", jobs, "--report", folder / "report.html")
    assert done.returncode == 4
    records = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [record for record in records if "error" in record]
    assert [(record["video"], record["code"], record["exit_code"]) for record in failed] == [("missing.mp4", "video", 4)]
    answers = {(Path(record["video"]).name, record["question"]): record["answer"] for record in records if "answer" in record}
    assert len(answers) == 4
    assert answers["pipe.mp4", LAST] == "A red star appears last."
    assert done.stderr == "sage: 1 of 3 files failed:\nsage: missing.mp4 does not exist; check the path\n"
    report = (folder / "report.html").read_text()
    assert all(answer in report for answer in answers.values())
    assert ">pipe.mp4, 00:00" in report  # no link to the copy, which is gone
    assert "media-0" not in report
    assert len(sage("log", "list", "--json").stdout.splitlines()) == 4


@pytest.fixture
def in_process(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For commands that run in this process."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return monkeypatch


def test_a_question_that_fails_costs_no_answer(folder: Path, in_process: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    long, report = "word " * 9000, folder / "report.html"
    answers = {"b.mp4": "A red star appears last.", "a.MP4": "A white diamond appears last."}
    for names in (["b.mp4", "a.MP4"], ["b.mp4"]):
        asked = [folder / name for name in names]
        words = ["sage", "ask", *asked, "--question", LAST, "--question", long, *NANO, "--json", "--report", report]
        in_process.setattr(sys, "argv", [*map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert stop.value.code == 3
        assert [record["answer"] for record in records if "answer" in record] == [answers[name] for name in names]
        assert all(answers[name] in report.read_text() for name in names)
        report.unlink()
    outcome = Worker(options := load_options(model="nano", threads=1), [LAST, long], options)((str(folder / "b.mp4"), None))
    assert [event.answer for event in outcome.events if isinstance(event, Answer)] == [answers["b.mp4"]]
    assert outcome.failure is not None
    assert "fit a context of 8192 tokens" in outcome.failure.reason


def test_a_batch_that_was_broken_off_is_continued_from_the_log(
    folder: Path, in_process: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    class Counting(Session):
        def ask(self, video: str | Path, question: str, **given: Any) -> Generator[Event]:
            asked.append(Path(video).name)
            return super().ask(video, question, **given)

    in_process.setattr("sage_cli.session.Session", Counting)

    def ask(*words: object) -> tuple[list[str], list[RunRecord], str]:
        asked.clear()
        in_process.setattr(sys, "argv", [*map(str, ["sage", "ask", *words, *NANO[:-1], "--json"])])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        told = capsys.readouterr()
        return [*asked], [json.loads(line) for line in told.out.splitlines()], told.err

    first = ask(folder / "b.mp4", LAST)[1]
    again = ask(folder, LAST, "--resume")
    assert again[0] == ["a.MP4"]
    assert [run["recalled"] for run in again[1]] == [False, True]
    assert again[1][1] == {**first[0], "recalled": True}
    assert "sage: from the log: 1 of 2 answers" in again[2]
    other_name = folder / ".." / folder.name / "b.mp4"
    assert [run["video"] for run in ask(other_name, LAST, "--resume")[1]] == [str(other_name)]
    assert ask(folder, LAST, "--resume")[0] == []
    assert ask(folder, LAST)[0] == ["a.MP4", "b.mp4"]
    for other in (["--end", "8"], ["--max-steps", "3"], ["--no-tools"], ["--seed", "1"]):
        assert ask(folder / "b.mp4", LAST, "--resume", *other)[0] == ["b.mp4"]
        assert ask(folder / "b.mp4", LAST, "--resume", *other)[0] == []
    for said in ("Four.", "Five."):
        (folder / "b.srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n")
        assert ask(folder / "b.mp4", LAST, "--resume")[0] == ["b.mp4"]
        assert ask(folder / "b.mp4", LAST, "--resume", "--no-tools")[0] == []  # which reads no subtitles
        assert ask(folder / "b.mp4", LAST, "--resume")[0] == []
    (folder / "b.srt").unlink()
    assert ask(folder / "b.mp4", LAST, "--resume")[0] == []
    (folder / "b.mp4").write_bytes((folder / "b.mp4").read_bytes() + b"x")
    assert ask(folder / "b.mp4", LAST, "--resume")[0] == ["b.mp4"]
    assert ask(folder / "b.mp4", "Which shape appears first?", "--resume")[0] == ["b.mp4"]


def test_workers_take_answers_from_the_log_too(sage: Sage, folder: Path) -> None:
    words = [folder, "--question", LAST, *NANO, "--json", "--resume"]
    assert [json.loads(line)["recalled"] for line in sage("ask", *words).stdout.splitlines()] == [False, False]
    assert [json.loads(line)["recalled"] for line in sage("ask", *words, "--jobs", 2).stdout.splitlines()] == [True, True]


def test_without_the_log_there_is_nothing_to_continue_from(sage: Sage, folder: Path) -> None:
    done = sage("ask", folder, LAST, *NANO, "--resume", "--no-log")
    assert (done.returncode, done.stdout) == (2, "")
    assert "leave out --no-log" in done.stderr


def test_answers_begin_on_the_first_line_where_the_first_video_fails(
    folder: Path, in_process: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    class Failing(Conversation):
        def ask(self, question: str) -> Generator[Event]:
            if "a.MP4" in self.name:
                raise SageError("there is no room for it")
            yield from super().ask(question)

    in_process.setattr("sage_cli.cli.several.Conversation", Failing)
    in_process.setattr(sys, "argv", ["sage", "ask", str(folder / "a.MP4"), str(folder / "b.mp4"), "--question", LAST, *NANO])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == f"{folder / 'b.mp4'}\n  A red star appears last.\n"


def test_a_model_that_is_missing_is_no_fault_of_a_video(sage: Sage, folder: Path) -> None:
    done = sage("ask", folder, LAST, "--model", "missing.gguf")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["ask", LAST, "Which shape appears first?"], ["chat"]])
def test_damage_of_a_file_is_told_once(sage: Sage, tmp_path: Path, words: list[str]) -> None:
    cut_video(tmp_path / "cut.mkv")
    done = sage(words[0], tmp_path / "cut.mkv", *words[1:], *NANO[:-1], "--no-tools", input=f"{LAST}\nWhich shape appears first?\n")
    assert done.returncode in (0, 5)
    assert [line for line in done.stderr.splitlines() if "cut short" in line] == ["sage: the file is cut short: 3 s of 8 s are there"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_damage_of_several_files_is_told_with_their_names(sage: Sage, folder: Path, jobs: int) -> None:
    cut_video(folder / "cut.mkv")
    done = sage("ask", folder, LAST, "Which shape appears first?", *NANO[:-1], "--no-tools", "--jobs", jobs, "--json")
    assert [line for line in done.stderr.splitlines() if "cut short" in line] == [
        f"sage: {folder / 'cut.mkv'}: the file is cut short: 3 s of 8 s are there"
    ]
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [any("cut short" in text for text in run["notices"]) for run in runs if run["video"].endswith("cut.mkv")] == [True, True]


@pytest.mark.parametrize(("words", "times"), [([], 1), (["--quiet"], 0)])
def test_that_the_cache_is_not_used_is_told_once_for_all_workers(
    sage: Sage, folder: Path, environment: dict[str, str], words: list[str], times: int
) -> None:
    cache = Path(environment["SAGE_CACHE_DIR"])
    shutil.rmtree(cache, ignore_errors=True)
    cache.touch()
    done = sage("ask", folder, LAST, *NANO[:-1], *words, "--no-tools", "--jobs", 2)
    assert done.returncode == 0
    assert done.stderr.count("is not used: Not a directory") == times


def cut_video(path: Path) -> None:
    data = make_video(path, seconds=8, size=(64, 48)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def feed(pipe: Path, source: Path) -> None:
    """Make a named pipe from which a file can be read once."""
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()), daemon=True).start()


def test_a_file_is_taken_once_and_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").mkdir()
    assert of_folders([f"{tmp_path}/./a.mp4", str(tmp_path), "-"]) == [Input(f"{tmp_path}/./a.mp4"), Input("-")]


def test_folders_in_a_folder_are_searched_or_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.mp4", "b/c.mp4", "b/d/e.MKV", "b/d/notes.txt", ".trash/f.mp4", "g/h.wav"):
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    assert of_folders([str(tmp_path)]) == [Input(f"{tmp_path}/a.mp4")]
    assert capsys.readouterr().err == f"sage: {tmp_path}: the files in its folders are left out; to include, add --recursive\n"
    found = of_folders([str(tmp_path)], recursive=True)
    inside = {"a.mp4": ".", "b/c.mp4": "b", "b/d/e.MKV": "b/d", "g/h.wav": "g"}
    assert found == [Input(f"{tmp_path}/{name}", Path(folder)) for name, folder in inside.items()]
    assert of_folders([str(tmp_path / "g")]) == [Input(f"{tmp_path}/g/h.wav")]
    (tmp_path / "g" / "h.wav").unlink()
    with pytest.raises(VideoError, match="/g holds no video or recording itself: give a file, a folder with some, or add --recursive to"):
        of_folders([str(tmp_path / "g")])
    with pytest.raises(VideoError, match="holds no video or recording: give"):
        of_folders([str(tmp_path / "g")], recursive=True)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(VideoError, match="holds no video or recording itself, but its folders do: add --recursive"):
        of_folders([str(tmp_path)])
    assert capsys.readouterr().err == ""
    (tmp_path / "b" / "d" / "e.MKV").unlink()
    of_folders([str(tmp_path / "b")])  # an empty folder is not worth a word
    assert capsys.readouterr().err == ""


def test_a_folder_is_not_searched_for_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: the whole tree was walked to count what was left out, with --quiet too: eight seconds for the root of a disk."""
    for name in ("a.mp4", "b/c.mp4"):
        (path := tmp_path / name).parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setattr(os, "walk", lambda *_, **__: pytest.fail("the whole tree is walked"))
    monkeypatch.setattr(batch, "_GLANCE", 3)
    of_folders([str(tmp_path)])
    assert "are left out" in capsys.readouterr().err
    monkeypatch.setattr(batch, "_GLANCE", 1)
    of_folders([str(tmp_path)])
    monkeypatch.setattr(batch, "_has_more", lambda *_: pytest.fail("with --quiet there is nothing to tell"))
    monkeypatch.setattr(console, "quiet", True)
    of_folders([str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_a_file_is_known_under_each_spelling_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "clips", tmp_path / "link"
    folder.mkdir()
    (folder / "a.mp4").touch()
    (folder / "b.mp4").symlink_to("a.mp4")
    link.symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    both = ["clips/a.mp4", "clips/b.mp4"]

    def of_folders(sources: list[str]) -> list[str]:
        return [one.name for one in batch.of_folders(sources)]

    assert of_folders(["clips"]) == of_folders(["clips", str(folder), "link"]) == both
    assert of_folders([str(folder / "a.mp4"), "clips"]) == [str(folder / "a.mp4"), "clips/b.mp4"]
    assert of_folders(["link", "clips/a.mp4"]) == ["link/b.mp4", "clips/a.mp4"]
    assert of_folders([*both, "link/a.mp4", "-", "-", "https://a.b/c", "https://a.b/c"]) == [*both, "-", "https://a.b/c"]

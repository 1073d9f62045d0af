"""Conversations, the log, and the tools as commands, with the bundled model."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any
from unittest.mock import Mock

import cv2
import pytest
from prompt_toolkit.history import FileHistory, History

from sage_cli.assets import CLIPS
from sage_cli.cli import chat, console
from sage_cli.cli.chat import Talk, _prompt
from sage_cli.cli.evidence import _save_clip, save_evidence
from sage_cli.cli.marks import edl, ffmetadata
from sage_cli.cli.player import command
from sage_cli.errors import SageError
from sage_cli.session import log
from sage_cli.session.options import Options
from sage_cli.video import Video
from tests.cli.pseudo import on_terminal

NANO = ["--model", "nano", "--threads", "1", "--quiet"]
Sage = Callable[..., CompletedProcess[str]]
Start = Callable[..., Popen[Any]]


def test_a_conversation_through_a_pipe_is_logged_and_taken_up_again(sage: Sage, tmp_path: Path) -> None:
    lines = f"Which shape appears last?\n\n/from 0 2\n/nope\n/from\n/tools off\n/frames\n/save {tmp_path / 'r.html'}\n/quit\nnever asked\n"
    done = sage("chat", CLIPS / "short.mp4", *NANO, input=lines)
    assert done.returncode == 2  # of /nope
    assert done.stdout.splitlines()[0] == "A red star appears last."
    assert "there is no /nope" in done.stderr
    assert "Traceback" not in done.stderr
    assert "never asked" not in done.stdout
    assert (tmp_path / "r.html").is_file()

    new = sage("chat", CLIPS / "long.mp4", *NANO[:-1], "--continue", input="/help\n")
    assert "the log holds no conversation about long.mp4: this is a new one" in new.stderr
    again = sage("chat", CLIPS / "short.mp4", *NANO[:-1], "--continue", input="/frames\n")
    assert "holds no conversation" not in again.stderr
    assert "earlier: Which shape appears last? A red star appears last." in " ".join(again.stderr.split())
    assert again.stdout.splitlines() == [line for line in done.stdout.splitlines() if line.startswith(("first look", "00:"))]

    (entry,) = [json.loads(line) for line in sage("log", "search", "last", "shape", "--json").stdout.splitlines()]
    assert entry["answer"] == "A red star appears last."
    shown = sage("log", "show", entry["id"], "--report", tmp_path / "again.md")
    assert shown.returncode == 0
    assert "A red star" in (tmp_path / "again.md").read_text()
    assert sage("log", "clear").returncode == 2
    assert sage("log", "clear", "-y").returncode == 0
    assert sage("log", "list").stdout == ""


def test_a_report_on_a_video_that_is_not_there_any_more_has_what_the_log_holds(sage: Sage, start: Start, tmp_path: Path) -> None:
    video, report = tmp_path / "talk.mp4", tmp_path / "r.html"
    video.write_bytes((CLIPS / "short.mp4").read_bytes())
    for medium in video, "-":
        with video.open("rb") as stdin, start("ask", medium, "Which shape appears last?", *NANO, stdin=stdin) as process:
            assert process.communicate()[0] == "A red star appears last.\n"
    stdin, file = (json.loads(line)["id"] for line in sage("log", "list", "--json").stdout.splitlines())

    def reported(entry: int) -> str:
        done = sage("log", "show", entry, "--report", report)
        assert done.returncode == 0, done.stderr
        text = report.read_text()
        assert "A red star appears last." in text
        assert ("<figure>" in text) != ("This report has no frames" in text) == ("without frames" in done.stderr)
        return str(done.stderr)

    assert reported(file) == f"sage: saved {report}\n"
    assert "stdin, which is not kept" in reported(stdin)
    video.write_bytes((CLIPS / "long.mp4").read_bytes())
    assert reported(file) == f"sage: saved {report}, without frames: {video} has changed since it was asked about\n"
    video.unlink()
    assert str(video) in reported(file)


def test_no_command_ends_a_conversation(start: Start, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "speech.mp4").write_bytes((CLIPS / "speech.mp4").read_bytes())
    (tmp_path / "speech.srt").write_text("1\n00:00:09,984 --> 00:00:11,648\nThe secret number is four.\n")
    lines = "Which number is spoken?\n/\n/save /nonesuch/x/y.html\n/save 'my talk.html'\n/transcript\n/frames\nWhich number is spoken?\n"
    with start("chat", "speech.mp4", *NANO, "--json", "--no-log", text=False, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        out, told = process.communicate(lines.encode("utf-16"))
    assert process.returncode == 2  # of a command that there is not, and a folder that there is not
    assert [json.loads(line)["answer"] for line in out.splitlines()] == ["The number is four."] * 2  # JSON of answers alone
    for text in (b"there is no /:", b"/nonesuch/x", b"The secret number is four", b"subtitles read"):
        assert text in told, told.decode()
    assert (tmp_path / "my talk.html").is_file()
    assert not Path(environment["SAGE_LOG_FILE"]).exists()


@pytest.mark.parametrize(
    ("lines", "options", "status"),
    [
        ("What?\n", ["--timeout", "0.001"], 5),
        ("What?\n", ["--timeout", "0.001", "--json"], 5),
        ("/bogus\n/quit now\nWhat?\n", [], 2),
        ("/bogus\nWhat?\n", ["--timeout", "0.001"], 1),
        ("/tools off\n", [], 0),
    ],
)
def test_a_pipe_is_told_by_the_exit_code_what_failed(lines: str, options: list[str], status: int, sage: Sage) -> None:
    assert sage("chat", CLIPS / "short.mp4", *NANO, *options, input=lines).returncode == status


def test_a_report_after_the_video_is_gone_has_what_was_said(sage: Sage, start: Start, tmp_path: Path) -> None:
    video, report = tmp_path / "talk.mp4", tmp_path / "r.html"
    shutil.copy(CLIPS / "short.mp4", video)
    sage("chat", video, *NANO, input="Which shape appears last?\n")
    with start("chat", video, *NANO, "--continue", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("/frames\n")
        process.stdin.flush()
        process.stdout.readline()  # it is open
        video.unlink()
        _, stderr = process.communicate(f"/frames\n/save {report}\n")
    assert process.returncode == 0, stderr
    assert f"saved {report}; frames are missing: {video} does not exist; check the path" in stderr
    assert "A red star appears last." in report.read_text()


def test_a_log_that_can_be_written_again_is_not_complained_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sage_cli.cli.renderers.follow", lambda _events, _view: True)
    talk = Talk(Mock(log_problem="the log is full"))
    vars(talk)["_renderer"] = nullcontext()
    assert talk.answer("What?")
    assert talk.answer("What?")
    assert capsys.readouterr().err.count("the log is full") == 1


def test_ctrl_c_between_two_lines_does_not_end_a_conversation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def typed() -> str:
        if len(waiting) == 2:
            waiting.pop()
            raise KeyboardInterrupt
        return waiting.pop()

    waiting = ["/quit", "/nope", "pressed"]
    monkeypatch.setattr(chat, "at_terminal", lambda: True)
    monkeypatch.setattr(Talk, "_lines", lambda _talk: iter(typed, None))
    monkeypatch.setattr(Talk, "answer", Mock(side_effect=[KeyboardInterrupt, True]))
    monkeypatch.setattr(console, "say", Mock(side_effect=KeyboardInterrupt))  # pressed again as it says that it stopped
    assert Talk(Mock()).run() == 0
    assert not waiting


@pytest.mark.parametrize("keep", [False, True])
def test_lines_are_kept_with_the_log_and_cleared_with_it(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_LOG_FILE", str(tmp_path / "log.db"))
    _prompt(keep=keep).history.store_string("Who is she?")
    kept = [path for path in tmp_path.iterdir() if "Who is she?" in path.read_text()]
    assert kept == ([tmp_path / "chat-history"] if keep else [])
    log.clear()
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_costs_the_history_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("SAGE_LOG_FILE", str(tmp_path / "log.db"))
    for name in "store_string", "load_history_strings":
        monkeypatch.setattr(FileHistory, name, full)
    history = _prompt(keep=True).history
    asyncio.run(_load(history))
    history.append_string("Who is she?")
    assert history.get_strings() == ["Who is she?"]


async def _load(history: History) -> None:
    """Load a history, as a prompt does."""
    async for _ in history.load():
        pass


def test_a_dumb_terminal_gets_no_escape_sequences(environment: dict[str, str]) -> None:
    words = ["-m", "sage_cli", "chat", str(CLIPS / "short.mp4"), *NANO]
    done = on_terminal(words, environment, term="dumb", keys=[("> ", "/tools off\r"), ("> ", "\x04")])
    assert done.status == 0
    assert "\x1b" not in done.written
    assert "/help lists commands" in done.lines[0]
    assert done.lines[1:3] == ["> /tools off", "sage: tools are off"]


def test_ctrl_z_suspends_at_the_prompt() -> None:
    assert _prompt(keep=False).enable_suspend


def test_forms_of_output_exclude_each_other(sage: Sage) -> None:
    done = sage("chat", CLIPS / "short.mp4", *NANO, "--json", "--jsonl")
    assert done.returncode == 2
    assert "--json and --jsonl exclude each other" in done.stderr


def test_nothing_is_logged_where_the_setting_says_so(sage: Sage, environment: dict[str, str]) -> None:
    environment["SAGE_LOG"] = "false"
    assert sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO).returncode == 0
    assert not Path(environment["SAGE_LOG_FILE"]).exists()


def test_evidence_is_saved_beside_the_answer(sage: Sage, tmp_path: Path) -> None:
    targets = ["--report", tmp_path / "r.html", "--clips", tmp_path / "clips", "--stills", tmp_path / "stills"]
    done = sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, *targets)
    assert (done.returncode, done.stdout) == (0, "A red star appears last.\n")
    assert (tmp_path / "r.html").is_file()
    assert not (tmp_path / "clips").exists()
    assert len([*(tmp_path / "stills").iterdir()]) == 3
    quiet = sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, "--clips", tmp_path / "clips", "--start", 4, "--end", 9)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert len([*(tmp_path / "clips").iterdir()]) == 1
    refused = sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, "--report", tmp_path / "r.pdf")
    assert refused.returncode == 2
    refused = sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, "--clips", tmp_path / "r.html" / "clips")
    assert (refused.returncode, refused.stdout) == (1, "")  # before the work
    assert "r.html/clips: Not a directory" in refused.stderr


def test_each_span_of_each_video_is_a_file_of_its_own(tmp_path: Path) -> None:
    videos = []
    for name in ("one", "two", "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 80):
        shutil.copy(CLIPS / "short.mp4", tmp_path / f"{name}.mp4")
        videos.append(Video(tmp_path / f"{name}.mp4"))
    runs = [({"evidence": [{"span": {"start": 1.0, "end": 2.5}}]}, video) for video in videos]
    save_evidence(Options(stills=str(tmp_path / "stills")), runs)
    names = [path.name for path in (tmp_path / "stills").iterdir()]
    assert sorted(name for name in names if name.startswith("one")) == [
        f"one_00-00-01.000-00-00-02.500_00-00-0{second}.jpg" for second in ("1.000", "1.500", "2.250")
    ]
    assert len(names) == 9


def test_the_whole_video_is_no_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    video = Video(CLIPS / "short.mp4")
    runs = [({"evidence": [{"span": {"start": start, "end": end}} for start, end in ((0.0, 11.0), (2.0, 4.0))]}, video)]
    for quiet in (False, True):
        monkeypatch.setattr(console, "quiet", quiet)
        save_evidence(Options(clips=str(tmp_path / "clips")), runs)
        told = "sage: short.mp4: 00:00:00-00:00:11 is nearly all of it, which is not copied to " + str(tmp_path / "clips") + "\n"
        assert capsys.readouterr().err == ("" if quiet else told)
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["short_00-00-02.000-00-00-04.000.mp4"]


def test_that_there_is_no_evidence_to_save_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, clips, stills = Video(CLIPS / "short.mp4"), str(tmp_path / "clips"), str(tmp_path / "stills")
    runs: list[tuple[dict[str, Any], Video]] = [({"evidence": []}, video)] * 2
    save_evidence(Options(clips=clips, stills=stills), runs)
    save_evidence(Options(stills=stills), runs)
    assert capsys.readouterr().err.splitlines() == [
        "sage: short.mp4: no evidence, so no clips or stills were saved",
        "sage: short.mp4: no evidence, so no stills were saved",
    ]
    assert list(tmp_path.iterdir()) == []


def test_videos_whose_names_differ_in_case_keep_their_stills(tmp_path: Path) -> None:
    videos = []
    for folder, clip in (("one/Talk.mp4", "short"), ("two/talk.mkv", "speech")):
        (tmp_path / folder).parent.mkdir()
        shutil.copy(CLIPS / f"{clip}.mp4", tmp_path / folder)
        videos.append(Video(tmp_path / folder))
    runs = [({"evidence": [{"span": {"start": 1.0, "end": 1.0}}]}, video) for video in videos]
    save_evidence(Options(stills=str(tmp_path / "stills")), runs)
    assert len({path.name.casefold() for path in (tmp_path / "stills").iterdir()}) == 2


def test_a_schema_leaves_json_alone_on_stdout(sage: Sage) -> None:
    schema = '{"enum": ["star", "circle"]}'
    questions = ["Which shape appears last?", "Which shape appears first?"]
    done = sage("ask", CLIPS / "short.mp4", *questions, *NANO, "--schema", schema)
    assert done.returncode == 0
    assert [json.loads(line) in ("star", "circle") for line in done.stdout.splitlines()] == [True, True]
    refused = sage("ask", CLIPS / "short.mp4", "Which?", *NANO, "--schema", '{"not": {}}')
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1


def test_frames_at_times(sage: Sage, tmp_path: Path) -> None:
    done = sage("frames", CLIPS / "short.mp4", "--at", "0:01", "--every", "5s", "-o", tmp_path / "out")
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        f"short_00-00-{second}.000.jpg" for second in ("00", "01", "05", "10")
    ]
    assert cv2.imread(done.stdout.splitlines()[0]) is not None
    sheet = tmp_path / "sheet.png"
    assert sage("frames", CLIPS / "short.mp4", "--every", "3s", "--sheet", sheet).returncode == 0
    assert cv2.imread(str(sheet)) is not None


@pytest.mark.parametrize(
    "words",
    [["short.mp4"], ["short.mp4", "--at", "9:00"], ["short.mp4", "--every", "0"], ["short.mp4", "--at", "1", "--sheet", "x.gif"]],
)
def test_frames_that_cannot_be(sage: Sage, words: list[str]) -> None:
    done = sage("frames", CLIPS / words[0], *words[1:])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_an_event_is_found_or_not(sage: Sage) -> None:
    done = sage("ground", CLIPS / "long.mp4", "purple star", *NANO, "--start", "7:40", "--end", "8:00")
    assert done.returncode in (0, 5)
    assert re.fullmatch(r"(00:07:[45]\d-00:07:[45]\d\n)*", done.stdout)


def test_edit_lists_and_chapters() -> None:
    assert edl([(1.0, 2.5)], "talk.mp4", 25.0).splitlines()[2:] == [
        "001  AX       V     C        00:00:01:00 00:00:02:12 00:00:00:00 00:00:01:12",
        "* FROM CLIP NAME: talk.mp4",
    ]
    assert "title=a\\=b\\; c" in ffmetadata([(0.0, 1.0, "a=b; c")])


def test_players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SageError, match="install mpv or vlc"):
        command(Path("talk.mp4"), 5)
    program = tmp_path / "mpv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert command("https://example.org/talk", 5)[-1] == "https://example.org/talk"
    words: list[Any] = command(Path("talk.mp4"), 5.25)
    assert words == [str(program), "--start=5.250", str(Path("talk.mp4").absolute())]


def test_opening_where_the_answer_comes_from(sage: Sage, environment: dict[str, str], tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    (tmp_path / "bin").mkdir()
    player = tmp_path / "bin" / "mpv"
    player.write_text(f'#!/bin/sh\necho "$@" > {opened}.part && mv {opened}.part {opened}\n')
    player.chmod(0o755)
    environment |= {"PATH": f"{player.parent}:{environment['PATH']}", "DISPLAY": ":0"}
    assert sage("open").returncode == 2
    assert sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO).returncode == 0
    for words, start in (([], "0.000"), (["1"], "0.000"), (["0:07"], "7.000")):
        assert sage("open", *words).returncode == 0
        while not opened.exists():
            time.sleep(0.02)
        assert opened.read_text() == f"--start={start} {CLIPS / 'short.mp4'}\n"
        opened.unlink()
    assert sage("open", "99").returncode == 2
    for words, told in (
        (["99:00"], "99:00 is past the end: the media goes from 00:00:00 to 00:00:12"),
        (["-e", "9"], "--evidence 9: the answer of entry 1 has "),
    ):
        refused = sage("open", *words)
        assert (refused.returncode, opened.exists()) == (2, False)
        assert told in refused.stderr


def test_subtitles_answer_before_any_speech_model(sage: Sage, tmp_path: Path) -> None:
    (tmp_path / "speech.mp4").write_bytes((CLIPS / "speech.mp4").read_bytes())
    (tmp_path / "speech.srt").write_text("1\n00:00:09,984 --> 00:00:11,648\nThe secret number is four.\n")
    question = "Which number is spoken?"
    read = json.loads(sage("ask", tmp_path / "speech.mp4", question, *NANO, "--json").stdout)
    assert read["answer"] == "The number is four."
    said = {"span": {"start": 10.0, "end": 11.6}, "what": "subtitles read", "said": "The secret number is four."}
    assert read["evidence"] == [said]  # the sentence, not all that was read
    assert '"The secret number is four."' in sage("log", "show", "1").stdout
    assert read["tool_calls"][0]["summary"] == "5 words in 1 segment from speech.srt"
    heard = json.loads(sage("ask", tmp_path / "speech.mp4", question, *NANO, "--json", "--no-subtitles").stdout)
    assert heard["answer"] == "The number is seven."
    assert [one["what"] for one in heard["evidence"]] == ["speech transcribed"]


def test_subtitles_that_cannot_be_read_are_told_once(sage: Sage, tmp_path: Path) -> None:
    (tmp_path / "short.mp4").write_bytes((CLIPS / "short.mp4").read_bytes())
    (tmp_path / "short.ttml").write_text('<tt><body><div><p begin="1s">Four.</p></div></body></tt>')
    reason = "short.ttml cannot be read as subtitles: a cue without an end"
    asked = sage("ask", tmp_path / "short.mp4", "Which shape appears last?", "Which shape appears first?", *NANO[:-1])
    assert [line for line in asked.stderr.splitlines() if "ttml" in line] == [f"sage: {reason}: going on without subtitles"]
    refused = sage("transcribe", tmp_path / "short.mp4", "--from", "subtitles")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (4, 1)
    assert f"has no subtitles that can be read ({reason}): transcribe its speech instead" in refused.stderr
    auto = sage("transcribe", tmp_path / "short.mp4", "--from", "auto", "-m", "nano")
    assert (auto.returncode, auto.stderr.count(f"short.mp4: {reason}: going on without subtitles")) == (0, 1)
    assert "ttml" not in sage("ask", tmp_path / "short.mp4", "Which shape appears last?", *NANO[:-1], "--no-subtitles").stderr


@pytest.mark.parametrize(
    "words",
    [
        ["ask", "VIDEO", "Which number is spoken?", "Which shape appears last?", *NANO[:-1]],
        ["summary", "VIDEO", *NANO[:-1]],
        ["transcribe", "VIDEO", "--from", "subtitles"],
    ],
)
def test_which_of_two_languages_is_used_is_told_once(words: list[str], sage: Sage, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "short.mp4").write_bytes((CLIPS / "speech.mp4").read_bytes())
    for language, text in ("de", "Vier."), ("en", "Four."):
        (tmp_path / f"short.{language}.srt").write_text(f"1\n00:00:01,000 --> 00:00:03,000\n{text}\n")
    words = [str(tmp_path / "short.mp4") if word == "VIDEO" else word for word in words]
    done = sage(*words)
    assert done.returncode == 0
    assert done.stderr.count("short.de.srt is used, not short.en.srt; to change that, set SAGE_LANGUAGE=en") == 1
    assert ".srt" not in done.stdout
    environment["SAGE_LANGUAGE"] = "en"
    named = sage(*words)
    assert (named.returncode, ".srt is used" in named.stderr) == (0, False)


def test_subtitles_that_no_answer_needs_are_not_told(sage: Sage, tmp_path: Path) -> None:
    (tmp_path / "short.mp4").write_bytes((CLIPS / "short.mp4").read_bytes())
    for language in ("de", "en"):
        (tmp_path / f"short.{language}.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nVier.\n")
    assert ".srt" not in sage("ask", tmp_path / "short.mp4", "Which shape appears last?", *NANO).stderr


def test_a_clip_of_the_last_moment_is_the_last_second(tmp_path: Path) -> None:
    video = Video(CLIPS / "short.mp4")
    _save_clip(video, video.duration, video.duration, tmp_path, "short")
    (clip,) = tmp_path.iterdir()
    assert Video(clip).duration == pytest.approx(1.0, abs=0.2)

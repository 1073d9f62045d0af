"""Frames as pictures: what cannot be made is told in a line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread

import cv2
import numpy as np
import pytest

from sage_cli.assets import CLIPS
from sage_cli.cli import console
from sage_cli.cli.frames import _encoded, contact_sheet
from sage_cli.errors import UsageError
from sage_cli.video import Frame
from tests.media import make_audio, make_video
from tests.openai_server import Served, serve

Sage = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize("words", [["ground", "a red circle"], ["summary"], ["chat"], ["transcribe"]])
def test_the_download_of_a_link_is_told(sage: Sage, words: list[str]) -> None:
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=CLIPS))
    Thread(target=site.serve_forever, daemon=True).start()
    with site:
        found = sage(words[0], f"http://127.0.0.1:{site.server_port}/short.mp4", *words[1:], "--model", "nano")
        site.shutdown()
    assert found.stderr.startswith("sage: downloading the video behind the link"), found.stderr
    assert ("was not trained to summarize" in found.stderr) == (words[0] == "summary")


@pytest.mark.parametrize("more", [(), ("--width", "64"), ("--sheet", "sheet.png")])
def test_sound_has_no_frames(refusal: Callable[..., tuple[int, str]], tmp_path: Path, more: tuple[str, ...]) -> None:
    path = make_audio(tmp_path / "talk.wav", np.zeros(16000, np.float32), rate=16000)
    status, line = refusal("frames", path, "--at", "0.5", *more)
    assert (status, line.count("\n")) == (4, 1)
    assert "has sound but no picture" in line


@pytest.mark.parametrize(
    "words",
    [
        ["frames", "--every", "1"],
        ["ground", "a red circle", "--model", "nano"],
        ["summary", "--model", "SERVER"],
        ["ground", "a red circle", "--model", "nano", "--json"],
        ["summary", "--model", "SERVER", "--json"],
        ["transcribe", "--model", "nano", "--format", "json"],
    ],
)
def test_damage_is_told(sage: Sage, tmp_path: Path, words: list[str]) -> None:
    path = make_video(tmp_path / "cut.mkv", seconds=8, size=(64, 48))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    more = ["-o", tmp_path / "out"] if "frames" in words else ["--threads", "1"]
    with serve(Served(text='{"title": "A", "summary": "All."}')) as server:  # nano cannot write summaries
        done = sage(words[0], path, *(server.url if word == "SERVER" else word for word in words[1:]), *more)
    assert done.returncode in (0, 5)
    told = re.search(r"^sage: cut.mkv: (the file is cut short: \d s of 8 s are there)$", done.stderr, re.MULTILINE)
    assert told
    if "json" in "".join(words):
        assert json.loads(done.stdout)["notices"] == [told[1]]


@pytest.mark.parametrize(("suffix", "wide"), [(".webp", 16384), (".JPG", 65536)])
def test_a_sheet_larger_than_its_format_allows_is_refused(suffix: str, wide: int) -> None:
    with pytest.raises(UsageError, match=f"{wide}x1 pixels are too many for a {suffix} file"):
        _encoded(np.zeros((1, wide, 3), np.uint8), suffix)


def test_a_pipe_gets_names_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"caf\xe9\x1b.jpg"
    console.write_path(Path(os.fsdecode(name)))
    assert capfdbinary.readouterr().out.rstrip() == name


def test_frames_less_than_a_millisecond_apart_have_names_of_their_own(sage: Sage, tmp_path: Path) -> None:
    video = make_video(tmp_path / "fast.mp4", times=[number / 3000 for number in range(8)], bframes=0)
    done = sage("frames", video, "--every", "0.0001", "-o", tmp_path / "out")
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[:3] == ["fast_00-00-00.000.jpg", "fast_00-00-00.001.jpg", "fast_00-00-00.0010.jpg"]
    assert f"times show {len(names)} different frames; each is saved once" in done.stderr


def test_a_frame_that_several_times_show_is_saved_once(sage: Sage, tmp_path: Path) -> None:
    """A frame per second, half of which is asked for twice; and the last one goes on to the end."""
    video = make_video(tmp_path / "slow.mp4", times=(0.0, 1.0, 2.0), bframes=0)
    done = sage("frames", video, "--every", "0.5", "-o", tmp_path)
    names = done.stdout.splitlines()
    assert (len(names), len({*names})) == (3, 3)
    assert "times show 3 different frames; each is saved once" in done.stderr
    sheet = sage("frames", video, "--every", "0.5", "--sheet", tmp_path / "sheet.png", "--width", "160")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture is not None
    three = contact_sheet([Frame(time, np.zeros((120, 160, 3), np.uint8), "") for time in (0.0, 1.0, 2.0)])
    assert picture.shape == three.shape
    assert "times show 3 different frames; each is in the sheet once" in sheet.stderr
    same = ("frames", video, "--at", "1", "--at", "1.01")
    assert "2 times show the same frame; it is in the sheet once" in sage(*same, "--sheet", tmp_path / "one.png").stderr
    assert "2 times show the same frame; it is saved once" in sage(*same, "-o", tmp_path).stderr
    assert sage("frames", video, "--at", "1", "-o", tmp_path).stderr == ""


def test_frames_of_another_video_of_that_name_are_not_replaced_unseen(sage: Sage, tmp_path: Path) -> None:
    told = []
    for name in ("short", "short", "long"):
        (tmp_path / name).mkdir(exist_ok=True)
        video = tmp_path / name / "talk.mp4"
        video.write_bytes((CLIPS / f"{name}.mp4").read_bytes())
        told.append(sage("frames", video, "--at", "1", "--at", "2", "-o", tmp_path / "out").stderr)
    assert told[:2] == ["", ""]
    assert told[2].count("whose content was different") == 1


def test_frames_as_json(sage: Sage, tmp_path: Path) -> None:
    video = make_video(tmp_path / "talk.mp4", seconds=4)
    done = sage("frames", video, "--every", "1", "--start", "1", "--end", "2.5", "-o", tmp_path / "new" / "out", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["time"] for one in found] == [1.0, 2.0]
    assert all(one["video"] == str(video) and Path(one["path"]).parent == tmp_path / "new" / "out" for one in found)
    assert sorted(one["path"] for one in found) == sorted(map(str, (tmp_path / "new" / "out").iterdir()))
    sheet = sage("frames", video, "--every", "2", "--sheet", tmp_path / "sheet.png", "--json", "--offline")
    assert json.loads(sheet.stdout) == {
        "video": str(video),
        "path": str(tmp_path / "sheet.png"),
        "times": [0.0, 2.0, pytest.approx(4, abs=0.1)],
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--every", "1", "-o", "-"), "--output -: several files cannot go to stdout; name a folder"),
        (("--every", "1", "-o", "out.jpg"), "--output out.jpg: this is a file; name a folder (for a new one: out.jpg/)"),
        (("--every", "1", "-o", "out", "--sheet", "a.png"), "--sheet and --output exclude each other: choose one"),
        (("--at", "1", "--start", "1"), "--start and --end limit --every: add it"),
        (("--every", "1", "--start", "9"), "the start is not before the end"),
    ],
)
def test_frames_that_cannot_be_saved(
    refusal: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    video = make_video(tmp_path / "talk.mp4", seconds=2)
    monkeypatch.chdir(tmp_path)
    status, line = refusal("frames", video, *words)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]

"""``sage ground``: forms of its results, clips, and what is kept when it is broken off."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from sage_cli.assets import CLIPS
from sage_cli.video import Video
from tests.openai_server import Seer, serve

Sage = Callable[..., CompletedProcess[str]]
LONG = CLIPS / "long.mp4"
EVENTS = [(20, 30), (100, 110), (400, 405)]


def look(server: Seer) -> list[object]:
    return [LONG, "a goal, or two", "--model", server.url, "--frames", "2", "--quiet"]


def test_a_table_with_clips_and_stills(sage: Sage, tmp_path: Path) -> None:
    with serve(Seer(events=[(0, 2), (100, 102), (656, 660)])) as server:
        saved = ["--clips", tmp_path / "new" / "clips", "--stills", tmp_path / "stills"]
        done = sage("ground", *look(server), "--as", "csv", "--margin", "1.5", *saved)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "3.500"), ("98.500", "103.500"), ("654.500", "660.000")]
    assert {row["event"] for row in rows} == {"a goal, or two"}
    clips = sorted((tmp_path / "new" / "clips").iterdir())
    assert [round(Video(clip).duration, 1) for clip in clips] == [3.5, 5.0, 5.5]
    assert clips[1].name == "long_00-01-38.500-00-01-43.500.mp4"
    assert len(list((tmp_path / "stills").glob("long_00-01-38.500-00-01-43.500_*.jpg"))) == 3


def test_a_table_without_spans_has_its_head(sage: Sage) -> None:
    with serve(Seer()) as server:
        done = sage("ground", *look(server), "--as", "csv")
    assert (done.returncode, done.stdout) == (5, "start,end,event\n")


@pytest.mark.parametrize("form", ["text", "csv", "edl", "json"])
def test_what_was_found_before_ctrl_c_is_kept(start: Callable[..., Popen[str]], form: str) -> None:
    with serve(Seer(events=EVENTS, first=False, most=3)) as server:
        process = start("ground", *look(server), *(["--json"] if form == "json" else ["--as", form]))
        while len(server.requests) <= server.most and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 130
    if form == "json":
        found = json.loads(out.splitlines()[0])
        assert found["spans"] == [{"start": 20, "end": 30}, {"start": 100, "end": 110}]
        assert found["notices"] == ["the search was broken off at 00:00:30"]
        assert json.loads(out.splitlines()[1])["code"] == "interrupted"
    else:
        assert out.count({"text": "\n", "csv": "a goal, or two", "edl": "FROM CLIP"}[form]) == 2


def test_what_was_found_before_a_failure_is_kept(sage: Sage) -> None:
    with serve(Seer(events=EVENTS, first=False)) as server:
        server.refuse = lambda _: (400, {"error": {"message": "no more"}}) if len(server.requests) == 3 else None
        done = sage("ground", *look(server))
    assert done.stdout == "00:00:20-00:00:30\n00:01:40-00:01:50\n"
    assert done.returncode not in (0, 5)
    assert "no more" in done.stderr


def test_nothing_is_printed_of_a_search_that_did_not_begin(sage: Sage) -> None:
    with serve(Seer()) as server:
        server.refuse = lambda _: (400, {"error": {"message": "never"}})
        done = sage("ground", *look(server), "--as", "csv")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([LONG, CLIPS / "short.mp4"], "short.mp4 is a file, not an event: sage ground"),
        ([LONG, "forgotten.mkv"], "forgotten.mkv is a file, not an event: sage ground"),
        (["a goal", LONG], f"the video comes before the event: sage ground {LONG} 'a goal'"),
        ([LONG, "a goal", "--margin", "-1"], "--margin cannot be '-1'"),
        ([LONG, "a goal", "--clips", LONG], "this is a file; name a folder"),
        ([LONG, "a goal", "--as", "csv", "--json"], "--as csv and --json exclude each other"),
    ],
)
def test_mistakes_are_refused_before_the_model_is_loaded(refusal: Callable[..., tuple[int, str]], words: list[object], said: str) -> None:
    status, line = refusal("ground", *words)
    assert (status, line.count("\n")) == (2, 1)
    assert said in line

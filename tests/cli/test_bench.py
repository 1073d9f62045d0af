"""``sage bench`` as a process, on tiny models and real files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Popen
from tests.models import TinyModel
from tests.openai_server import Served, serve

Sage = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Popen]
Refusal = Callable[..., tuple[int, str]]
SMALL = ["--frames", "2", "--frame-tokens", "16", "--ctx-size", "3072", "--threads", "1"]


@pytest.fixture
def questions(tmp_path: Path, clip: Path) -> Path:
    """Three questions about a clip, and one about a missing video."""
    path = tmp_path / "mine.jsonl"
    rows: list[dict[str, Any]] = [{"video": str(clip), "question": f"What is it, {n}?", "answer": "Noise"} for n in range(3)]
    rows.append({"video": "gone.mp4", "question": "Where?", "answer": "Away"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_from_questions_to_a_report(sage: Sage, questions: Path, model: TinyModel, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["-m", model.text, *SMALL, "--direct", "--schema", '{"enum": [[1], [2]]}', "-o", run]
    done = sage("bench", questions, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# mine: tiny-qwen3-vl, direct\n")
    assert "| missing videos (questions not asked) | 1 |" in done.stdout
    missing, literal, where = done.stderr.splitlines()
    assert missing == "sage: 1 of 4 questions are skipped: their videos are missing (see the report)"
    assert literal.startswith("sage: 3 questions have no options: the judge choice accepts only the reference's own words")
    assert where == f"sage: results and report: {run}"
    first, *others = records(run)
    assert len(others) == 2
    # What the reference's scorer reads.
    assert (first["question"], first["full_answer"], first["correct_answer"]) == ("What is it, 0?", "Noise", None)
    assert (first["used_tool_calls"], first["tool_call_types"], first["num_attempts"], first["duration"]) == (False, {}, 1, 2.0)
    assert first["complete_results"] == {"iterative_reasoner": []}
    # What ours tells besides.
    assert (first["outcome"], first["turns"], first["is_correct"], first["error"]) == ("answered", 1, False, None)
    assert [event["type"] for event in first["events"]][:3] == ["run_started", "frames_sampled", "step_started"]
    assert first["events"][-1]["answer"] == first["answer"]
    assert first["value"] == json.loads(first["answer"]) != []
    assert first["usage"]["images"] == 2  # the clip, read for the words and again for the JSON
    report = json.loads((run / "report.json").read_text())
    assert (report["asked"], report["missing"], report["settings"]["tools"]) == (3, ["gone.mp4"], [])
    assert (run / "report.md").read_text(encoding="utf-8") == done.stdout[:-1]
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")

    # The same again: refused, or nothing left to do; then judged anew, and compared with itself.
    again = sage("bench", questions, *options)
    assert (again.returncode, again.stdout) == (2, "")
    assert "add --resume" in again.stderr
    resumed = sage("bench", questions, *options, "--resume", "--json", "-q")
    assert json.loads(resumed.stdout)["seconds"] == report["seconds"]
    shown = sage("bench", run, "--compare", run, "--json")
    assert json.loads(shown.stdout)["comparison"]["overall"]["neither"] == 3
    judged = json.loads(sage("bench", run, "--judge", "exact", "-o", tmp_path / "judged", "--json", "-q").stdout)
    assert judged["agreement"]["value"] == 1.0
    # What is known of the run stays known.
    assert judged["missing"] == ["gone.mp4"]
    assert judged["settings"] == {**report["settings"], "dataset": "run", "judge": "exact"}


def test_a_run_in_the_current_folder_against_direct_answers(start: Start, questions: Path, model: TinyModel, tmp_path: Path) -> None:
    (run := tmp_path / "run").mkdir()
    options = ["-m", model.text, *SMALL, "--limit", "1", "--max-steps", "1", "--compare", "direct", "-o", ".", "--json", "-q"]
    with start("bench", questions, *options, cwd=run) as process:
        stdout, stderr = process.communicate()
    assert json.loads(stdout)["comparison"]["overall"]["neither"] == 1, stderr
    assert len(records(run)) == len(records(tmp_path / "run-direct")) == 1


def test_a_run_that_measures_nothing_says_so(sage: Sage, questions: Path, model: TinyModel, tmp_path: Path) -> None:
    refused = (400, "application/json", '{"error": {"message": "the disk is tired"}}')
    with serve(Served(page=refused)) as server:
        done = sage("bench", questions, "-m", server.url, "--frames", "2", "-o", tmp_path / "failed", "-q")
        assert done.returncode == 5, done.stderr
        assert re.fullmatch(r"sage: 3 of 3 questions failed: [^\n]*the disk is tired[^\n]*\n", done.stderr)
        judge = ["--judge", server.url, "-o", tmp_path / "unjudged", "-q"]
        done = sage("bench", questions, "-m", model.text, *SMALL, "--direct", *judge)
        assert done.returncode == 5, done.stderr
        assert re.fullmatch(r"sage: 3 of 3 answers were not judged: [^\n]*the disk is tired[^\n]*\n", done.stderr)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker in /proc")
def test_a_worker_that_aborts_costs_its_question(start: Start, questions: Path, tmp_path: Path) -> None:
    run, started, aborted = tmp_path / "run", list[Popen](), list[int]()

    def abort(body: dict[str, Any]) -> None:
        if "What is it, 1?" in json.dumps(body) and not aborted:
            aborted.extend(workers(started[0].pid))
            for worker in aborted:
                os.kill(worker, signal.SIGABRT)

    with serve(Served(text="Noise", refuse=abort)) as server:
        started.append(start("bench", questions, "-m", server.url, "--frames", "2", "--direct", "-o", run, "--json"))
        with started[0] as process:
            stdout, stderr = process.communicate()
    assert (process.returncode, len(aborted)) == (0, 1), stderr
    report = json.loads(stdout)
    assert report["asked"] == 3
    assert [why for _, why in report["failed"]] == ["its process was ended by SIGABRT"]
    assert [record["outcome"] for record in records(run)] == ["answered", "failed", "answered"]


def workers(process: int) -> list[int]:
    """The worker processes it started, without the semaphore tracker."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nothing.jsonl"], 2, "no such question set"),
        (["QUESTIONS", "--judge", "mother"], 2, "--judge mother"),
        (["QUESTIONS", "--filter", "mood=good"], 2, "KEY=VALUE"),
        (["QUESTIONS", "--videos", "nowhere"], 2, "no such folder: nowhere"),
        (["QUESTIONS", "--filter", "video=gone.mp4"], 4, "no video was found, for example gone.mp4"),
        (["QUESTIONS", "--compare", "direct", "--direct"], 2, "needs a run with tools"),
        (["QUESTIONS", "--direct-prompt"], 2, "add --direct, or --compare direct"),
        (["QUESTIONS", "--judge-model", "qwen3"], 2, "--judge-model names a model of a server"),
        (["QUESTIONS", "--compare", "nowhere"], 2, "nowhere: No such file or directory: give the folder of a run, or a results file"),
        (["QUESTIONS", "--compare", "QUESTIONS"], 2, "a question set, without answers: run it first"),
        (["QUESTIONS", "--no-tool", "hammer"], 2, "there are transcribe-speech, ground-event"),
        (["QUESTIONS", "-m", "nomodel"], 3, "nomodel"),
    ],
)
def test_refusals(
    refusal: Refusal,
    questions: Path,
    words: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    import re

    for name in ("SAGE_MODELS_DIR", "SAGE_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    code, line = refusal("bench", *(questions if word == "QUESTIONS" else word for word in words))
    assert code == status, line
    assert re.search(said, line)
    assert line.count("\n") == 1


def test_a_hub_that_cannot_be_reached(sage: Sage, environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path / "hub")}
    done = sage("bench", "hf:allenai/SAGE-Bench")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_results_are_shown_as_tables_on_a_terminal(sage: Sage, tmp_path: Path) -> None:
    published = tmp_path / "published.json"
    row = {"question": "Why?", "answer": "\x1b[31mSo.", "full_answer": "So.", "is_correct": True, "duration": 700, "video_path": "v.mp4"}
    published.write_text(json.dumps([row | {"tool_call_types": {"perform_reasoning": 1}, "used_tool_calls": True}]))
    code = f"import sys; sys.argv = ['sage', 'bench', {str(published)!r}]\nfrom sage_cli.cli import main\nmain()"
    program = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, '-c', {code!r}]) >> 8)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert "600-1200 s" in done.stdout
    assert "100.0 % (20.7-100.0)" in done.stdout
    assert "| --- |" not in done.stdout
    assert "| analyze | 1 | - | - |" in sage("bench", published).stdout

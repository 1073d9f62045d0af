"""Runs that are killed and resumed have every item once."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import CLIPS, NANO
from sage_cli.bench.answer import Worker
from sage_cli.bench.items import read_dataset
from sage_cli.bench.judges import JudgeChoice
from sage_cli.bench.records import read_records
from sage_cli.bench.report import summarize
from sage_cli.bench.run import SETTINGS, Plan, RunFolder, execute, settings_of
from sage_cli.bench.tables import markdown
from sage_cli.errors import UsageError
from sage_cli.session import Options, open_session
from tests.openai_server import Served, serve

ITEMS = 60


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Sixty questions with answers, a third of them right."""
    path = tmp_path / "answers.jsonl"
    rows = ({"question": f"{n}?", "video_path": "v", "answer": str(n % 3), "full_answer": "1", "num_attempts": 1} for n in range(ITEMS))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def plan(answers: Path, judge: str = "exact", **more: Any) -> Plan:
    return Plan(read_dataset(str(answers)), Worker(Options(), JudgeChoice.parse(judge), asks=False), **more)


def test_every_item_has_a_record(answers: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = plan(answers, jobs=2)
    records = execute(RunFolder(tmp_path / "run", made, resume=False), lambda done, total: seen.append((done, total)))
    assert [record["index"] if "index" in record else record["question"] for record in records] == [f"{n}?" for n in range(ITEMS)]
    assert seen == [(done, ITEMS) for done in range(ITEMS + 1)]
    report = summarize("x", records)
    assert (report.accuracy.right, report.accuracy.total) == (ITEMS // 3, ITEMS)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: writing fails, as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_new_folder(answers: Path, tmp_path: Path) -> None:
    made = plan(answers)
    (tmp_path / "mine").mkdir()
    for folder in ("new/one", "mine"):
        with full_disk(), pytest.raises(OSError, match="too large"):
            execute(RunFolder(tmp_path / folder, made, resume=False))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["answers.jsonl", "mine"]


def test_killed_at_random_moments_and_resumed(answers: Path, tmp_path: Path, killed_at: Callable[[list[str], float], bool]) -> None:
    """Every item once, and the same totals."""
    run = tmp_path / "run"
    rng = random.Random(8)
    command = [
        sys.executable,
        "-m",
        "sage_cli",
        "bench",
        str(answers),
        "--judge",
        "exact",
        "--output",
        str(run),
        "--quiet",
        "--json",
        "--resume",
    ]
    counts = []
    for _ in range(3):
        killed_at(command, rng.uniform(0.0, 0.05))
        counts.append(len(_lines(run)))
    assert counts == sorted(counts)
    assert counts[-1] > 0
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = _lines(run)
    assert sorted(json.loads(line)["question"] for line in lines) == sorted(f"{n}?" for n in range(ITEMS))
    assert json.loads(done.stdout)["accuracy"]["right"] == ITEMS // 3


@pytest.fixture
def killed_at(tmp_path: Path) -> Callable[[list[str], float], bool]:
    """Runs a command and kills it that many seconds after it wrote its next result."""

    def run(command: list[str], after: float) -> bool:
        before = len(_lines(tmp_path / "run"))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and len(_lines(tmp_path / "run")) == before:
                time.sleep(0.005)
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
        return process.returncode == -signal.SIGKILL

    return run


def _lines(run: Path) -> list[bytes]:
    path = run / "results.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def test_a_torn_last_line_is_done_again(answers: Path, tmp_path: Path) -> None:
    made = plan(answers)
    whole = execute(RunFolder(tmp_path / "run", made, resume=False))
    results = tmp_path / "run" / "results.jsonl"
    data = results.read_bytes()
    for cut in (1, len(data) // 2):
        results.write_bytes(data[:-cut])
        again = execute(RunFolder(tmp_path / "run", made, resume=True))
        assert again == whole
        assert results.read_bytes().count(b"\n") == ITEMS


def test_a_run_is_gone_on_with_under_its_own_settings_only(answers: Path, tmp_path: Path) -> None:
    made = plan(answers)
    execute(RunFolder(tmp_path / "run", made, resume=False))
    with pytest.raises(UsageError, match="add --resume"):
        execute(RunFolder(tmp_path / "run", made, resume=False))
    other = plan(answers, "choice")
    with pytest.raises(UsageError, match="made with another judge"):
        execute(RunFolder(tmp_path / "run", other, resume=True))
    for broken in ("{}", "3"):
        (tmp_path / "run" / SETTINGS).write_text(broken)
        with pytest.raises(UsageError, match="made with another"):
            execute(RunFolder(tmp_path / "run", made, resume=True))


def test_a_run_that_failed_before_its_first_result_is_none(answers: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", plan(answers, "choice"), resume=False).records():
        pass  # the judge could not be reached
    for resume in (False, True):
        assert not RunFolder(tmp_path / "run", plan(answers), resume=resume).begun
    made = plan(answers)
    records = execute(RunFolder(tmp_path / "run", made, resume=True))
    assert markdown(summarize("x", records, settings=made.settings)).startswith("# x\n\njudge: exact.\n")


def test_damaged_lines_are_asked_again(answers: Path, tmp_path: Path) -> None:
    """Wherever they are: a results file can always be resumed."""
    made = plan(answers)
    whole = execute(RunFolder(tmp_path / "run", made, resume=False))
    results = tmp_path / "run" / "results.jsonl"
    lines = results.read_bytes().splitlines(keepends=True)
    damage = [b"{broken\n", b"\n", b"[1]\n", b'{"no": "key"}\n', b"\xff\xfe\n", bytes(4096) + b"\n", b"[" * 99999 + b"\n"]
    results.write_bytes(b"".join([damage[0], *lines[:20], *damage, *lines[22:]]))
    assert execute(RunFolder(tmp_path / "run", made, resume=True)) == whole
    assert len(read_records(results)) == len(results.read_bytes().splitlines()) == ITEMS


def test_what_some_take_for_line_ends_is_text(tmp_path: Path) -> None:
    questions = [f"one{separator}two?" for separator in "\u2028\u2029\x85\x0b\x0c\x1c\x1e"]
    rows = [{"question": text, "video_path": "v", "answer": text, "full_answer": "1", "num_attempts": 1} for text in questions]
    path = tmp_path / "answers.jsonl"
    lines = (json.dumps(row, ensure_ascii=place % 2 == 0) for place, row in enumerate(rows + rows[::-1]))  # each raw and escaped
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    made = plan(path)
    records = execute(RunFolder(tmp_path / "run", made, resume=False))
    assert [record["question"] for record in records] == questions + questions[::-1]
    assert execute(RunFolder(tmp_path / "run", made, resume=True)) == records
    assert read_records(tmp_path / "run" / "results.jsonl") == records
    assert [item.question for item in read_dataset(str(tmp_path / "run")).items] == questions + questions[::-1]


def test_two_processes_do_not_share_a_folder(answers: Path, tmp_path: Path) -> None:
    made = plan(answers)
    folder, other = RunFolder(tmp_path / "run", made, resume=False), plan(answers, "choice")
    with folder.records():
        refused = RunFolder(tmp_path / "run", other, resume=True)
        with pytest.raises(UsageError, match="another process"):
            execute(refused)
        assert not refused.begun
    assert settings_of(tmp_path / "run") == made.settings  # those of the process at work


def test_a_run_is_resumed_with_the_same_hearing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Language, subtitles and speech model come from the environment and the settings file, too."""
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    shutil.copy(CLIPS / "speech.mp4", tmp_path / "talk.mp4")
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "Which number?", "video_path": "talk.mp4", "full_answer": "7"}))

    def planned(**more: Any) -> Plan:
        options = Options(**{"model": "nano", **more})
        with open_session(options) as session:
            resolved = session.resolved()
        assert resolved.speech_model == str(NANO.speech)  # a worker that starts later takes the same one
        return Plan(read_dataset(str(tmp_path / "q.jsonl")), Worker(resolved, JudgeChoice.parse("exact")))

    def key(made: Plan) -> str:
        return made.key(made.dataset.items[0])

    made = planned()
    folder = RunFolder(tmp_path / "run", made, resume=False)
    with folder.records() as (_, add):
        add({"key": key(made)})
    for change, told in (({"language": "en"}, "language, speech"), ({"subtitles": False}, "subtitles")):
        other = planned(**change)
        with pytest.raises(UsageError, match=f"made with another {told}:"), RunFolder(tmp_path / "run", other, resume=True).records():
            pass
    alone = key(made)
    assert key(planned()) == alone
    (tmp_path / "talk.en.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nEight.\n")
    beside = key(planned())
    (tmp_path / "talk.en.srt").rename(tmp_path / "talk.de.srt")
    assert len({alone, beside, key(planned())}) == 3


def test_a_served_model_is_named_by_its_server(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "Which number?", "video_path": "talk.mp4", "full_answer": "7"}))
    with serve(Served()) as server:
        worker = Worker(Options(model=server.url, speech_model="nano"), JudgeChoice.parse("exact"))
        assert Plan(read_dataset(str(tmp_path / "q.jsonl")), worker).settings["model"] == "served"


def test_open_questions_are_told_to_a_literal_judge(answers: Path) -> None:
    assert "60 questions have no options: the judge exact accepts only" in plan(answers).notice
    assert "--judge model" in plan(answers, "choice").notice
    assert plan(answers, "model").notice == ""

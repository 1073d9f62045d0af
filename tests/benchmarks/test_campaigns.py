"""The campaigns of damaged files and kills, in their shortest form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import damage, kills
from tests.hub import running


def test_there_are_many_kinds_of_files_and_damages() -> None:
    assert len({sample.name for sample in damage.SAMPLES}) == len(damage.SAMPLES) >= 40
    assert len({one.__name__ for one in damage.DAMAGES}) == 10


@pytest.mark.parametrize("kind", damage.DAMAGES, ids=lambda kind: kind.__name__)
def test_every_damage_changes_a_file_the_same_way_each_time(tmp_path: Path, kind: damage.Damage) -> None:
    sample = tmp_path / "whole.mp4"
    sample.write_bytes(random.Random(2).randbytes(50_000))
    first, again = (damage.damaged(sample, kind, 1, folder) for folder in (_folder(tmp_path, "a"), _folder(tmp_path, "b")))
    assert first.read_bytes() == again.read_bytes()
    assert first.suffix != sample.suffix or first.read_bytes() != sample.read_bytes()
    assert first.name == again.name


def _folder(parent: Path, name: str) -> Path:
    (folder := parent / name).mkdir()
    return folder


def test_damaged_files_are_answered_or_refused(tmp_path: Path) -> None:
    wanted = damage.Sample("mp4", "libx264", "aac"), damage.Sample("ogg", "", "libopus")
    samples = [path for sample in wanted if (path := damage.make(sample, tmp_path))]
    runs = [*damage.campaign(samples[:1], [damage.flipped], tmp_path, seed=1, jobs=1, limit_s=300)]
    runs += damage.campaign(samples[1:], [damage.cut], tmp_path, seed=1, jobs=1, limit_s=300)
    assert len(runs) == 4
    assert not [(one.command, one.media.name, one.problems, one.stderr) for one in runs if one.problems]
    assert "| ask | 2 |" in damage.report(runs)


def test_a_run_that_is_not_in_order_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "MEMORY", 1000)
    monkeypatch.setattr(damage, "CODES", {"ask": {0}, "transcribe": {0}})
    (media := tmp_path / "none.mp4").write_bytes(b"")
    run = damage.run("transcribe", media, "cut", tmp_path, 300)
    assert run.problems[0] == "exit code 4"
    assert run.problems[1].endswith("GB")


def test_killed_runs_lose_nothing(tmp_path: Path) -> None:
    with running() as hub:
        works = {work.name: work for work in kills.works(tmp_path, hub)}
        for name, signal in (("transcribe", "SIGTERM"), ("pull", "SIGKILL")):
            right, seconds = kills.undisturbed(works[name], tmp_path)
            kill = kills.killed(works[name], signal, 0.7 * seconds, right, tmp_path)
            assert kill.problems == ()
        assert kills.at_once(works["pull"], right, tmp_path) == []

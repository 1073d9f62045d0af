"""The whole chain by one command, from nothing to a model that ``sage`` answers with; configuration, data and pictures on the way."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import numpy as np  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from sage_cli.agent import Agent, Settings  # noqa: E402
from sage_cli.agent.events import RunStarted  # noqa: E402
from sage_cli.model.llama import LlamaModel  # noqa: E402
from sage_cli.store.models import find_model  # noqa: E402
from sage_cli.video import Video  # noqa: E402
from training.clips import demo_worlds, write_clip  # noqa: E402
from training.config import PRESETS, Teacher, load  # noqa: E402
from training.curves import held_out, table, write_table  # noqa: E402
from training.runlog import read  # noqa: E402
from training.samples import Stream, draw_faults  # noqa: E402
from training.streams import Interleaved  # noqa: E402
from training.tokens import train_tokenizer  # noqa: E402


@pytest.mark.parametrize("name", ["nano", "smoke"])
def test_presets_are_read(name: str) -> None:
    run = load(name)
    assert {variant: run.variant(variant) for variant in run.variants}
    assert run.variant("main") == run.rl


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[sft]\nstepps = 1\n")
    with pytest.raises(ValidationError, match="stepps"):
        load(str(path))
    with pytest.raises(FileNotFoundError, match="nano, "):
        load("other")


def test_the_teacher_errs_more_in_long_videos() -> None:
    rng, teacher = random.Random(0), load("nano").sft.teacher
    short, long = (sum(draw_faults(rng, teacher, seconds).guess for _ in range(2000)) / 2000 for seconds in (30.0, 1500.0))
    assert short == pytest.approx(teacher.guess[0], abs=0.02)
    assert long == pytest.approx(teacher.guess[1], abs=0.04)
    assert not any(vars_of(draw_faults(rng, Teacher(), 3000.0)))


def vars_of(faults: object) -> list[bool]:
    return [getattr(faults, name) for name in faults.__slots__]  # type: ignore[attr-defined]


def test_processes_make_the_same_batches_in_the_same_order(tmp_path: Path) -> None:
    train_tokenizer(0, questions=300).save(str(tmp_path / "tokenizer.json"))
    settings = load("smoke").sft.model_copy(update={"streams": 3})

    def first(processes: int) -> list[list[int]]:
        batches = Interleaved(Batches(tmp_path / "tokenizer.json"), settings.streams, processes)
        try:
            return [batch.ids.tolist() for batch in islice(batches, 7)]
        finally:
            batches.close()

    assert first(0) == first(2)


class Batches:
    """Begins a stream, in whatever process."""

    def __init__(self, tokenizer: Path) -> None:
        self.tokenizer = tokenizer

    def __call__(self, number: int):  # type: ignore[no-untyped-def]
        return Stream(self.tokenizer, load("smoke").sft, "1", number, 0.9).batches(1)


def test_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command trains, exports, and ``sage``'s agent runs with what it made. Nothing is learned by then."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "training", "all", "--preset", "smoke", "--device", "cpu", "--workers", "0", "--ablations", ""]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True)
    lines = read(out)
    assert [line["stage"] for line in lines if "saved" in line] == ["vision", "sft"]
    steps = [line for line in lines if line["stage"] == "rl" and "accuracy" in line]
    assert len(steps) == load("smoke").rl.steps
    write_table(table(lines), tmp_path / "rl.csv")
    assert (tmp_path / "rl.csv").read_text().count("\n") == 1 + len(steps)
    assert held_out(lines).startswith("| run |")
    assert json.loads((out / "config.json").read_text())["seed"] == 1

    files = find_model(str(out / "rl"))
    assert files.bundled is not None
    monkeypatch.setattr("training.clips.soundtrack", lambda world, voice: np.zeros(round(world.duration * 16_000), np.float32))
    clip = write_clip(demo_worlds()["short"], tmp_path / "clip.mp4", size=96, sound=None)
    settings = Settings(frames=4, frame_tokens=files.bundled.frame_tokens, prompts="nano", max_steps=1, reply_tokens=64)
    with LlamaModel(files.text, files.mmproj, threads=1) as model:
        events = list(Agent(model, Video(clip), settings=settings).run("Which shape appears first?"))
    assert isinstance(events[0], RunStarted)
    assert len(events) > 3


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    from training.pipeline import Options, make_tokenizer, run_vision

    options = Options("smoke", tmp_path, "cpu", 0, None, ())
    (tmp_path / "tokenizer.json").write_text("there")
    (tmp_path / "vision.pt").write_text("there")
    make_tokenizer(load("smoke"), options)
    run_vision(load("smoke"), options, None)
    assert (tmp_path / "vision.pt").read_text() == "there"
    assert sorted(path.name for path in PRESETS.glob("*.toml")) == ["nano.toml", "qwen3-vl-4b.toml", "smoke.toml"]

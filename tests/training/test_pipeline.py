"""The whole chain by one command, from nothing to a model that ``sage`` answers with; configuration, data and pictures on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import numpy as np  # noqa: E402
from filelock import FileLock  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from sage_cli.agent import Agent, Settings  # noqa: E402
from sage_cli.agent.events import RunStarted  # noqa: E402
from sage_cli.assets import NANO  # noqa: E402
from sage_cli.errors import SageError, UsageError  # noqa: E402
from sage_cli.model.llama import LlamaModel  # noqa: E402
from sage_cli.prompts import Prompts  # noqa: E402
from sage_cli.speech import Transcriber  # noqa: E402
from sage_cli.store.models import find_model  # noqa: E402
from sage_cli.video import Video  # noqa: E402
from training import export_whisper  # noqa: E402
from training.card import make_card  # noqa: E402
from training.clips import demo_worlds, write_clip  # noqa: E402
from training.config import PRESETS, Teacher, load  # noqa: E402
from training.curves import held_out, table, write_table  # noqa: E402
from training.repeat import repeat  # noqa: E402
from training.runlog import Clock, Log, read  # noqa: E402
from training.samples import Stream, draw_faults  # noqa: E402
from training.speech import SAMPLE_RATE, TEST_VOICES, all_sentences  # noqa: E402
from training.speech import held_out as held_out_sentence  # noqa: E402
from training.streams import Interleaved  # noqa: E402
from training.tokens import train_tokenizer  # noqa: E402
from training.whisper import train_whisper  # noqa: E402

LOG = Path(__file__).parents[2] / "docs" / "training"  # of the run that made the bundled models


@pytest.mark.parametrize("name", ["nano", "smoke"])
def test_presets_are_read(name: str) -> None:
    run = load(name)
    assert {variant: run.variant(variant) for variant in run.variants}
    assert run.variant("main") == run.rl


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[sft]\nstepps = 1\n")
    with pytest.raises(UsageError, match=r"other.toml: sft.stepps: extra inputs are not permitted"):
        load(str(path))


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
    # Without espeak-ng, wherever it is installed: whisper, held-out set and card have tests of their own.
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, text=True, env={**os.environ, "PATH": ""})
    lines = read(out)
    assert lines[0]["preset"] == "smoke"
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
    settings = Settings(frames=4, frame_tokens=files.bundled.frame_tokens, prompts=Prompts("nano"), max_steps=1, reply_tokens=64)
    with LlamaModel(files.text, files.mmproj, threads=1) as model:
        events = list(Agent(model, Video(clip), settings=settings).run("Which shape appears first?"))
    assert isinstance(events[0], RunStarted)
    assert len(events) > 3


@pytest.fixture
def humming(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that needs no espeak-ng: it hums for as long as the text is long."""

    def hum(text: str, voice: str, speed: int = 160, pitch: int = 50) -> NDArray[np.float32]:
        moments = np.arange(len(text) * SAMPLE_RATE // 12) / SAMPLE_RATE
        return (0.3 * np.sin(moments * 2 * np.pi * (100 + pitch))).astype(np.float32)

    for module in ("sounds", "speech", "evaluate"):
        monkeypatch.setattr(f"training.{module}.speak", hum)


@pytest.mark.usefixtures("humming")
def test_a_whisper_is_trained_gone_on_with_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after a checkpoint, it goes on from there; whisper.cpp loads what comes out."""
    monkeypatch.setattr("training.whisper.KEPT", 2)
    settings, run = load("smoke").whisper, tmp_path / "run"

    def train(log: Log) -> None:
        train_whisper(settings, run, log, seed=1, device=torch.device("cpu"), limit=None)

    class Interrupted(Log):
        def write(self, **values: object) -> None:
            super().write(**values)
            if values["step"] == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(run, "whisper", quiet=True))
    train(Log(run, "whisper", quiet=True))
    assert [line["step"] for line in read(run)] == [1, 2, 3, 4, 4]
    assert not (run / "whisper.part.pt").exists()

    file = tmp_path / "ggml-nano.bin"
    export_whisper.export(run / "whisper.pt", file)
    list(Transcriber(file, threads=1).stream(np.zeros(SAMPLE_RATE, np.float32)))


@pytest.mark.usefixtures("humming")
def test_the_card_says_what_bench_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundled files as a run's: two columns are the same, the better one is laid out as a model folder."""
    monkeypatch.setattr("training.export_set.ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(1))  # where the humming is known
    monkeypatch.setattr("training.evaluate.TEST_VOICES", TEST_VOICES[:1])
    monkeypatch.setattr("training.evaluate.all_sentences", lambda: [text for text in all_sentences() if held_out_sentence(text)][:2])
    for name in ("sft", "rl"):
        shutil.copytree(NANO.folder, tmp_path / name)
    Log(tmp_path, "run", quiet=True).write(preset="nano", device="an abacus", torch="0")
    Log(tmp_path, "vision", quiet=True).write(step=1600, saved="vision.pt")
    run = load("nano").model_copy(update={"held_out": 1})
    card = (make_card(run, tmp_path, jobs=1) / "README.md").read_text()
    assert "| visual | 100 % (1/1) | 100 % (1/1) | 100 % (1/1) |" in card
    assert "| vision | 1,600 | 0 |" in card
    assert "an abacus" in card
    assert "the weights are\nthose of SFT + RL" in card
    assert find_model(str(tmp_path / "nano")).bundled is not None


def test_the_first_steps_are_those_of_the_shipped_log() -> None:
    """The recipe is a program: on another machine, years later, the losses are the same up to the order of additions."""
    steps = repeat(load("nano"), "vision", LOG, LOG, steps=3, device=torch.device("cpu"), workers=0)
    assert [step.number for step in steps] == [1, 2, 3]
    assert max(step.difference for step in steps) < 1e-3


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    from training.pipeline import Options, make_tokenizer, run_vision

    options = Options("smoke", tmp_path, "cpu", 0, None, ())
    (tmp_path / "tokenizer.json").write_text("there")
    (tmp_path / "vision.pt").write_text("there")
    make_tokenizer(load("smoke"), options)
    run_vision(load("smoke"), options, None)
    assert (tmp_path / "vision.pt").read_text() == "there"
    assert sorted(path.name for path in PRESETS.glob("*.toml")) == ["nano.toml", "qwen3-vl-4b.toml", "smoke.toml"]


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    from training.pipeline import Options, prepare, run_rl

    (tmp_path / "config.json").write_text(load("nano").model_dump_json(), encoding="utf-8")
    prepare(Options("nano", tmp_path, "cpu", 0, None, ()))
    with pytest.raises(UsageError, match="holds a run of other settings than smoke"):
        prepare(Options("smoke", tmp_path, "cpu", 0, None, ()))
    with pytest.raises(UsageError, match=r"has no tokenizer.json, which an earlier stage makes"):
        run_rl(load("nano"), Options("nano", tmp_path, "cpu", 0, None, ()), "main", None)


def test_two_processes_do_not_make_the_same(tmp_path: Path) -> None:
    from training.pipeline import Options, run_vision

    with FileLock(tmp_path / ".vision.pt.lock"), pytest.raises(UsageError, match="another process is making"):
        run_vision(load("smoke"), Options("smoke", tmp_path, "cpu", 0, None, ()), None)


def test_a_stage_knows_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.pipeline import Options, _start

    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    process = _start(Options("smoke", tmp_path, "cpu", 0, None, ()), "rl", None, "--variant", "main")
    assert process.wait(60) == 0
    assert isinstance(process.args, list)
    assert process.args[-2:] == ["--parent", str(os.getpid())]


def test_processes_end_with_the_one_that_started_them() -> None:
    from training.pipeline import _ended

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def interrupted() -> None:
        with _ended([process]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert process.wait(60) != 0


def test_checkpoints_that_cannot_be_written_or_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.model import keep, kept_step

    path, model = tmp_path / "x.part.pt", torch.nn.Linear(2, 2)
    keep(path, 5, model, [])
    assert kept_step(path) == 5
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SageError, match=r"x.part.pt is damaged; delete it"):
        kept_step(path)

    def full(_: object, new: Path) -> None:
        new.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SageError, match="cannot be written"):
        keep(path, 6, model, [])
    assert [file.name for file in tmp_path.iterdir()] == ["x.part.pt"]


def test_the_log_of_an_interrupted_run_reads_as_that_of_one_run(tmp_path: Path) -> None:
    lines = [{"stage": "rl", "run": name, "seconds": 10.0 * step, "step": step} for step in (1, 2, 3) for name in ("rl", "rl-x")]
    lines += [{"stage": "rl", "run": "rl", "seconds": 0.5, "step": 2, "resumed": True}]
    lines += [{"stage": "rl", "run": "rl", "seconds": 10.0, "step": 3}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = read(tmp_path)
    assert [(line["step"], line["seconds"]) for line in found if line["run"] == "rl"] == [(1, 10.0), (2, 20.0), (3, 30.0)]
    assert len(found) == 6


def test_a_stage_that_begins_anew_is_in_the_log_once(tmp_path: Path) -> None:
    """One that was ended before its first checkpoint leaves lines of steps that are made again."""
    for _ in range(2):
        for name in ("rl", "rl-x"):
            log = Log(tmp_path, "rl", quiet=True)
            log.begin(0, run=name)
            log.write(run=name, step=0, held_out=0.5)
            log.write(run=name, step=1, loss=1.0)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "rl", "ru')
    assert [(line["run"], line["step"]) for line in read(tmp_path)] == [("rl", 0), ("rl", 1), ("rl-x", 0), ("rl-x", 1)]


def test_a_deadline_leaves_the_drills_whole() -> None:
    """What comes after them starts from the model that they make."""
    clock = Clock(100, limit=1e-9, least=4)
    assert [clock.over(step) for step in (0, 3, 4)] == [False, False, True]

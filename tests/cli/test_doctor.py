"""``sage doctor``: its advice for machines of every kind, and a real run on this one."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sage_cli.assets import CLIPS
from sage_cli.cli.checks import Setup, Speeds, System, advise, check_setup, check_system
from sage_cli.cli.measure import ModelSpeed
from sage_cli.errors import LibraryError
from sage_cli.hardware.builds import Hardware
from sage_cli.hardware.plan import GIB, Machine, Needs, plan_memory
from sage_cli.hardware.threads import compute_threads
from sage_cli.model.devices import Device, devices, gpu_backends
from sage_cli.session import open_session
from tests.models import TinyModel
from tests.models.tiny_whisper import write_whisper

Sage = Callable[..., CompletedProcess[str]]

CPU = Device("CPU", "a processor", "cpu", 0, 0)
CUDA = Device("CUDA0", "a card", "gpu", 8 * GIB, 8 * GIB)
NEEDS = Needs(weights=2_500_000_000, vision=840_000_000, kv=147_456, layers=36, limit=262_144)
WITH_GPU = Machine(32 * GIB, 8 * GIB, 8, "a card")
WITHOUT = Machine(32 * GIB, 0, 8, "a processor")


SYSTEM = System(
    sage="1",
    python="3",
    platform="Linux",
    packages={"llama-cpp-python": "0.3.36"},
    broken=(),
    llama_build="built",
    backends=("CUDA",),
    devices=(CPU, CUDA),
    machine=WITH_GPU,
    hardware=Hardware("Linux", "x86_64", "NVIDIA", driver=580),
    hidden_gpu=None,
    load=0.0,
    cache_size=0,
    cache_limit=0,
    disks={"cache": ("/c", 10**12)},
)
SETUP = Setup(
    model="/m/model.gguf",
    fit=plan_memory(NEEDS, WITH_GPU),
    speech_model="/m/ggml-base.bin",
    timeout=300.0,
)
SPEEDS = Speeds(models=(ModelSpeed("model", "CUDA0", "CUDA0", 1.0, 0.02, 0.004, False, 2000.0, 60.0, 91.0),), decoding=500.0)


def advice(**changed: object) -> list[str]:
    """Advice for a machine without problems, except for the given changes."""
    parts = []
    for part in SYSTEM, SETUP, SPEEDS:
        names = {field.name for field in dataclasses.fields(part)}
        parts.append(dataclasses.replace(part, **{name: value for name, value in changed.items() if name in names}))  # type: ignore[arg-type]
    return advise(*parts)  # type: ignore[arg-type]


def test_no_advice_without_problems() -> None:
    assert advice() == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cache_size": None}, ["/c belongs to another user"]),
        (
            {"devices": (CPU,), "hidden_gpu": "NVIDIA", "hardware": Hardware("Linux", "aarch64", "NVIDIA")},
            ["cannot use the NVIDIA GPU; compile one that can", "-DGGML_CUDA=on"],
        ),
        ({"devices": (CPU,), "backends": ()}, ["no GPU was found"]),
        ({"devices": (CPU,)}, ["llama.cpp is built for CUDA, but finds no such GPU: check the driver"]),
        ({"model": None, "model_problem": None, "fit": None}, ["no model is installed", "sage models pull sage-mm-7b"]),
        (
            {"model": None, "model_problem": "x is not installed: run 'sage models pull x'", "fit": None},
            ["x is not installed", "recommended for this machine: sage models pull sage-mm-7b"],
        ),
        ({"model_problem": "/m/model.gguf: cannot be loaded"}, ["cannot be loaded"]),
        ({"fit": plan_memory(NEEDS, Machine(2 * GIB, 0, 2, "small"))}, ["too big for this machine", "smaller quantization"]),
        ({"fit": plan_memory(NEEDS, Machine(4 * GIB, 0, 2, "small"), context=65536)}, ["lower ctx-size (65536)"]),
        ({"fit": plan_memory(NEEDS, Machine(32 * GIB, 3 * GIB, 8, "a card"))}, ["exceeds the GPU's memory"]),
        ({"speech_model": None}, ["speech is not transcribed: sage models pull whisper-base"]),
        ({"disks": {"hub cache": ("/h", 10**9)}}, ["only 1.0 GB are free on the disk of /h", "HF_HOME"]),
        ({"packages": {"opencv-python": "4", "opencv-python-headless": "4"}}, ["opencv-python overwrites files of opencv-python-headless"]),
        ({"load": 20.0}, ["the machine is busy (load 20 on 8 cores)"]),
        (
            {"models": (ModelSpeed("model", "CPU", "CPU", 1.0, 3.0, 0.002, True, 40.0, 5.0, 91.0),)},
            ["a first answer takes about", "of the time limit of 300 s: sage config set frames 16"],
        ),
    ],
)
def test_advice(changed: dict[str, object], said: list[str]) -> None:
    (line,) = advice(**changed)
    for words in said:
        assert words in line
    assert "\n" not in line


def test_the_estimate_of_a_first_look() -> None:
    speed = ModelSpeed("model", "CPU", "CPU", 1.0, encode_s=0.5, read_s=None, stored=False, prefill=100.0, decode=10.0, pair_tokens=90.0)
    assert speed.first_look_s(128) == 0.5 * 64 + (90 * 64 + 1800) / 100 + 25


def test_a_gpu_that_is_not_used_gets_a_wheel_and_a_compiler_line() -> None:
    nvidia = Hardware("Linux", "x86_64", "NVIDIA", driver=580)
    wheel, compiled = advice(devices=(CPU,), hidden_gpu="NVIDIA", hardware=nvidia, machine=WITHOUT, fit=plan_memory(NEEDS, WITHOUT))
    assert "cannot use the NVIDIA GPU" in wheel
    assert "--only-binary llama-cpp-python" in wheel
    assert "/whl/cu130 llama-cpp-python==0.3.36" in wheel
    assert "CMAKE_ARGS=-DGGML_CUDA=on" in compiled
    assert "needs the CUDA toolkit" in compiled


def test_a_llama_cpp_that_cannot_be_loaded_is_installed_again_for_the_gpu_or_the_cpu() -> None:
    cuda = LibraryError("llama-cpp-python", "libcudart.so.12: cannot open shared object file: No such file or directory")
    nvidia = Hardware("Linux", "x86_64", "NVIDIA", driver=580)
    wheel, compiled, cpu = advice(broken=(cuda,), devices=(), hardware=nvidia, machine=WITHOUT, fit=plan_memory(NEEDS, WITHOUT))
    assert wheel.startswith(f"{cuda.problem}; install a prebuilt one that can: ")
    assert "/whl/cu130 llama-cpp-python==0.3.36" in wheel
    assert "CMAKE_ARGS=-DGGML_CUDA=on" in compiled
    assert "/whl/cpu llama-cpp-python==0.3.36" in cpu


def test_devices_of_this_machine() -> None:
    found = devices()
    assert [device.name for device in found if device.kind == "cpu"] == ["CPU"]
    assert all(device.description for device in found)
    assert bool(gpu_backends()) >= any(device.kind == "gpu" for device in found)


@pytest.mark.parametrize("settings", [{}, {"SAGE_FRAMES": "4", "SAGE_CTX_SIZE": "2048", "SAGE_KV_TYPE": "q8_0", "SAGE_THREADS": "3"}])
def test_the_settings_shown_are_those_of_a_run(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # On so many cores, another model than the bundled one would look at more frames.
    monkeypatch.setattr("sage_cli.model.devices.this_machine", lambda: Machine(32 * GIB, 0, 64, "a processor"))
    for name, value in {"SAGE_MODEL": "nano", **settings}.items():
        monkeypatch.setenv(name, value)
    setup = check_setup()
    with open_session() as session:
        info = session.model.info
        agent = session.agent(session.video(CLIPS / "short.mp4"))
    assert setup.fit
    assert setup.fit == session.plan
    assert setup.fit.frames == agent.settings.frames
    assert setup.fit.context == info.context_size
    assert setup.threads == (int(settings["SAGE_THREADS"]) if settings else compute_threads())


def test_settings_that_no_run_can_use_are_a_problem_of_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGE_MODEL", "nano")
    monkeypatch.setenv("SAGE_PROMPTS", str(tmp_path / "none"))
    setup = check_setup()
    assert setup.fit is None
    assert "none" in (setup.model_problem or "")
    assert setup.model_problem in advise(SYSTEM, setup, SPEEDS)


def test_this_machine_is_measured(sage: Sage, model: TinyModel, environment: dict[str, str]) -> None:
    models = Path(environment["SAGE_MODELS_DIR"])
    (models / "tiny").mkdir(parents=True)
    for path in model.text, model.mmproj:
        (models / "tiny" / path.name).symlink_to(path)
    write_whisper(models / "ggml-tiny.en.bin")
    environment["SAGE_THREADS"] = "1"
    done = sage("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    record = json.loads(done.stdout)
    assert record["model"] == str(models / "tiny" / model.text.name)
    measured = record["speeds"][-1]
    assert measured["name"] == model.text.stem
    assert measured["pair_tokens"] == pytest.approx(91, abs=10)  # as the reference sizes 720p
    assert min(measured[key] for key in ("load_s", "encode_s", "read_s", "prefill", "decode")) > 0
    assert record["speech_speed"] > 0
    assert record["speech_device"]
    assert record["decode_speed"] > 0
    text = sage("doctor", "--quick")
    assert text.returncode == 0
    assert record["model"] in text.stdout
    assert "frame pair" not in text.stdout


def test_a_cache_that_only_another_user_may_read_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sage_cli.store.cache.entries", refuse)
    assert check_system().cache_size is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no folder in which nobody may make another")
def test_a_cache_that_cannot_be_written_is_no_end(sage: Sage, environment: dict[str, str]) -> None:
    environment |= {"SAGE_CACHE_DIR": "/proc", "SAGE_THREADS": "1"}
    done = sage("doctor", "--json")
    assert (done.returncode, len(json.loads(done.stdout)["speeds"])) == (0, 1), done.stderr


def test_a_broken_model_is_no_end(sage: Sage, model: TinyModel, environment: dict[str, str]) -> None:
    from tests.models import write_truncated

    folder = Path(environment["SAGE_MODELS_DIR"]) / "broken"
    folder.mkdir(parents=True)
    write_truncated(model.text, folder / "broken.gguf")
    (folder / model.mmproj.name).symlink_to(model.mmproj)
    done = sage("doctor")
    assert done.returncode == 0, done.stderr
    assert "broken.gguf" in done.stdout
    assert "frames/s" in done.stdout


def test_a_served_model_is_no_missing_one(sage: Sage, environment: dict[str, str]) -> None:
    models = Path(environment["SAGE_MODELS_DIR"])
    models.mkdir(parents=True, exist_ok=True)
    write_whisper(models / "ggml-tiny.en.bin")
    environment["SAGE_MODEL"] = "http://user:secret@127.0.0.1:9/v1"
    record = json.loads(sage("doctor", "--quick", "--json").stdout)
    assert (record["model"], record["model_problem"], record["fit"]) == ("http://127.0.0.1:9/v1", None, None)
    assert record["served"]
    assert not [line for line in record["advice"] if "sage models pull" in line or "GPU" in line]
    done = sage("setup", "--yes")
    assert done.returncode == 0, done.stderr
    assert "questions: http://127.0.0.1:9/v1" in done.stderr


def test_an_encoder_given_by_name_is_used(sage: Sage, model: TinyModel, environment: dict[str, str], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / model.text.name).symlink_to(model.text)
    environment |= {"SAGE_MODEL": str(alone / model.text.name), "SAGE_MMPROJ": str(model.mmproj)}
    record = json.loads(sage("doctor", "--quick", "--json").stdout)
    assert (record["model"], record["model_problem"]) == (str(alone / model.text.name), None)
    assert record["fit"]["fits"]

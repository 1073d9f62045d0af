"""The checks of ``sage doctor``: what is installed, how fast it runs, and what to improve."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sage_cli.errors import SageError

if TYPE_CHECKING:
    from sage_cli.cli.measure import ModelSpeed
    from sage_cli.model.devices import Device
    from sage_cli.store.fit import Fit, Machine

PACKAGES = (
    "llama-cpp-python",
    "pywhispercpp",
    "av",
    "opencv-python-headless",
    "numpy",
    "huggingface-hub",
    "llguidance",
    "pydantic",
    "typer",
)
# Packages that overwrite files of opencv-python-headless.
CONFLICTING = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
LOW_DISK = 5_000_000_000  # bytes


@dataclass(frozen=True)
class System:
    """The machine and the installation.

    Attributes:
        packages: versions of the packages that matter, by name.
        hidden_gpu: vendor of a GPU that the system knows, whether or not llama.cpp can use it.
        load: average number of running processes in the last minute; 0 where the system does not tell.
        disks: folder and free bytes, by what is stored there.
    """

    sage: str
    python: str
    platform: str
    packages: dict[str, str]
    llama_build: str
    devices: tuple[Device, ...]
    machine: Machine
    hidden_gpu: str | None
    load: float
    cache_size: int
    cache_limit: int
    disks: dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Setup:
    """The models that a run would use, or the reason why it would fail.

    Attributes:
        fit: the settings that a run would choose for the model.
        timeout: seconds per question; ``None`` or 0 for no limit.
    """

    model: str | None = None
    model_problem: str | None = None
    fit: Fit | None = None
    speech_model: str | None = None
    speech_problem: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Speeds:
    """Measured speeds.

    Attributes:
        models: the bundled model, then the user's.
        speech: seconds of audio transcribed per second.
        decoding: frames of 1280x720 decoded per second.
        problems: what could not be measured, and why.
    """

    models: tuple[ModelSpeed, ...] = ()
    speech: float | None = None
    decoding: float | None = None
    codec: str | None = None
    problems: tuple[str, ...] = ()


# ---- looking -------------------------------------------------------------------------------------------------------


def check_system() -> System:
    from importlib.metadata import PackageNotFoundError, version

    from sage_cli.model.devices import build, devices, this_machine
    from sage_cli.session import load_options
    from sage_cli.store import cache_dir, models_dir
    from sage_cli.store.cache import entries
    from sage_cli.version import __version__

    packages = {}
    for name in (*PACKAGES, *CONFLICTING):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folders = {"cache": cache_dir(), "models": models_dir(), "hub cache": hub}
    return System(
        sage=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=packages,
        llama_build=build(),
        devices=tuple(devices()),
        machine=this_machine(),
        hidden_gpu=hidden_gpu(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        cache_size=sum(entry.size for entry in entries()),
        cache_limit=int(load_options().cache_limit),
        disks={name: (str(folder), _free(folder)) for name, folder in folders.items()},
    )


def check_setup(machine: Machine) -> Setup:
    from sage_cli.session import load_options
    from sage_cli.store import find_model, find_speech_model
    from sage_cli.store.fit import Needs, fit

    options = load_options()
    model = problem = fitted = speech = speech_problem = None
    try:
        files = find_model(options.model)
        model = str(files.text)
        fitted = fit(
            Needs.of(files),
            machine,
            frames=options.frames,
            context=options.ctx_size,
            kv_type=options.kv_type,
            gpu_layers=options.gpu_layers,
        )
    except SageError as error:
        problem = str(error)
    try:
        speech = find_speech_model(options.speech_model)
    except SageError as error:
        speech_problem = str(error)
    return Setup(model, problem, fitted, str(speech) if speech else None, speech_problem, options.timeout)
    return advice


def _on_speech(setup: Setup) -> list[str]:
    if setup.speech_problem:
        return []
    if setup.speech_model is None:
        return ["no speech model is installed, so speech is not transcribed: sage models pull whisper-base"]
    return []


def _on_machine(system: System, speeds: Speeds) -> list[str]:
    from rich.filesize import decimal

    advice = []
    for name, (folder, free) in system.disks.items():
        if free < LOW_DISK:
            variable = {"cache": "SAGE_CACHE_DIR", "models": "SAGE_MODELS_DIR"}.get(name, "HF_HOME")
            advice.append(f"only {decimal(free)} are free on the disk of {folder}: free some, or move the {name} with {variable}")
    if speeds.decoding and system.load > system.machine.cores:
        advice.append(f"the machine is busy (load {system.load:.0f} on {system.machine.cores} cores): it is faster than measured when idle")
    conflicting = [name for name in CONFLICTING if name in system.packages]
    if conflicting:
        advice.append(f"{conflicting[0]} overwrites files of opencv-python-headless: uninstall both, then install the latter")
    return advice


def _rebuild(system: System) -> str:
    """The command that compiles llama.cpp for this machine's GPU, in this environment."""
    from importlib.util import find_spec

    flag = {"NVIDIA": "-DGGML_CUDA=on", "AMD": "-DGGML_VULKAN=on", "Apple": "-DGGML_METAL=on"}[system.hidden_gpu or "Apple"]
    package = f"llama-cpp-python=={system.packages.get('llama-cpp-python', '0.3.36')}"
    if find_spec("pip"):
        install = f"{sys.executable} -m pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python {package}"
    else:
        install = f"uv pip install --python {sys.executable} --reinstall --no-deps --no-cache --no-binary llama-cpp-python {package}"
    needs = {"NVIDIA": " (needs the CUDA toolkit)", "AMD": " (needs the Vulkan SDK)"}.get(system.hidden_gpu or "", "")
    return f"CMAKE_ARGS={flag} {install}{needs}"

"""The checks of ``sage doctor``: what is installed, how fast it runs, and what to improve."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sage_cli.errors import LibraryError, SageError
from sage_cli.hardware.builds import Hardware, build_for, can_use, this_hardware
from sage_cli.session.option import size_text

if TYPE_CHECKING:
    from sage_cli.cli.measure import ModelSpeed
    from sage_cli.hardware.plan import Machine, MemoryPlan
    from sage_cli.model.devices import Device

LLAMA_CPP = "llama-cpp-python"
PACKAGES = (
    LLAMA_CPP,
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
_NO_SPEECH = "no speech model is installed, so speech is not transcribed: sage models pull whisper-base"
LOW_DISK = 5_000_000_000  # bytes


@dataclass(frozen=True)
class System:
    """The machine and the installation.

    Attributes:
        packages: versions of the packages that matter, by name.
        broken: libraries that cannot be loaded. If llama.cpp's devices are unknown because of one, its build is ``""``.
        hardware: as the system knows it.
        backends: the kinds of GPU that llama.cpp is built for; ``"CUDA"`` and such.
        hidden_gpu: vendor of a GPU that this build of llama.cpp cannot use.
        load: average number of running processes in the last minute; 0 if unknown.
        cache_size: bytes in the cache; ``None`` if it is another user's.
        disks: folder and free bytes, by what is stored there.
    """

    sage: str
    python: str
    platform: str
    packages: dict[str, str]
    broken: tuple[LibraryError, ...]
    llama_build: str
    backends: tuple[str, ...]
    devices: tuple[Device, ...]
    machine: Machine
    hardware: Hardware
    hidden_gpu: str | None
    load: float
    cache_size: int | None
    cache_limit: int
    disks: dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Setup:
    """The models that a run would use, or the reason why it would fail.

    Attributes:
        model: path of the language model, or address of a served one; ``None`` without a problem if none is installed.
        served: whether it is served.
        fit: the memory plan of a run with a local model.
        threads: that such a run computes with.
        timeout: seconds per question; ``None`` or 0 for no limit.
    """

    model: str | None = None
    served: bool = False
    model_problem: str | None = None
    fit: MemoryPlan | None = None
    threads: int | None = None
    speech_model: str | None = None
    speech_problem: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Speeds:
    """Measured speeds.

    Attributes:
        models: the bundled model, then the user's.
        speech: seconds of audio transcribed per second.
        speech_device: what the speech model runs on.
        decoding: frames of 1280x720 decoded per second.
        problems: what could not be measured, and why.
    """

    models: tuple[ModelSpeed, ...] = ()
    speech: float | None = None
    speech_device: str | None = None
    decoding: float | None = None
    codec: str | None = None
    problems: tuple[str, ...] = ()


# ---- looking -------------------------------------------------------------------------------------------------------


def check_system() -> System:
    from importlib.metadata import PackageNotFoundError, version

    from huggingface_hub.constants import HF_HUB_CACHE

    from sage_cli.hardware.memory import free_memory
    from sage_cli.hardware.plan import Machine
    from sage_cli.hardware.threads import cores
    from sage_cli.session import load_options
    from sage_cli.store import cache_dir, models_dir
    from sage_cli.store.cache import entries
    from sage_cli.version import __version__

    packages, hardware = {}, this_hardware()
    build, machine = "", Machine(free_memory(), 0, cores(), "CPU")
    found: tuple[Device, ...] = ()
    backends: tuple[str, ...] = ()
    size: int | None = None
    with suppress(PermissionError):
        size = sum(entry.size for entry in entries())
    with suppress(LibraryError):  # llama.cpp's, or another that our modules import with it
        from sage_cli.model import devices as llama

        build, found, machine = llama.build(), tuple(llama.devices()), llama.this_machine()
        backends = tuple(llama.gpu_backends())
    for name in (*PACKAGES, *CONFLICTING):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    folders = {"cache": cache_dir(), "models": models_dir(), "hub cache": Path(HF_HUB_CACHE)}
    return System(
        sage=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=packages,
        broken=_broken(),
        llama_build=build,
        backends=backends,
        devices=found,
        machine=machine,
        hardware=hardware,
        hidden_gpu=hardware.gpu if build and not (any(device.kind == "gpu" for device in found) or can_use(hardware, backends)) else None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        cache_size=size,
        cache_limit=int(load_options().cache_limit),
        disks={name: (str(folder), _free(folder)) for name, folder in folders.items()},
    )


def _broken() -> tuple[LibraryError, ...]:
    """The libraries that cannot be loaded."""
    from sage_cli.speech.whisper import binding

    modules = ("sage_cli.model.libraries", "sage_cli.model.constrain", "sage_cli.video")
    loads: list[Callable[[], object]] = [binding, *(partial(import_module, name) for name in modules)]
    found = {}
    for load in loads:
        try:
            load()
        except LibraryError as error:
            found[error.package] = error
    return tuple(found.values())


def check_setup() -> Setup:
    from sage_cli.session import load_options
    from sage_cli.session.models import Models
    from sage_cli.store import NotInstalledError

    options = load_options()
    models = Models(options)
    model = problem = fitted = threads = speech = speech_problem = None
    served = False
    try:
        if models.remote:
            served = True
            model = models.remote.shown
        else:
            model = str(models.files.text)
            _ = models.settings
            fitted, threads = models.plan, models.threads
    except LibraryError as error:
        problem = error.problem
    except SageError as error:
        none_named = isinstance(error, NotInstalledError) and error.name is None
        problem = None if none_named else str(error)
    try:
        speech = models.speech_file
    except SageError as error:
        speech_problem = str(error)
    return Setup(model, served, problem, fitted, threads, str(speech) if speech else None, speech_problem, options.timeout)


def _free(folder: Path) -> int:
    from sage_cli.cli.batch import exists

    existing = next(path for path in (folder, *folder.parents) if exists(str(path)))
    return shutil.disk_usage(existing).free


# ---- measuring -----------------------------------------------------------------------------------------------------


def measure(setup: Setup, say: Callable[[str], None]) -> Speeds:
    """Measure the bundled model, the user's models, and video decoding.

    Args:
        say: receives a line before each measurement.
    """
    from sage_cli.assets import NANO
    from sage_cli.cli.measure import measure_decoding, measure_model, measure_speech
    from sage_cli.session import Options, load_options
    from sage_cli.session.models import Models
    from sage_cli.store.scratch import scratch_folder

    options = load_options()
    models: list[ModelSpeed] = []
    problems: list[str] = []
    speech = device = decoding = codec = None
    bundled = Models(Options(model=NANO.name, threads=options.threads))
    for run in [bundled, *([Models(options)] if setup.fit and setup.model != str(NANO.text) else [])]:
        say(f"measuring {run.files.text.stem} ...")
        with _noting(problems):
            models.append(measure_model(run.files, run.plan, run.threads))
    whisper = Path(setup.speech_model or NANO.speech)
    say(f"measuring {whisper.stem} ...")
    with _noting(problems):
        speech, device = measure_speech(whisper, options.threads)
    say("measuring video decoding ...")
    with _noting(problems), scratch_folder() as folder:
        decoding, codec = measure_decoding(folder)
    return Speeds(tuple(models), speech, device, decoding, codec, tuple(problems))


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except LibraryError:  # told once, by the check of the system
        pass
    except SageError as problem:
        problems.append(str(problem))


# ---- advice --------------------------------------------------------------------------------------------------------


def advise(system: System, setup: Setup, speeds: Speeds) -> list[str]:
    """Advice, most useful first, one line each."""
    return [
        *(line for error in system.broken for line in _again(system, error)),
        *filter(None, [setup.speech_problem]),
        *([] if setup.served else _on_gpu(system)),
        *_on_model(system, setup, speeds),
        *([] if setup.speech_model or setup.speech_problem else [_NO_SPEECH]),
        *_on_machine(system, speeds),
    ]


def _on_gpu(system: System) -> list[str]:
    if not system.devices or any(device.kind == "gpu" for device in system.devices):
        return []
    if system.hidden_gpu:
        return _installs(system, f"this build of llama.cpp cannot use the {system.hidden_gpu} GPU")
    if system.backends:
        built = f"llama.cpp is built for {' and '.join(system.backends)}, but finds no such GPU"
        return [f"{built}: check the driver, and what may hide it (a container, CUDA_VISIBLE_DEVICES)"]
    return ["no GPU was found, so models run on the CPU: use a small model such as qwen3-vl-2b, and few --frames"]


def _on_model(system: System, setup: Setup, speeds: Speeds) -> list[str]:
    from sage_cli.cli.machine import recommended
    from sage_cli.hardware.plan import LEAST_CONTEXT

    advice, problem = [], setup.model_problem
    if problem not in [error.problem for error in system.broken]:  # of the library, it is said already
        if setup.model is None:
            instead = f"recommended for this machine: sage models pull {recommended(system.machine).name}"
            advice.append(f"{problem or 'no model is installed'}; {instead}")
        elif problem:
            advice.append(problem)
    advice += speeds.problems
    fit = setup.fit
    if fit is None:
        return advice
    if not fit.fits and fit.context > LEAST_CONTEXT:
        advice.append(f"the settings need more memory than is free: lower ctx-size ({fit.context}) or set kv-type q8_0")
    elif not fit.fits:
        smaller = recommended(system.machine).name
        advice.append(f"the model is too big for this machine: use a smaller quantization, or sage models pull {smaller}")
    elif fit.gpu_layers is not None and any(device.kind == "gpu" for device in system.devices):
        advice.append("the model exceeds the GPU's memory, so part of it runs on the CPU, slowly: use a smaller quantization or model")
    seconds = speeds.models[-1].first_look_s(fit.frames) if setup.model and speeds.models else 0.0
    if setup.timeout and seconds > setup.timeout / 2:
        fewer = max(8, int(fit.frames * setup.timeout / 4 / seconds) // 8 * 8)
        advice.append(
            f"a first answer takes about {seconds:.0f} s of the time limit of {setup.timeout:.0f} s: "
            f"sage config set frames {fewer}, or use a smaller model"
        )
    return advice


def _on_machine(system: System, speeds: Speeds) -> list[str]:
    advice = []
    if system.cache_size is None:
        advice.append(f"nothing is cached: {system.disks['cache'][0]} belongs to another user; set SAGE_CACHE_DIR")
    for name, (folder, free) in system.disks.items():
        if free < LOW_DISK:
            variable = {"cache": "SAGE_CACHE_DIR", "models": "SAGE_MODELS_DIR"}.get(name, "HF_HOME")
            advice.append(f"only {size_text(free)} are free on the disk of {folder}: free some, or move the {name} with {variable}")
    if speeds.decoding and system.load > system.machine.cores:
        advice.append(f"the machine is busy (load {system.load:.0f} on {system.machine.cores} cores): it is faster than measured when idle")
    conflicting = [name for name in CONFLICTING if name in system.packages]
    if conflicting:
        advice.append(f"{conflicting[0]} overwrites files of opencv-python-headless: uninstall both, then install the latter")
    return advice


def _again(system: System, error: LibraryError) -> list[str]:
    """How to get a library that can be loaded."""
    if error.variable or error.starved:
        return [str(error)]
    if error.package == LLAMA_CPP:
        advice = _installs(system, error.problem)
        if system.hardware.gpu in ("NVIDIA", "AMD"):  # whose libraries may be what is missing
            prebuilt, compiled = install_commands(system, replace(system.hardware, gpu=None))
            advice.append(f"if this machine lacks the GPU's libraries, use a build for the CPU: {prebuilt or compiled}")
        return advice
    install, _, uncached = _installer()
    return [f"{error.problem}; install what is missing, or the package again: {install} {uncached} {_pinned(system, error.package)}"]


def _installs(system: System, problem: str) -> list[str]:
    """How to get a llama.cpp for this machine into this environment."""
    prebuilt, compiled = install_commands(system, system.hardware)
    if not prebuilt:
        return [f"{problem}; compile one that can: {compiled}"]
    return [f"{problem}; install a prebuilt one that can: {prebuilt}", f"if there is no such wheel, compile it: {compiled}"]


def install_commands(system: System, hardware: Hardware) -> tuple[str, str]:
    """The commands that install a wheel of llama.cpp, ``""`` if there is none, and that compile it."""
    build, package = build_for(hardware), _pinned(system, LLAMA_CPP)
    install, index, uncached = _installer()
    flags = f"CMAKE_ARGS={build.flag} " if build.flag else ""
    needs = f" (needs {build.needs})" if build.needs else ""
    prebuilt = f"{install} --only-binary {LLAMA_CPP} {index} {build.index} {package}" if build.index else ""
    return prebuilt, f"{flags}{install} {uncached} --no-binary {LLAMA_CPP} {package}{needs}"


def _installer() -> tuple[str, str, str]:
    """The command that installs packages here again, and its options for an index and for no cache."""
    from importlib.util import find_spec

    python = shlex.quote(sys.executable)
    if find_spec("pip"):
        return f"{python} -m pip install --force-reinstall --no-deps", "--index-url", "--no-cache-dir"
    return f"uv pip install --python {python} --reinstall --no-deps", "--default-index", "--no-cache"


def _pinned(system: System, package: str) -> str:
    return f"{package}=={system.packages[package]}" if package in system.packages else package

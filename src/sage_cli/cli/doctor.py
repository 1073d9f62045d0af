"""``sage doctor``: what is here, how fast it is, and what would make it better."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage_cli.cli import console
from sage_cli.errors import SageError

if TYPE_CHECKING:
    from sage_cli.cli.measure import ModelSpeed
    from sage_cli.model.devices import Device
    from sage_cli.store.fit import Fit, Machine

EXAMPLES = """[bold]Examples[/]
  sage doctor
  sage doctor --quick --json | jq .advice"""

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
RIVALS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")  # of opencv-python-headless: the same files
LITTLE_DISK = 5_000_000_000


@dataclass
class Findings:
    """Everything that was found out."""

    sage: str
    python: str
    platform: str
    packages: dict[str, str]
    llama_build: str
    devices: list[Device]
    machine: Machine
    hidden_gpu: str | None
    load: float = 0.0
    model: str | None = None
    model_problem: str | None = None
    fit: Fit | None = None
    speech_model: str | None = None
    speeds: list[ModelSpeed] = field(default_factory=list)
    speech_speed: float | None = None
    decode_speed: float | None = None
    decode_codec: str | None = None
    disks: dict[str, tuple[str, int]] = field(default_factory=dict)
    cache_size: int = 0
    cache_limit: int = 0
    timeout: float = 300.0
    advice: list[str] = field(default_factory=list)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Measure nothing: look only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Library logs too.")] = False,
) -> int:
    """Check the installation, measure its speed, and say what to improve.

    Looks at versions, devices, models, memory and disks, then measures for less than a minute: the models that are installed, the speech
    model, and video decoding. No connection is made.
    """
    console.log(verbose=verbose, debug=False)
    findings = look()
    if not quick:
        measure(findings, tell=None if json or not sys.stderr.isatty() else console.say)
    findings.advice = advise(findings)
    console.write(console.dumps(_plain(findings)) if json else console.neutral("\n".join(_report(findings))))
    return 0


def build_details() -> list[str]:
    """For ``--version``: the interpreter, and the libraries that do the work."""
    from importlib.metadata import version

    from sage_cli.model.devices import devices

    usable = ", ".join(f"{device.name} ({device.description})" for device in devices() if device.kind != "accelerator")
    return [
        f"python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"llama.cpp of llama-cpp-python {version('llama-cpp-python')}: {usable}",
        f"whisper.cpp of pywhispercpp {version('pywhispercpp')}, FFmpeg of av {version('av')}",
    ]


# ---- looking -------------------------------------------------------------------------------------------------------


def look() -> Findings:
    """All that can be told without work."""
    from importlib.metadata import PackageNotFoundError, version

    from sage_cli.model.devices import build, devices, this_machine
    from sage_cli.store import cache_dir, config, find_model, find_speech_model, models_dir
    from sage_cli.store.cache import entries
    from sage_cli.store.fit import Needs, fit
    from sage_cli.version import __version__

    packages = {}
    for name in (*PACKAGES, *RIVALS):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    machine, settings = this_machine(), config.current()
    found = Findings(
        sage=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages=packages,
        llama_build=build(),
        devices=devices(),
        machine=machine,
        hidden_gpu=hidden_gpu(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        cache_size=sum(entry.size for entry in entries()),
        cache_limit=int(settings.cache_limit),
        timeout=settings.timeout,
    )
    try:
        files = find_model(settings.model)
        given = {"frames": settings.frames, "context": settings.ctx_size, "kv_type": settings.kv_type, "gpu_layers": settings.gpu_layers}
        found.model, found.fit = str(files.text), fit(Needs.of(files), machine, **given)  # type: ignore[arg-type]
    except SageError as problem:
        found.model_problem = str(problem)
    try:
        speech = find_speech_model(settings.speech_model)
        found.speech_model = str(speech) if speech else None
    except SageError as problem:
        found.advice.append(str(problem))
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    for name, folder in ("cache", cache_dir()), ("models", models_dir()), ("hub cache", hub):
        found.disks[name] = str(folder), _free(folder)
    return found


def hidden_gpu(root: Path = Path("/")) -> str | None:
    """The maker of a GPU that the system knows, whatever llama.cpp was built for: ``"NVIDIA"``, ``"AMD"`` or ``"Apple"``."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "Apple"
    if any((root / place).exists() for place in ("proc/driver/nvidia/version", "dev/nvidiactl")):
        return "NVIDIA"
    return "AMD" if (root / "dev/kfd").exists() else None


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


# ---- measuring -----------------------------------------------------------------------------------------------------


def measure(found: Findings, tell: Any = None) -> None:
    """Measure what is there. What fails becomes advice, not an end."""
    import tempfile

    from sage_cli.assets import NANO
    from sage_cli.cli.measure import measure_decoding, measure_model, measure_speech
    from sage_cli.store import config, find_model
    from sage_cli.store.fit import Needs, fit

    threads = config.current().threads
    tell = tell or (lambda _text: None)
    models = [find_model(NANO.name)]
    if found.model:
        models.append(find_model(found.model))
    for files in models:
        tell(f"measuring {files.text.stem} ...")
        try:
            chosen = found.fit if found.fit and str(files.text) == found.model else fit(Needs.of(files), found.machine)
            found.speeds.append(measure_model(files, chosen, threads))
        except SageError as problem:
            found.model_problem = found.model_problem or str(problem)
    speech = found.speech_model or str(NANO.speech)
    tell(f"measuring {Path(speech).stem} ...")
    try:
        found.speech_speed = measure_speech(Path(speech), threads)
    except SageError as problem:
        found.advice.append(str(problem))
    tell("measuring video decoding ...")
    with tempfile.TemporaryDirectory(prefix="sage-") as folder:
        found.decode_speed, found.decode_codec = measure_decoding(Path(folder))


# ---- advice --------------------------------------------------------------------------------------------------------


def advise(found: Findings) -> list[str]:
    """What to do, the most useful first, each in one line."""
    from sage_cli.cli.machine import recommended

    advice = list(found.advice)
    gpu = any(device.kind == "gpu" for device in found.devices)
    if not gpu and found.hidden_gpu:
        advice.append(
            f"llama.cpp was built without support for the {found.hidden_gpu} GPU of this machine; build it anew: {_rebuild(found)}"
        )
    if found.model is None:
        best = recommended(found.machine).name
        start = "no model is installed" if "no model:" in (found.model_problem or "") else found.model_problem or "there is no model"
        advice.append(f"{start}; the one that fits this machine: sage models pull {best}")
    elif found.model_problem:
        advice.append(found.model_problem)
    if found.fit and not found.fit.fits:
        smaller = recommended(found.machine).name
        if found.fit.context > 4096:
            advice.append(f"the settings ask for more memory than there is: lower ctx-size ({found.fit.context}) or set kv-type q8_0")
        else:
            advice.append(f"the model is too big for this machine: use a smaller quantization, or sage models pull {smaller}")
    elif found.fit and found.fit.gpu_layers is not None and gpu:
        advice.append("the model is larger than the GPU's memory, so a part runs on the CPU, slowly: use a smaller quantization or model")
    slow = next((speed for speed in found.speeds[-1:] if found.fit and found.model), None)
    if slow and found.fit and found.timeout and (seconds := slow.first_look_s(found.fit.frames)) > found.timeout / 2:
        fewer = max(8, int(found.fit.frames * found.timeout / 4 / seconds) // 8 * 8)
        advice.append(
            f"a first answer takes about {seconds:.0f} s of the {found.timeout:.0f} s a question may take: "
            f"sage config set frames {fewer}, or a smaller model"
        )
    if not gpu and not found.hidden_gpu:
        advice.append(
            "there is no GPU that llama.cpp could use: models run on the CPU; the smallest, qwen3-vl-2b, and few --frames suit it"
        )
    if found.speech_model is None:
        advice.append("no speech model is installed, so speech is not heard: sage models pull whisper-base")
    for name, (folder, free) in found.disks.items():
        if free < LITTLE_DISK:
            variable = {"cache": "SAGE_CACHE_DIR", "models": "SAGE_MODELS_DIR"}.get(name, "HF_HOME")
            advice.append(f"the disk of {folder} has {free / 1e9:.1f} GB left: make room, or move the {name} with {variable}")
    if found.decode_speed and found.load > found.machine.cores:
        advice.append(f"the machine is busy (load {found.load:.0f} on {found.machine.cores} cores): idle, it is faster than measured here")
    rivals = [name for name in RIVALS if name in found.packages]
    if rivals:
        advice.append(f"{rivals[0]} overwrites opencv-python-headless, and either may break: uninstall both, then install the latter")
    return advice


def _rebuild(found: Findings) -> str:
    """The command that compiles llama.cpp for this machine's GPU, in this very environment."""
    from importlib.util import find_spec

    flag = {"NVIDIA": "-DGGML_CUDA=on", "AMD": "-DGGML_VULKAN=on", "Apple": "-DGGML_METAL=on"}[found.hidden_gpu or "Apple"]
    package = f"llama-cpp-python=={found.packages.get('llama-cpp-python', '0.3.36')}"
    if find_spec("pip"):
        install = f"{sys.executable} -m pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python {package}"
    else:
        install = f"uv pip install --python {sys.executable} --reinstall --no-deps --no-cache --no-binary llama-cpp-python {package}"
    needs = {"NVIDIA": " (needs the CUDA toolkit)", "AMD": " (needs the Vulkan SDK)"}.get(found.hidden_gpu or "", "")
    return f"CMAKE_ARGS={flag} {install}{needs}"


# ---- telling -------------------------------------------------------------------------------------------------------


def _report(found: Findings) -> list[str]:
    lines = [
        ("sage", f"{found.sage}, Python {found.python}, {found.platform}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in found.packages.items())),
        ("llama.cpp", found.llama_build),
        *[("device", _device(device)) for device in found.devices],
        ("memory", f"{found.machine.memory / 2**30:.1f} GiB free, {found.machine.cores} cores"),
        ("model", found.model or found.model_problem or "none"),
        *([("fit", found.fit.text)] if found.fit else []),
        ("speech model", found.speech_model or "none"),
    ]
    for speed in found.speeds:
        lines.append(
            (
                speed.name,
                f"on {speed.device}, vision on {speed.vision_device}: loads in {speed.load_s:.1f} s, encodes a frame pair in "
                f"{speed.encode_s * 1000:.0f} ms, reads {speed.prefill:.0f} tokens/s, writes {speed.decode:.1f} tokens/s",
            )
        )
    if found.speech_speed:
        lines.append(("speech", f"{found.speech_speed:.1f} times as fast as it is spoken"))
    if found.decode_speed:
        lines.append(("video", f"{found.decode_speed:.0f} frames/s of {found.decode_codec} at 1280x720"))
    lines.append(("cache", f"{found.cache_size / 2**20:.0f} MiB of {found.cache_limit / 2**30:.1f} GiB"))
    lines += [(f"{name} disk", f"{free / 1e9:.0f} GB free ({folder})") for name, (folder, free) in found.disks.items()]
    width = max(len(name) for name, _ in lines)
    text = [f"{name:<{width}}  {value}" for name, value in lines]
    return [*text, "", *(f"- {line}" for line in found.advice or ["all is well"])]


def _device(device: Device) -> str:
    memory = f", {device.free / 2**30:.1f} of {device.total / 2**30:.1f} GiB free" if device.total and device.kind == "gpu" else ""
    return f"{device.name}: {device.description}{memory}"


def _plain(found: Findings) -> dict[str, Any]:
    """As JSON has it."""
    record = asdict(found)
    record["disks"] = {name: {"path": path, "free": free} for name, (path, free) in found.disks.items()}
    if found.fit:
        record["fit"] = {key: value for key, value in record["fit"].items() if key != "machine"}
        speeds: Sequence[ModelSpeed] = found.speeds
        record["first_look_s"] = speeds[-1].first_look_s(found.fit.frames) if speeds else None
    return record

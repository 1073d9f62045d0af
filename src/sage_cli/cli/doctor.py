"""``sage doctor``: check the installation, measure its speed, advise."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage_cli.cli import console
from sage_cli.errors import LibraryError
from sage_cli.session.option import size_text

if TYPE_CHECKING:
    from sage_cli.cli.checks import Setup, Speeds, System

EXAMPLES = """[bold]Examples[/]
  sage doctor
  sage doctor --quick --json | jq .advice"""


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Skip speed measurements.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show library logs.")] = False,
) -> int:
    """Check the installation, measure its speed, and advise.

    Checks versions, devices, models, memory and disks, then measures the installed models and video decoding for less than a minute.
    Makes no connections.
    """
    from sage_cli.cli.checks import Speeds, advise, check_setup, check_system, measure

    system = check_system()
    setup = check_setup()
    silent = json or not sys.stderr.isatty()
    speeds = Speeds() if quick else measure(setup, (lambda _line: None) if silent else console.say)
    advice = advise(system, setup, speeds)
    if json:
        console.write(console.dumps(_record(system, setup, speeds, advice)))
        return 0
    from sage_cli.cli.tables import facts, points

    facts(_rows(system, setup, speeds))
    console.write("")
    points(advice or ["no problems found"])
    return 0


def build_details() -> list[str]:
    """For ``--version``: the interpreter, and the libraries that do the work."""
    from importlib.metadata import version

    try:
        from sage_cli.model.devices import devices

        usable = ", ".join(f"{device.name} ({device.description})" for device in devices() if device.kind != "accelerator")
    except LibraryError as error:
        usable = error.problem
    return [
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"llama.cpp from llama-cpp-python {version('llama-cpp-python')}: {usable}",
        f"whisper.cpp from pywhispercpp {version('pywhispercpp')}, FFmpeg from av {version('av')}",
    ]


def _rows(system: System, setup: Setup, speeds: Speeds) -> list[tuple[str, str]]:
    from sage_cli.cli.checks import install_commands

    rows = [
        ("sage", f"{system.sage}, Python {system.python}, {system.platform}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in system.packages.items())),
        ("llama.cpp", system.llama_build or "unknown: a library cannot be loaded"),
        ("prebuilt", install_commands(system, system.hardware)[0] or "none for this machine: llama.cpp has to be compiled"),
    ]
    for device in system.devices:
        memory = f", {size_text(device.free)} of {size_text(device.total)} free" if device.total and device.kind == "gpu" else ""
        rows.append(("device", f"{device.name}: {device.description}{memory}"))
    rows += [
        ("memory", f"{size_text(system.machine.memory)} free, {system.machine.cores} cores"),
        ("model", setup.model or setup.model_problem or "none"),
        *([("settings", f"{setup.threads} CPU threads, {setup.fit.text}")] if setup.fit else []),
        ("speech model", setup.speech_model or "none"),
    ]
    for speed in speeds.models:
        place = f"on {speed.device}, vision encoder on {speed.vision_device}"
        encode = f"encodes a frame pair in {speed.encode_s * 1000:.0f} ms"
        if speed.read_s:
            worth = "" if speed.stored else ", so it is not cached"
            encode += f" (from the cache in {speed.read_s * 1000:.1f} ms{worth})"
        tokens = f"reads {speed.prefill:.0f} and writes {speed.decode:.1f} tokens/s"
        rows.append((speed.name, f"{place}: loads in {speed.load_s:.1f} s, {encode}, {tokens}"))
    if speeds.speech:
        rows.append(("speech", f"on {speeds.speech_device}: transcribes at {speeds.speech:.1f} times real time"))
    if speeds.decoding:
        rows.append(("video", f"decodes {speeds.decoding:.0f} frames/s of {speeds.codec} at 1280x720"))
    if system.cache_size is not None:
        rows.append(("cache", f"{size_text(system.cache_size)} of at most {size_text(system.cache_limit)}"))
    return [*rows, *((f"{name} disk", f"{size_text(free)} free ({folder})") for name, (folder, free) in system.disks.items())]


def _record(system: System, setup: Setup, speeds: Speeds, advice: list[str]) -> dict[str, Any]:
    """The report as one flat JSON object."""
    from sage_cli.hardware.builds import build_for

    record = {**asdict(system), **asdict(setup)}
    record["broken"] = {error.package: error.problem for error in system.broken}
    record["wheel_index"] = build_for(system.hardware).index or None
    record["disks"] = {name: {"path": path, "free": free} for name, (path, free) in system.disks.items()}
    record |= {"speeds": [asdict(speed) for speed in speeds.models], "speech_speed": speeds.speech, "speech_device": speeds.speech_device}
    record |= {"decode_speed": speeds.decoding, "decode_codec": speeds.codec, "problems": list(speeds.problems)}
    if setup.fit:
        record["fit"] = {key: value for key, value in record["fit"].items() if key != "machine"}
        record["first_look_s"] = speeds.models[-1].first_look_s(setup.fit.frames) if speeds.models else None
    return record | {"advice": advice}

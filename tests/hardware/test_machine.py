"""This machine, and others described by their system files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sage_cli.hardware import memory, threads
from sage_cli.hardware.memory import free_memory
from sage_cli.hardware.openmp import bound_spinning
from sage_cli.hardware.threads import compute_threads, cores


def test_this_machine() -> None:
    assert 100 << 20 < free_memory() < 1 << 50
    assert 1 <= compute_threads() <= cores() <= 4096


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def siblings(*groups: str) -> dict[str, str]:
    """Files of processors, told by those that share a core."""
    files = {}
    for group in groups:
        first, _, last = group.partition("-")
        for number in range(int(first), int(last or first) + 1):
            files[f"system/cpu/cpu{number}/topology/thread_siblings_list"] = group
    return files


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
@pytest.mark.parametrize(
    ("bound", "files", "full"),
    [
        (range(8), siblings(*[f"{n}-{n + 1}" for n in range(0, 8, 2)]), 4),  # two threads a core
        (range(8), siblings(*[str(n) for n in range(8)]), 8),
        ((0, 1, 4), siblings(*[f"{n}-{n + 1}" for n in range(0, 8, 2)]), 2),  # bound to some of them
        (range(12), {**siblings("0-1", "2-3", *[str(n) for n in range(4, 12)]), "cpu_core/cpus": "0-3"}, 2),  # a hybrid: 2 fast, 8 slow
        (range(16), {}, 8),  # unknown
    ],
)
def test_full_cores_are_counted_once(
    bound: range | tuple[int, ...], files: dict[str, str], full: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: set(bound))
    assert threads._full_cores(write(tmp_path, files)) == full


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"cpu.max": "250000 100000"}, 2.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_container_grants_a_share_of_the_processors(files: dict[str, str], share: float | None, tmp_path: Path) -> None:
    assert threads._group_share(write(tmp_path, files), tmp_path / "none") == share


def test_the_smallest_limit_of_nested_groups_holds(tmp_path: Path) -> None:
    """As of a systemd unit in a slice, and of a batch job under version 1."""
    current = {"memory.current": "1000", "memory.stat": "inactive_file 300\nactive_file 200"}
    unit = {f"app.slice/rün.service/{name}": text for name, text in {"memory.max": "5000", "cpu.max": "300000 100000", **current}.items()}
    part = {f"app.slice/{name}": text for name, text in {"memory.max": "max", "cpu.max": "150000 100000", **current}.items()}
    root = write(tmp_path, {**unit, **part})
    own = tmp_path / "own"
    own.write_text("0::/app.slice/rün.service\n", encoding="utf-8")
    assert memory._group_memory(root, own) == 5000 - 1000 + 500
    assert threads._group_share(root, own) == 1.5
    old = {"memory.limit_in_bytes": "4000", "memory.usage_in_bytes": "100", "memory.stat": "inactive_file 0"}
    job = write(tmp_path / "v1", {f"memory/slurm/job_7/{name}": text for name, text in old.items()})
    own.write_text("9:cpuset:/\n4:memory:/slurm/job_7/step_0\n")  # the innermost may not be visible from here
    assert memory._group_memory(job, own) == 3900
    own.write_text("0::/../elsewhere\n")
    assert memory._group_memory(root, own) == memory._UNLIMITED


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not limited so")
def test_a_limit_on_the_address_space_is_a_limit_of_memory() -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); from sage_cli.hardware.memory import free_memory; "
    told = subprocess.run([sys.executable, "-c", f"{code}print(free_memory())"], check=True, capture_output=True, text=True)
    assert 0 < int(told.stdout) < 2 << 30


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_the_users_way_of_waiting_wins(name: str) -> None:
    environment = {name: "what the user wants"}
    bound_spinning(environment, "linux")
    assert environment == {name: "what the user wants"}


def test_macos_is_left_alone() -> None:
    environment: dict[str, str] = {}
    bound_spinning(environment, "darwin")
    assert environment == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("module", ["sage_cli", "sage_cli.model.llama", "sage_cli.speech.whisper", "sage_cli.bench.pool", "sage_cli.cli"])
def test_spinning_is_bounded_before_a_library_computes(module: str) -> None:
    """The variable is set, and no OpenMP was loaded before it was."""
    code = """
import os, sys
loaded = []
before = os.environ.__class__.__setitem__
def note(self, key, value):
    if key == "GOMP_SPINCOUNT":
        loaded.append("gomp" in open("/proc/self/maps").read())
    before(self, key, value)
os.environ.__class__.__setitem__ = note
__import__(sys.argv[1])
print(loaded, os.environ.get("GOMP_SPINCOUNT"))
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    told = subprocess.run([sys.executable, "-c", code, module], check=True, capture_output=True, text=True, env=environment)
    bounded: dict[str, str] = {}
    bound_spinning(bounded, "linux")
    assert told.stdout.split() == ["[False]", bounded["GOMP_SPINCOUNT"]]

"""The selected build for machines of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.hardware.builds import INDEXES, Hardware, build_for, can_use, this_hardware

PC = "flags\t\t: fpu sse4_2 avx avx2 fma f16c\n"
OLD_PC = "flags\t\t: fpu sse4_2 avx\n"
ARM = "Features\t: fp asimd\n"
NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Feb  4 00:00:00 UTC 2025\nGCC version:  gcc version 12.2.0\n"
NVRM_OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"


@pytest.mark.parametrize(
    ("system", "processor", "files", "index", "flag"),
    [
        ("Linux", "x86_64", {"proc/cpuinfo": PC}, "cpu", ""),
        ("Linux", "x86_64", {"proc/cpuinfo": OLD_PC}, None, ""),  # the wheels would die of an illegal instruction
        ("Linux", "aarch64", {"proc/cpuinfo": ARM}, "cpu", ""),
        ("Linux", "ppc64le", {}, None, ""),
        ("Windows", "AMD64", {}, "cpu", ""),
        ("Darwin", "arm64", {}, "metal", "-DGGML_METAL=on"),
        ("Darwin", "x86_64", {}, "cpu", ""),
        ("Linux", "x86_64", {"proc/cpuinfo": PC, "proc/driver/nvidia/version": NVRM.format("595.10")}, "cu132", "-DGGML_CUDA=on"),
        ("Linux", "x86_64", {"proc/driver/nvidia/version": NVRM_OPEN}, "cu130", "-DGGML_CUDA=on"),
        ("Linux", "x86_64", {"proc/driver/nvidia/version": NVRM.format("550.144.03")}, "cu124", "-DGGML_CUDA=on"),
        ("Linux", "x86_64", {"proc/driver/nvidia/version": NVRM.format("470.256.02")}, "cu118", "-DGGML_CUDA=on"),
        ("Linux", "x86_64", {"usr/lib/wsl/lib/libcuda.so.1": ""}, "cu124", "-DGGML_CUDA=on"),  # WSL
        ("Linux", "x86_64", {"dev/nvidiactl": ""}, "cu124", "-DGGML_CUDA=on"),  # a container
        ("Linux", "aarch64", {"proc/driver/nvidia/version": NVRM.format("580.65.06")}, None, "-DGGML_CUDA=on"),
        ("Windows", "AMD64", {"Windows/System32/nvcuda.dll": ""}, "cu124", "-DGGML_CUDA=on"),
        ("Linux", "x86_64", {"dev/kfd": ""}, "vulkan", "-DGGML_VULKAN=on"),
        ("Linux", "x86_64", {"sys/class/drm/card1/device/vendor": "0x1002\n"}, "vulkan", "-DGGML_VULKAN=on"),
        ("Linux", "x86_64", {"proc/cpuinfo": PC, "sys/class/drm/card0/device/vendor": "0x8086\n"}, "cpu", ""),  # slower than its processor
    ],
)
def test_the_build_for_a_machine(
    system: str,
    processor: str,
    files: dict[str, str],
    index: str | None,
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build = build_for(this_hardware(tmp_path))
    assert build.index == (INDEXES + index if index else "")
    assert build.flag == flag


def test_builds_that_can_use_a_gpu() -> None:
    nvidia, amd = (Hardware("Linux", "x86_64", vendor) for vendor in ("NVIDIA", "AMD"))
    assert can_use(nvidia, ["CUDA"])
    assert can_use(amd, ["Vulkan"])
    assert not can_use(amd, ["CUDA"])
    assert not can_use(nvidia, [])
    assert not can_use(Hardware("Linux", "x86_64"), ["Vulkan"])

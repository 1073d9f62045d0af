"""Selects the build of llama.cpp for this machine: the index of a prebuilt wheel of llama-cpp-python, and the flag to compile it with.

The indexes and what their wheels need follow the build scripts in llama-cpp-python 0.3.36's source archive (.github/workflows).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sage_cli.hardware import cgroups

Vendor: TypeAlias = Literal["NVIDIA", "AMD", "Apple"]

INDEXES: Final = "https://abetlen.github.io/llama-cpp-python/whl/"

# First branch of NVIDIA's driver that runs a CUDA version, newest first.
_CUDA: Final = (
    (595, "cu132"),
    (580, "cu130"),
    (555, "cu125"),
    (550, "cu124"),
    (545, "cu123"),
    (535, "cu122"),
    (525, "cu121"),
    (450, "cu118"),
)
_NOT_ON_WINDOWS: Final = ("cu121", "cu122", "cu123")
_PC: Final = ("x86_64", "amd64")
_ARM: Final = ("arm64", "aarch64")
_BACKENDS: Final[dict[Vendor, tuple[str, ...]]] = {
    "NVIDIA": ("CUDA", "Vulkan"),
    "AMD": ("ROCm", "Vulkan"),
    "Apple": ("MTL",),
}  # as ggml names them
_AMD: Final = "0x1002"  # the PCI vendor


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processor and GPU according to the system, independent of the build of llama.cpp.

    Attributes:
        system: ``"Linux"``, ``"Darwin"`` or ``"Windows"``.
        processor: its architecture, in lower case.
        gpu: vendor of the GPU to use; ``None`` if a build for the CPU is best.
        driver: branch of NVIDIA's driver, such as 580; 0 if unknown.
        rocm: whether AMD's compute driver is loaded.
        avx2: whether the processor has AVX2 and FMA; true if unknown.
    """

    system: str
    processor: str
    gpu: Vendor | None = None
    driver: int = 0
    rocm: bool = False
    avx2: bool = True


@dataclass(frozen=True, slots=True)
class Build:
    """A build of llama.cpp.

    Attributes:
        index: address of an index with wheels for it; ``""`` if there are none.
        flag: of CMake, to compile it; ``""`` for a build for the CPU.
        needs: requirements for compiling, besides a C++ compiler.
    """

    index: str
    flag: str = ""
    needs: str = ""


def this_hardware(root: Path = Path("/")) -> Hardware:
    """The hardware of the machine whose file system starts at ``root``."""
    system, processor = platform.system(), platform.machine().lower()
    flags = re.search(r"^flags\s*:(.*)$", cgroups.read(root / "proc/cpuinfo"), re.MULTILINE)
    avx2 = flags is None or {"avx2", "fma"} <= set(flags[1].split())
    if system == "Darwin":
        return Hardware(system, processor, "Apple" if processor in _ARM else None)
    version = re.search(r"\b(\d{3})\.\d+", cgroups.read(root / "proc/driver/nvidia/version"))
    # Under WSL and Windows the driver has other files.
    nvidia = ("dev/nvidiactl", "usr/lib/wsl/lib/libcuda.so.1", "Windows/System32/nvcuda.dll")
    if version or any((root / place).exists() for place in nvidia):
        return Hardware(system, processor, "NVIDIA", int(version[1]) if version else 0, avx2=avx2)
    rocm = (root / "dev/kfd").exists()
    if rocm or any(cgroups.read(path) == _AMD for path in (root / "sys/class/drm").glob("card*/device/vendor")):
        return Hardware(system, processor, "AMD", rocm=rocm, avx2=avx2)
    return Hardware(system, processor, avx2=avx2)


def build_for(hardware: Hardware) -> Build:
    """The fastest build of llama.cpp for the hardware."""
    pc = hardware.processor in _PC
    if hardware.gpu == "Apple":
        return Build(INDEXES + "metal", "-DGGML_METAL=on")
    if hardware.gpu == "NVIDIA":
        return Build(INDEXES + _cuda(hardware) if pc else "", "-DGGML_CUDA=on", "the CUDA toolkit")
    if hardware.gpu == "AMD":
        # Vulkan only needs the driver; the ROCm wheel needs ROCm 7.2.
        return Build(INDEXES + "vulkan" if pc else "", "-DGGML_VULKAN=on", "the Vulkan SDK")
    prebuilt = hardware.avx2 and hardware.processor in (*_PC, *_ARM)
    return Build(INDEXES + "cpu" if prebuilt else "")


def can_use(hardware: Hardware, backends: Collection[str]) -> bool:
    """Whether a llama.cpp with these backends (:func:`sage_cli.model.devices.gpu_backends`) is built for the GPU of the hardware."""
    return hardware.gpu is not None and not set(_BACKENDS[hardware.gpu]).isdisjoint(backends)


def _cuda(hardware: Hardware) -> str:
    """The index of the newest CUDA version that the driver supports; a widely supported one if unknown."""
    names = [name for least, name in _CUDA if hardware.driver >= least] or ["cu124"]
    return next(name for name in names if hardware.system != "Windows" or name not in _NOT_ON_WINDOWS)

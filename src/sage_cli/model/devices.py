"""The devices llama.cpp can use, from ggml's device registry, which llama-cpp-python does not bind."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final, Literal

from sage_cli.hardware.memory import free_memory
from sage_cli.hardware.plan import Machine
from sage_cli.hardware.threads import cores
from sage_cli.model.libraries import llama
from sage_cli.model.native import route_logs

_KINDS: Final[dict[int, Literal["cpu", "gpu", "accelerator"]]] = {0: "cpu", 1: "gpu", 2: "gpu", 3: "accelerator"}  # ggml_backend_dev_type
_OTHERS: Final = ("CPU", "BLAS", "RPC", "ZenDNN", "zDNN", "HTP")  # backends that need no GPU of this machine


@dataclass(frozen=True, slots=True)
class Device:
    """A device.

    Attributes:
        name: llama.cpp's name, such as ``"CUDA0"``.
        description: the vendor's name for it.
        free, total: bytes of its memory; 0 if unknown.
    """

    name: str
    description: str
    kind: Literal["cpu", "gpu", "accelerator"]
    free: int
    total: int


def devices() -> list[Device]:
    """All devices of this build of llama.cpp on this machine."""
    route_logs()
    llama.llama_backend_init()
    lib = llama._lib
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.restype = ctypes.c_void_p
    lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for function in lib.ggml_backend_dev_name, lib.ggml_backend_dev_description:
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    found = []
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name, description = lib.ggml_backend_dev_name(device).decode(), lib.ggml_backend_dev_description(device).decode(errors="replace")
        found.append(Device(name, description, _KINDS.get(lib.ggml_backend_dev_type(device), "accelerator"), free.value, total.value))
    return found


def gpu_backends() -> list[str]:
    """The kinds of GPU that this build of llama.cpp is made for, such as ``"CUDA"`` or ``"Vulkan"``, whether there is one or not."""
    route_logs()
    lib = llama._lib
    lib.ggml_backend_reg_count.restype = ctypes.c_size_t
    lib.ggml_backend_reg_get.restype = ctypes.c_void_p
    lib.ggml_backend_reg_get.argtypes = [ctypes.c_size_t]
    lib.ggml_backend_reg_name.restype = ctypes.c_char_p
    lib.ggml_backend_reg_name.argtypes = [ctypes.c_void_p]
    names = [lib.ggml_backend_reg_name(lib.ggml_backend_reg_get(index)).decode() for index in range(lib.ggml_backend_reg_count())]
    return [name for name in names if name not in _OTHERS]


def this_machine() -> Machine:
    """Memory, cores, and the largest GPU that this build of llama.cpp can use."""
    found = devices()
    gpus = [device for device in found if device.kind == "gpu"]
    best = max(gpus, key=lambda device: device.free, default=None)
    name = next((device.description for device in found if device.kind == "cpu"), "CPU") if best is None else best.description
    return Machine(free_memory(), best.free if best else 0, cores(), name)


def build() -> str:
    """llama.cpp's own description of its build."""
    route_logs()
    return " ".join(llama.llama_print_system_info().decode().replace(" = 1", "").replace("|", " ").split())

"""Main memory: how much is available to a model, and how the allocator of glibc keeps it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil
from rich.filesize import decimal

from sage_cli.errors import ModelError
from sage_cli.hardware import cgroups

_UNLIMITED: Final = 1 << 62
_WORKSPACE: Final = 700_000_000  # bytes of address space that any model takes beside its own: KV cache, graphs, buffers, stacks of threads
# Options of mallopt, in glibc's malloc.h: how many heaps, the smallest block that is mapped by itself, what may stay free at a heap's end.
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1


def free_memory() -> int:
    """Bytes of main memory available without swapping, within the limits of the process and of its control groups."""
    return min(int(psutil.virtual_memory().available), _group_memory(), address_space())


def address_space() -> int:
    """Bytes left within the limit on address space (``ulimit -v``); beyond it, native code crashes."""
    if sys.platform == "win32":
        return _UNLIMITED
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _UNLIMITED if limit == resource.RLIM_INFINITY else max(0, limit - int(psutil.Process().memory_info().vms))


def check_address_space(model: Path, own: int) -> None:
    """Call before a model is loaded: native code crashes where it is refused memory.

    Args:
        model: its file, for the message.
        own: bytes that this model takes: its files, and what grows with it.

    Raises:
        ModelError: it cannot fit the limit on address space.
    """
    left, needed = address_space(), own + _WORKSPACE
    if left < needed:
        raise ModelError(
            f"{model}: the limit on address space (ulimit -v) leaves {decimal(left)}, loading the model takes at least {decimal(needed)}; "
            "raise the limit, or use a smaller model"
        )


def limit_heaps() -> None:
    """Keep a long-lived process from growing by fragmentation.

    glibc gives threads heaps of their own. Decoders start threads for every video, and what they free stays in these heaps: ``sage mcp``
    would grow by some 100 kB per call that decodes frames. Two heaps are enough.
    """
    _set_allocator({_M_ARENA_MAX: 2})


def reuse_memory() -> None:
    """Let threads that start from now on take large blocks again that were freed, as the main thread does.

    glibc gives each thread a small heap of its own, and hands what does not fit there back to the system. Every batch of embeddings would
    come in 5,000 pages that are new, which takes as long as a GPU computes a tenth of it.
    """
    _set_allocator({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 256 << 20})


def _set_allocator(options: Mapping[int, int]) -> None:
    """Other C libraries than glibc are left alone."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, value in options.items():
            mallopt(option, value)


def _group_memory(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> int:
    """Memory left within the limits of the control groups; cached file pages count as available."""
    left = _UNLIMITED
    for folder in cgroups.folders("memory", root, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                most, now = int(cgroups.read(folder / limit)), int(cgroups.read(folder / used))
                fields = dict(line.split() for line in cgroups.read(folder / "memory.stat").splitlines())
                cached = int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))
            except ValueError:  # no such file, or "max"
                continue
            left = min(left, max(0, most - now + cached))
    return left

"""Main memory that is available to a model."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

import psutil

from sage_cli.hardware import groups

_UNLIMITED: Final = 1 << 62
_M_ARENA_MAX: Final = -8  # of mallopt, in glibc's malloc.h


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


def limit_heaps() -> None:
    """Keep a long-lived process from growing by fragmentation.

    glibc gives threads heaps of their own. Decoders start threads for every video, and what they free stays in these heaps: ``sage mcp``
    would grow by some 100 kB per call that decodes frames. Two heaps are enough. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


def _group_memory(root: Path = groups.ROOT, own: Path = groups.OWN) -> int:
    """Memory left within the limits of the control groups; cached file pages count as available."""
    left = _UNLIMITED
    for folder in groups.folders("memory", root, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                most, now = int(groups.read(folder / limit)), int(groups.read(folder / used))
                fields = dict(line.split() for line in groups.read(folder / "memory.stat").splitlines())
                cached = int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))
            except ValueError:  # no such file, or "max"
                continue
            left = min(left, max(0, most - now + cached))
    return left

"""Main memory that is available to a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import psutil

_UNLIMITED: Final = 1 << 62


def free_memory() -> int:
    """Bytes of main memory available without swapping, within the limits of the process and of a container."""
    return min(int(psutil.virtual_memory().available), _container_memory(), address_space())


def address_space() -> int:
    """Bytes left within the limit on address space (``ulimit -v``); beyond it, native code crashes."""
    if sys.platform == "win32":
        return _UNLIMITED
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _UNLIMITED if limit == resource.RLIM_INFINITY else max(0, limit - int(psutil.Process().memory_info().vms))


def _container_memory() -> int:
    """Memory left within a control group's limit (cgroup v2, then v1); cached file pages count as available."""
    for limit, used, statistics in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
        *[tuple(f"/sys/fs/cgroup/memory/memory.{name}" for name in ("limit_in_bytes", "usage_in_bytes", "stat"))],
    ):
        try:
            most, now = int(Path(limit).read_text(encoding="ascii")), int(Path(used).read_text(encoding="ascii"))
            fields = dict(line.split() for line in Path(statistics).read_text(encoding="ascii").splitlines())
            cached = int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return max(0, most - now + cached)
    return _UNLIMITED

"""Linux control groups: the limits of a container, a systemd unit or a batch job on the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def folders(controller: str, root: Path, own: Path) -> list[Path]:
    """The folders of the groups that the process is in, from the innermost out; each may limit it. Version 2 first, then version 1.

    Args:
        controller: of version 1, where each has groups of its own: ``memory`` or ``cpu``.
        root: where they are mounted.
        own: the list of the process's groups.
    """
    found: list[Path] = []
    for place, path in _groups(controller, own):
        base = root / place
        inner = base.joinpath(*(part for part in path.split("/") if part not in ("", "..")))  # '..': outside what is mounted here
        chain = [inner, *inner.parents]
        found += [folder for folder in chain[: chain.index(base) + 1] if folder.is_dir()]
    return found


def read(path: Path) -> str:
    """The text of a file by which the system tells something; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""


def _groups(controller: str, own: Path) -> Iterator[tuple[str, str]]:
    """Mount folder below the root, and the process's group there."""
    version2, version1 = "/", "/"
    for line in read(own).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            version2 = path
        elif controller in names.split(","):
            version1 = path
    yield "", version2
    yield controller, version1

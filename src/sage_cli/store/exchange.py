"""Two folders take each other's place in one step, where the system can."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2) on Linux, RENAME_SWAP of renamex_np(2) on macOS


def exchange(first: Path, second: Path) -> bool:
    """Exchange two files or folders, so that nobody ever misses either.

    Returns:
        Whether that was done. Nothing was if one of them is missing, or if the platform or the file system cannot (Windows, NFS, exFAT).
    """
    names = os.fsencode(first), os.fsencode(second)
    with suppress(OSError, AttributeError, TypeError):  # no such library, no such function
        library = ctypes.CDLL(None)
        if sys.platform == "linux":
            return bool(library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_EXCHANGE)) == 0)
        if sys.platform == "darwin":
            return bool(library.renamex_np(names[0], names[1], ctypes.c_uint(_EXCHANGE)) == 0)
    return False

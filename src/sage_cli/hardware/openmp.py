"""How OpenMP's threads, used by llama.cpp and whisper.cpp, wait for each other."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in the package's __init__, which imports this before all else
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Final

# Rounds that a thread spins at a barrier before it sleeps: some tens of microseconds.
_SPINS: Final = "2000"
# The variables that say how threads wait, of GNU's runtime and others.
POLICIES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def bound_spinning(environment: MutableMapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Keep OpenMP's threads from spinning long at barriers, unless the user has configured it.

    llama.cpp and whisper.cpp have a barrier after every operation. GNU's runtime spins there for milliseconds by default. That is free as
    long as every thread has its own processor; on a busy machine it takes the time that the other threads need. Runtimes read the
    environment when they are loaded, so this must run before anything that loads one. macOS has no OpenMP of its own.
    """
    if platform == "darwin" or any(name in environment for name in POLICIES):
        return
    environment["GOMP_SPINCOUNT"] = _SPINS  # GNU's
    environment["KMP_BLOCKTIME"] = "1"  # LLVM's and Intel's, in milliseconds

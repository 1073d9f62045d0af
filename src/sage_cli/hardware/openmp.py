"""How the threads of OpenMP, which llama.cpp and whisper.cpp compute with, wait for each other."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Final

# Rounds that a thread spins at a barrier before it sleeps: some ten microseconds.
_SPINS: Final = "1000"
_POLICIES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def bound_spinning(environment: MutableMapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Keep OpenMP's threads from spinning long where they wait for each other, unless the user has chosen how they wait.

    llama.cpp and whisper.cpp wait after every operation. GNU's runtime spins there for milliseconds by default. That costs nothing as long
    as every thread has a processor of its own; on a busy machine it burns the very time the other thread needs. Runtimes read the
    environment when they are loaded, so this runs before anything that loads one. macOS has no OpenMP of its own.
    """
    if platform == "darwin" or any(name in environment for name in _POLICIES):
        return
    environment["GOMP_SPINCOUNT"] = _SPINS  # GNU's
    environment["KMP_BLOCKTIME"] = "1"  # LLVM's and Intel's, in milliseconds

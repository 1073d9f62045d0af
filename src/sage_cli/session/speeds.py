"""How long a first look took with each model on this machine, for an estimate before the next one.

One small JSON file in the cache folder. A damaged or missing file means no estimate.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage_cli.store import cache_dir
from sage_cli.store.files import read_file, write_whole
from sage_cli.store.private import private_folder

if TYPE_CHECKING:
    from sage_cli.model.base import ModelInfo


def estimate(model: ModelInfo, frames: int) -> float | None:
    """Seconds from the loaded model to the end of the first reply, if no frame is cached; ``None`` if unknown.

    Scales linearly with the frames, which take most of the time.
    """
    seconds = _read().get(_key(model))
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return None
    return max(0.0, float(seconds)) * frames


def remember(model: ModelInfo, frames: int, seconds: float) -> None:
    """Note how long a first look took in which every frame was encoded. Does nothing if the file cannot be written."""
    text = json.dumps(_read() | {_key(model): seconds / max(1, frames)})
    with suppress(OSError):
        private_folder(_path().parent)
        write_whole(_path(), text.encode())


def _path() -> Path:
    return cache_dir() / "speeds" / "speeds.json"


def _key(model: ModelInfo) -> str:
    return f"{model.name} on {model.device}, vision encoder on {model.vision_device}"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(read_file(_path()))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

"""How long a first look took with each model on this machine, for an estimate before the next one.

One small sealed file in the cache folder. A damaged or missing file means no estimate.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sage_cli.store import cache_dir
from sage_cli.store.seal import read_sealed, write_sealed
from sage_cli.timecode import rough

if TYPE_CHECKING:
    from sage_cli.agent import Event
    from sage_cli.model.base import ModelInfo

_SLOW_S: Final = 20.0  # seconds of a first look from which on it is announced


def estimated(events: Generator[Event]) -> Generator[Event]:
    """The events of a run with a notice if its first look will be slow. Remembers how long it takes."""
    from sage_cli.agent.events import FramesSampled, Notice, RunStarted, StepFinished

    model, frames = None, 0
    for event in events:
        yield event
        match event:
            case RunStarted():
                model = event.model
            case FramesSampled() if model and event.method not in ("cached", "reused"):
                frames = len(event.times)
                seconds = estimate(model, frames) or 0.0
                if seconds >= _SLOW_S:
                    yield Notice(event.elapsed, f"the first look takes about {rough(seconds)}, at the speed of an earlier run")
            case StepFinished(step=0) if model and frames and not event.usage.images_reused:
                remember(model, frames, event.elapsed - event.usage.load_s)
                frames = 0  # a second reply to the same frames is no first look


def estimate(model: ModelInfo, frames: int) -> float | None:
    """Seconds from the loaded model to the end of the first reply, if no frame is cached; ``None`` if unknown.

    Scales linearly with the frames, which take most of the time.
    """
    seconds = _read().get(_key(model))
    return None if seconds is None else seconds * frames


def remember(model: ModelInfo, frames: int, seconds: float) -> None:
    """Note how long a first look took in which every frame was encoded. Does nothing if the file cannot be written."""
    text = json.dumps(_read() | {_key(model): max(0.0, seconds) / max(1, frames)})
    with suppress(OSError):
        write_sealed(_path(), text.encode())


def _path() -> Path:
    return cache_dir() / "speeds" / "speeds"


def _key(model: ModelInfo) -> str:
    return f"{model.name} on {model.device}, vision encoder on {model.vision_device}"


def _read() -> dict[str, float]:
    stored = read_sealed(_path())
    return {} if stored is None else json.loads(stored)

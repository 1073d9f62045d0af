"""The log of a run: one JSON object per line, appended by every stage and process; and the clock of a stage."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Log:
    """Appends to ``log.jsonl`` of a run's folder. Lines are short, so those of several processes do not mix.

    Args:
        stage: written in every line.
        quiet: print nothing.
    """

    def __init__(self, folder: Path, stage: str, *, quiet: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._stage, self._quiet = folder / "log.jsonl", stage, quiet
        self._started = time.monotonic()

    def resume(self, step: int) -> None:
        """Go on after a step: this stage's lines of later ones, which will be made again, are dropped, and its clock goes on."""
        lines = read(self._path.parent) if self._path.exists() else []
        kept = [line for line in lines if line["stage"] != self._stage or line.get("step", 0) <= step]
        new = self._path.with_suffix(".part")
        new.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        new.replace(self._path)
        self._started -= max((line["seconds"] for line in kept if line["stage"] == self._stage), default=0.0)

    def write(self, **values: Any) -> None:
        """Append a line with the seconds since the stage began; floats are rounded to six digits."""
        line = {"stage": self._stage, "seconds": round(time.monotonic() - self._started, 2), **_rounded(values)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if not self._quiet:
            print(" ".join(f"{key} {value}" for key, value in line.items()), flush=True)


def _rounded(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a tensor or an array
        value = value.tolist()
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
    return value


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


class Clock:
    """How far a stage has come: by its steps, or by its time where that is limited.

    Args:
        steps: most steps.
        limit: seconds; ``None`` for no limit.
        stop: the step to stop after, although the schedule goes on to ``steps``; ``None`` for the whole stage.
    """

    def __init__(self, steps: int, limit: float | None, stop: int | None = None) -> None:
        self._steps, self._limit, self._stop = steps, limit, stop
        self._started = time.monotonic()

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        by_time = (time.monotonic() - self._started) / self._limit if self._limit else 0.0
        return min(1.0, max(step / self._steps, by_time))

    def shorten(self, seconds: float) -> None:
        """Leave so many seconds of a limit for what comes after the stage's steps."""
        if self._limit:
            self._limit = max(1.0, self._limit - seconds)

    def over(self, step: int) -> bool:
        """Whether ``step`` steps are enough."""
        return self.progress(step) >= 1.0 or (self._stop is not None and step >= self._stop)

"""The log of a run: one JSON object per line, appended by every stage and process; and the clock of a stage."""

from __future__ import annotations

import json
import time
from contextlib import suppress
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

    def begin(self, step: int, **run: str) -> None:
        """Note that a stage begins, or goes on from a step: :func:`read` then leaves out the lines of what is made again.

        Args:
            step: 0 at the beginning.
            run: of several of the stage.
        """
        if step or any(line["stage"] == self._stage and line.get("run") == run.get("run") for line in _lines(self._path)):
            self.write(**run, step=step, resumed=True)

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
    """The lines of a run's log as if it had never been interrupted.

    Where a stage went on from a checkpoint (a line with ``resumed`` and the checkpoint's ``step``), its lines of later steps are left out,
    since these steps were made again, and its clock goes on. Where it began anew, all of its lines are.
    """
    lines: list[dict[str, Any]] = []
    before: dict[tuple[str, str | None], float] = {}
    for line in _lines(folder / "log.jsonl"):
        key = line["stage"], line.get("run")
        if line.get("resumed"):
            lines = [old for old in lines if (old["stage"], old.get("run")) != key or old.get("step", 0) <= line["step"] > 0]
            before[key] = max((old["seconds"] for old in lines if (old["stage"], old.get("run")) == key), default=0.0)
        else:
            lines.append({**line, "seconds": round(line["seconds"] + before.get(key, 0.0), 2)})
    return lines


def _lines(path: Path) -> list[dict[str, Any]]:
    """Of a log that there may not be yet, but for a line that was cut short."""
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return lines


class Clock:
    """How far a stage has come: by its steps, or by its time where that is limited.

    Args:
        steps: most steps.
        limit: seconds; ``None`` for no limit.
        stop: the step to stop after, although the schedule goes on to ``steps``; ``None`` for the whole stage.
        least: steps that are made whatever the limit.
    """

    def __init__(self, steps: int, limit: float | None, stop: int | None = None, *, least: int = 0) -> None:
        self._steps, self._limit, self._stop, self._least = steps, limit, stop, min(least, steps)
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
        return (step >= self._least and self.progress(step) >= 1.0) or (self._stop is not None and step >= self._stop)

"""A run over a question set, in a folder from which it can be resumed.

``run.json`` has the settings, ``results.jsonl`` a line per finished question. Only the parent process writes, one line at a time, flushed
to the disk: if it is killed, at most the last line is incomplete, which is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

from filelock import FileLock, Timeout

from sage_cli.bench.answer import Worker, failure
from sage_cli.bench.items import RESULTS, Dataset, Item
from sage_cli.bench.pool import Died, work_here, work_on_ray
from sage_cli.bench.records import Record
from sage_cli.errors import UsageError
from sage_cli.output import open_binary, output_folder, write_text
from sage_cli.speech.subtitles import contents_beside
from sage_cli.store.content import fingerprint
from sage_cli.tools import TranscribeSpeech
from sage_cli.version import __version__
from sage_cli.video.frame import pixel_version

Executor: TypeAlias = Literal["local", "ray"]

SETTINGS: Final = "run.json"
REPORT: Final = "report.json"
LOCK: Final = ".lock"
JUDGE: Final = "judge "  # begins the names of settings of a model that only judges


@dataclass(frozen=True)
class Plan:
    """The questions, the workers and their settings.

    Attributes:
        worker: the model and its settings.
        jobs: workers at a time.
        executor: where they work.
    """

    dataset: Dataset
    worker: Worker
    jobs: int = 1
    executor: Executor = "local"

    @property
    def items(self) -> list[Item]:
        """The questions to ask or to judge: none without a video."""
        return [item for item in self.dataset.items if item.path is not None or item.given is not None]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that answers and verdicts depend on, JSON-ready; models by content, so that a renamed one is the same. Of answers that
        are only judged, what their run noted."""
        worker, options = self.worker, self.worker.options
        known: dict[str, Any] = {"sage": __version__, "dataset": self.dataset.name, "judge": str(worker.judge)}
        if self.dataset.answered:
            noted = {key: value for key, value in settings_of(self.dataset.folder).items() if not key.startswith(JUDGE)}
            known = {"model": None, **noted, **known}
        if not worker.asks:
            return known
        with worker.session() as session:
            model = session.served_name if session.remote else session.model_name
            files = [] if session.remote else session.files.fingerprints(remember=session.caching)
            if self.dataset.answered:
                return {
                    **known,
                    "judge": f"{worker.judge} {model}",
                    f"{JUDGE}files": files,
                    f"{JUDGE}context": options.ctx_size,
                    f"{JUDGE}kv_type": options.kv_type,
                }
            tools = [tool.name for tool in session.allowed_tools]
            return {
                **known,
                "model": model,
                "files": files,
                "speech": session.transcriber.identity if session.speech_file and TranscribeSpeech.name in tools else None,
                "language": options.language,
                "subtitles": options.subtitles,
                "tools": tools,
                "llama-cpp-python": None if session.remote else version("llama-cpp-python"),
                "decoder": pixel_version(),
                **asdict(session.settings),
                "prompts": session.settings.prompts.digest,
                "context": options.ctx_size,
                "kv_type": options.kv_type,
            }

    @cached_property
    def fingerprint(self) -> str:
        """The settings as a digest."""
        return _digest(self.settings)

    def key(self, item: Item) -> str:
        """Identifies the record of an item in this run."""
        return _digest([self.dataset.name, item.index, item.question, *self._media(item), self.fingerprint])

    def _media(self, item: Item) -> list[Any]:
        """What identifies an item's video and the subtitles beside it, by content; renamed together, they are the same."""
        if item.path is None or item.given is not None:
            return [""]
        path, remember = Path(item.path), self.worker.options.cache_limit > 0
        return [fingerprint(path, remember=remember), contents_beside(path, remember=remember) if self.worker.options.subtitles else []]

    @property
    def notice(self) -> str:
        """A warning about questions for which the judge is too literal; ``""`` if there are none."""
        literal = [item for item in self.items if item.open]
        count = len(literal)
        if not count or self.worker.judge.kind not in ("choice", "exact"):
            return ""
        asked = "1 question has" if count == 1 else f"{count} questions have"
        what = "right option" if any(item.options for item in literal) else "options"
        return (
            f"{asked} no {what}: the judge {self.worker.judge.kind} accepts only the reference's own words there; "
            "for judgement by meaning, use --judge model or a server's URL"
        )

    @property
    def limit_s(self) -> float | None:
        """Seconds after which a worker counts as hung: the agent checks the time itself, but not during native calls."""
        timeout = self.worker.options.timeout
        return 2 * timeout + 60 if timeout else None


class RunFolder:
    """Where a run's records are.

    Args:
        path: created if missing.
        resume: continue the run in it.
    """

    def __init__(self, path: Path, plan: Plan, *, resume: bool) -> None:
        self.path, self.plan, self._resume = path, plan, resume
        self._opened = False

    @property
    def begun(self) -> bool:
        """Whether it was opened, and has results."""
        return self._opened and self._has_results

    @property
    def _has_results(self) -> bool:
        results = self.path / RESULTS
        return results.exists() and results.stat().st_size > 0

    def _open(self) -> None:
        """Check that the folder is free for this run, and note its settings there."""
        settings, before = self.plan.settings, settings_of(self.path)
        if self._has_results and (self.path / SETTINGS).exists():
            if not self._resume:
                raise UsageError(f"there is a run in {self.path}: add --resume to go on with it, or choose another folder with --output")
            if before != settings:
                other = ", ".join(sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key)))
                raise UsageError(
                    f"the run in {self.path} was made with another {other}: use the same, or choose another folder with --output"
                )
        write_text(self.path / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        self._opened = True

    @contextmanager
    def records(self) -> Iterator[tuple[dict[str, Record], Callable[[Record], None]]]:
        """The existing records by key, and a function that adds one. Only one process at a time gets them.

        Unreadable lines (incomplete after a kill, or damaged) are removed from the file: their questions are asked again.

        Raises:
            UsageError: another process has the folder; it has a run and ``resume`` is off, or a run with other settings.
        """
        _ = self.plan.settings  # what they cannot be made of leaves no folder
        path = self.path / RESULTS
        with output_folder(self.path), _alone(self.path):
            self._open()
            lines = path.read_bytes().split(b"\n") if path.exists() else []
            found = [(line, record) for line in lines if (record := _record(line)) is not None]
            if (whole := b"".join(line + b"\n" for line, _ in found)) != b"\n".join(lines):
                with open_binary(path) as file:
                    file.write(whole)
            records = {record["key"]: record for _, record in found}
            with path.open("ab") as file:
                yield records, partial(_append, file)


def _append(file: BinaryIO, record: Record) -> None:
    file.write(json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _record(line: bytes) -> Record | None:
    """A line of our results; ``None`` if it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None


def execute(folder: RunFolder, progress: Callable[[int, int], None] = lambda _done, _total: None) -> list[Record]:
    """Run the unfinished items. Items without a video are skipped.

    Args:
        progress: called with ``(done, total)`` before the first and after each item.

    Returns:
        The records of all items, in the order of the question set.

    Raises:
        SageError: the workers cannot work.
    """
    plan, items = folder.plan, folder.plan.items
    with folder.records() as (records, add):
        keys = {item.index: plan.key(item) for item in items}
        todo = [item for item in items if keys[item.index] not in records]
        done = len(items) - len(todo)
        progress(done, len(items))
        work = work_on_ray if plan.executor == "ray" else work_here
        for item, outcome in work(plan.worker, todo, plan.jobs, plan.limit_s):
            record = failure(item, outcome.reason) if isinstance(outcome, Died) else outcome
            record = {**record, "key": keys[item.index]}  # a record that was judged again had another
            add(record)
            records[record["key"]] = record
            progress(done := done + 1, len(items))
        return [records[key] for key in keys.values()]


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder; empty if there is none."""
    return noted(folder / SETTINGS)


def missing_videos(dataset: Dataset) -> list[str]:
    """The videos of questions that cannot be asked; of results, those that their run did not have."""
    if not dataset.answered:
        return [item.video for item in dataset.missing]
    found = noted(dataset.folder / REPORT).get("missing")
    return [str(video) for video in found] if isinstance(found, list) else []


def noted(file: Path) -> dict[str, Any]:
    """The object in a file of a run; empty if there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / LOCK, timeout=0.5, mode=0o664):
            try:
                yield
            finally:
                if not (folder / SETTINGS).exists():  # nothing could be written
                    with suppress(OSError):
                        (folder / LOCK).unlink()
    except Timeout as error:
        raise UsageError(f"another process is at work in {folder}: wait for it, or choose another folder with --output") from error


def _digest(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()

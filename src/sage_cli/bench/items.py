"""Question sets as items: the published layouts of SAGE-Bench, MINERVA and other sets, tables of one's own, and results files.

A results file is a question set with answers: it can be judged and reported on without running a model.
The fields are those of the ``allenai/SAGE`` repository (``sage/eval``) and of ``google-deepmind/neptune`` (MINERVA).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sage_cli.bench.choices import First, Row, choices, counted_from, first
from sage_cli.bench.options import letter as label
from sage_cli.errors import ExtraError, SageError, UsageError
from sage_cli.store.catalogue import HUB
from sage_cli.text import read_unicode, user_path
from sage_cli.timecode import parse as parse_time

RESULTS: Final = "results.jsonl"
_DURATIONS: Final = ("duration_seconds", "duration", "video_duration")
BUCKETS: Final = ((0, 60), (60, 180), (180, 300), (300, 600), (600, 1200), (1200, 2400), (2400, None))

_SPREADSHEETS: Final = (".csv", ".tsv")
_TABLES: Final = (".jsonl", ".ndjson", ".json", ".parquet", *_SPREADSHEETS)
# What sets call the same thing. A set may name a video in several ways, of which one is its file's: Video-MME's are named by videoID.
_VIDEO_NAMES: Final = ("video_path", "path", "video", "video_id", "videoID", "video_name", "video_uid", "video_idx", "q_uid")
_IDS: Final = ("id", "key")
_MAYBE_IDS: Final = ("question_id", "qid", "q_uid")  # in some sets the number of a question about its video
_KINDS: Final = ("kind", "question_type", "question_category", "task_type")
_VIDEOS: Final = ("", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".ts")
# Fields that only results have.
ANSWERED: Final = ("is_correct", "num_attempts", "complete_results", "none_prediction", "could_not_produce", "reasoning_steps")


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    Attributes:
        index: place in the question set, from 0.
        id: the question set's identifier; by default its index.
        question: the text, including the options of a multiple-choice question.
        reference: the correct answer, in words.
        video: its name in the question set.
        path: the video on this machine; ``None`` if missing.
        options: of a multiple-choice question, in order.
        letter: of the correct option, if the question set gives it or it follows from the options.
        duration: of the video in seconds, if the question set gives it.
        ques_type: ``"mcq"`` or ``"open_ended"``.
        kind, difficulty, modality: categories for the report; ``None`` if the question set has none.
        given: the record that this item was read from, in a results file.
        numbered: whether the options are labelled 1, 2, 3 in the question, and not A, B, C.
    """

    index: int
    id: str
    question: str
    reference: str
    video: str
    path: Path | None
    options: tuple[str, ...] = ()
    letter: str | None = None
    duration: float | None = None
    ques_type: str | None = None
    kind: str | None = None
    difficulty: str | None = None
    modality: str | None = None
    given: Row | None = None
    numbered: bool = False

    def matches(self, key: str, value: str) -> bool:
        """Whether ``key=value`` holds: a field's value, or a range that contains the duration in seconds (``duration=600-1200``)."""
        if key != "duration":
            return str(getattr(self, key)).lower() == value.lower()
        low, _, high = value.partition("-")
        return self.duration is not None and float(low or 0) <= self.duration < float(high or "inf")

    @property
    def open(self) -> bool:
        """Whether its answer is free text: there are no options, or the right one is unknown."""
        return not self.options or self.letter is None


FILTERS: Final = ("ques_type", "kind", "difficulty", "modality", "duration", "video", "id")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A question set.

    Attributes:
        name: short, for folders and headings.
        items: in order.
        answered: whether it is a results file.
        folder: of its file; of a run, if it is a run's results.
    """

    name: str
    items: tuple[Item, ...]
    answered: bool
    folder: Path

    @property
    def missing(self) -> tuple[Item, ...]:
        """Items whose video is not on this machine."""
        return tuple(item for item in self.items if item.path is None)

    @property
    def notices(self) -> tuple[str, ...]:
        """Warnings about questions that may be scored otherwise than their author thinks."""
        unclear = [item for item in self.items if item.options and item.letter is None and item.ques_type != "open_ended"]
        twice = [item for item in self.items if len(set(item.options)) < len(item.options)]
        lettered = [item for item in self.items if not item.options and re.fullmatch(r"\(?[A-Z]\)?", item.reference)]
        return tuple(
            f"in {len(items)} of {len(self.items)} questions, the first of them record {items[0].index + 1}, {what}"
            for items, what in (
                (unclear, "the right answer is not exactly one of the options: they are judged as open questions"),
                (twice, "an option is listed twice"),
                (lettered, "the right answer is a letter, but there are no options"),
            )
            if items
        )

    def select(self, filters: Sequence[str], limit: int | None) -> Dataset:
        """The items that pass every filter ``KEY=VALUE``, at most ``limit``.

        Raises:
            UsageError: a filter is invalid, or no item passes.
        """
        items: Sequence[Item] = self.items
        for filter in filters:
            key, equals, value = filter.partition("=")
            if not equals or key not in FILTERS or (key == "duration" and not re.fullmatch(r"\d+-\d*|-\d+", value)):
                raise UsageError(f"--filter {filter}: write KEY=VALUE with one of {', '.join(FILTERS)}; a duration as duration=600-1200")
            items = [item for item in items if item.matches(key, value)]
            if not items:
                known = sorted({str(value) for item in self.items if (value := getattr(item, key)) is not None})[:8]
                raise UsageError(f"--filter {filter}: no question is left; {key} is one of: {', '.join(known) or 'nothing'}")
        return replace(self, items=tuple(items[:limit]))


def bucket(seconds: float) -> str:
    """The duration bucket of SAGE-Bench that a video falls into, e.g. ``"600-1200 s"``."""
    low, high = next(bucket for bucket in reversed(BUCKETS) if seconds >= bucket[0])
    return f"{low}-{high} s" if high else f"{low}+ s"


# ---- reading -------------------------------------------------------------------------------------------------------


def read_dataset(source: str, videos: Path | None = None, *, offline: bool = False) -> Dataset:
    """Read a question set.

    Args:
        source: a JSONL, JSON, CSV, TSV or parquet file; a folder with one, or of a run; or ``hf:OWNER/NAME``, a dataset of the
            Hugging Face Hub, of which only the tables are downloaded.
        videos: folder of the videos; by default the folder of the file.

    Raises:
        UsageError: it does not exist, or is not a question set.
        SageError: the Hub cannot be reached.
    """
    if videos is not None and not videos.is_dir():
        raise UsageError(f"no such folder: {videos} (--videos is the folder with the videos)")
    path = _from_hub(source.removeprefix(HUB), offline) if source.startswith(HUB) else user_path(source)
    files = _tables(path, source)
    rows = [{key: value for key, value in row.items() if value == value} for file in files for row in _rows(file)]  # NaN is no value
    if not rows:
        raise UsageError(f"{source} contains no questions")
    answered = any(key in row for row in rows for key in ANSWERED)
    folders = [folder for folder in (videos, files[0].parent, Path()) if folder is not None]
    try:
        counting = counted_from(rows, answered)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    items = []
    ids = (*_IDS, *(key for key in _MAYBE_IDS if len({str(row.get(key)) for row in rows}) == len(rows)))
    for index, row in enumerate(rows):
        try:
            items.append(_item(index, row, ids, folders, answered, counting))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            problem = f"there is no {error.args[0]}" if isinstance(error, KeyError) else error
            raise UsageError(f"{source}, record {index + 1}: {problem}; see 'sage help bench' for the fields of a question") from error
    name = source.removeprefix(HUB).rpartition("/")[2] if source.startswith(HUB) else _name(path)
    return Dataset(name, tuple(items), answered, files[0].parent)


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == RESULTS else path.resolve().stem


def _tables(path: Path, source: str) -> list[Path]:
    """The files to read, of several splits the test split."""
    if path.is_file():
        if path.suffix.lower() not in _TABLES:
            raise UsageError(f"{source}: a question set is one of {', '.join(_TABLES)}")
        return [path]
    if not path.is_dir():
        raise UsageError(f"no such question set: {source} (give a file, a folder, or hf:OWNER/NAME for one of the Hugging Face Hub)")
    if (path / RESULTS).is_file():
        return [path / RESULTS]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _TABLES and not file.name.startswith("."))
    found = [file for file in found if file.suffix.lower() not in _SPREADSHEETS] or found  # beside others, they list something else
    chosen = [file for file in found if file.name.startswith("test")] or found
    if len({file.suffix for file in chosen}) != 1 or (len(chosen) > 1 and chosen[0].suffix != ".parquet"):
        names = ", ".join(str(file.relative_to(path)) for file in chosen[:6]) or "none"
        raise UsageError(f"{source}: it should contain one question set; name the file (found: {names})")
    return chosen


def _rows(file: Path) -> Iterable[Row]:
    try:
        if file.suffix.lower() == ".parquet":
            return _parquet(file)
        text = read_unicode(file)
        if file.suffix.lower() in _SPREADSHEETS:
            return _spreadsheet(text, "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=text.partition("\n")[0].count))
        if file.suffix.lower() == ".json":
            data = json.loads(text)
            inside = data.values() if isinstance(data, dict) else ()
            rows = data if isinstance(data, list) else next((value for value in inside if isinstance(value, list)), None)
        else:
            rows = json_lines(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{file}: it should be a list of objects, one per question")
    return rows


def json_lines(text: str) -> list[Any]:
    """The values of JSONL. Lines end with ``\\n`` alone: ``str.splitlines`` would end them within a question, at U+2028 or a form feed.

    Raises:
        ValueError: a line is not JSON; the message says which.
    """
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return values


def _spreadsheet(text: str, separator: str) -> list[dict[str, Any]]:
    """Rows below a line of names; an empty field is not there, nor is one without a name, such as the numbers that pandas puts in front.

    Raises:
        ValueError: a row has more fields than there are names, or one of them is beyond csv's limit.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    found = []
    try:
        for row in rows:
            if None in row:  # where csv puts what is beyond the names
                raise ValueError(f"line {rows.line_num} has more fields than the first line")
            found.append({name: value for name, value in row.items() if name and value})
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error
    return found


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ExtraError(f"{file}: parquet needs pyarrow", "bench") from error
    # Columns with pictures or other binary data would only use memory.
    table = pyarrow.parquet.ParquetFile(file)
    names = [field.name for field in table.schema_arrow if not pyarrow.types.is_binary(field.type)]
    rows: list[dict[str, Any]] = table.read(columns=names).to_pylist()
    return rows


def _from_hub(repository: str, offline: bool) -> Path:
    """The tables of a dataset in the shared Hub cache, downloaded unless ``offline``."""
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        tables = [f"*{suffix}" for suffix in _TABLES]
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=tables, local_files_only=offline))
    except (HfHubHTTPError, HFValidationError) as error:
        raise UsageError(f"no dataset {repository} on the Hugging Face Hub, or it needs a token: {str(error).splitlines()[0]}") from error
    except (LocalEntryNotFoundError, httpx2.HTTPError) as error:
        if offline:
            raise UsageError(f"{repository} is not in the cache, and --offline (or the setting offline) allows no download") from error
        raise SageError(f"the Hugging Face Hub cannot be reached; get {repository} by other means and give its file") from error


# ---- a record as an item -------------------------------------------------------------------------------------------


def _item(index: int, row: Row, ids: Sequence[str], folders: Sequence[Path], answered: bool, counting: Mapping[str, First]) -> Item:
    question = str(row["question"])
    first(row, *_VIDEO_NAMES)
    videos = [str(row[key]) for key in _VIDEO_NAMES if row.get(key) is not None]
    located = [(video, path) for video in videos if (path := _find(video, folders)) is not None]
    video, path = next(iter(located), (videos[0], None))
    found = choices(row, answered, counting)
    if found.options and not found.in_question:
        lines = "\n".join(f"({label(number)}) {option}" for number, option in enumerate(found.options))
        question = f"{question}\nAnswer with one of these options:\n{lines}"
    ques_type = row.get("ques_type") or ("mcq" if found.options else "open_ended")
    return Item(
        index=index,
        id=str(first(row, *ids, default=index)),
        question=question,
        reference=found.reference,
        video=video,
        path=path,
        options=found.options,
        numbered=found.numbered,
        letter=found.letter,
        duration=next((seconds for key in _DURATIONS if (seconds := seconds_of(row.get(key))) is not None), None),
        ques_type=str(ques_type).replace("-", "_"),
        kind=_kind(row),
        difficulty=row.get("difficulty"),
        modality=row.get("modality"),
        given=row if answered else None,
    )


def seconds_of(duration: object) -> float | None:
    """A duration in any form of question sets: a number, a number as text, or a clock time; ``None`` for -1, NaN and ``""``."""
    for read in (float, parse_time):
        with suppress(UsageError, ValueError):
            seconds = read(str(duration))
            return seconds if 0 < seconds < float("inf") else None
    return None


def _kind(row: Row) -> str | None:
    value = next((row[key] for key in _KINDS if row.get(key)), None)
    return ", ".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def _find(video: str, folders: Sequence[Path]) -> Path | None:
    """The file of a video: under its path, its name, or its identifier with a suffix, also in a folder named like it."""
    name = PurePosixPath(video.replace("\\", "/")).name
    stem = name.rpartition(".")[0] if f".{name.rpartition('.')[2].lower()}" in _VIDEOS and "." in name else name
    places = [video, name, *(f"{place}{suffix}" for place in (stem, f"{stem}/{stem}") for suffix in _VIDEOS[1:])]
    # Path.is_file raises for a name that is too long, such as a signed address.
    return next((path for folder in folders for place in places if os.path.isfile(path := folder / place)), None)  # noqa: PTH113

"""Question sets as items: SAGE-Bench's and MINERVA's published layouts, plain JSONL, the synthetic set, and results files.

A results file is a question set whose questions have been answered: it can be judged, and reported on, without asking anything.
Fields are those of the ``allenai/SAGE`` repository (``sage/eval``) and of ``google-deepmind/neptune`` (MINERVA).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeAlias

from sage_cli.errors import SageError, UsageError
from sage_cli.timecode import parse as parse_time

Row: TypeAlias = Mapping[str, Any]

HUB: Final = "hf:"
RESULTS: Final = "results.jsonl"
BUCKETS: Final = ((0, 60), (60, 180), (180, 300), (300, 600), (600, 1200), (1200, 2400), (2400, None))

_TABLES: Final = (".jsonl", ".ndjson", ".json", ".parquet")
_VIDEOS: Final = ("", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".ts")
# "(A) Cheddar", "A. Cheddar", "A) Cheddar", each on a line of its own.
_OPTION: Final = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+(.*\S)[ \t]*$", re.MULTILINE)
_ANSWERED: Final = ("is_correct", "num_attempts", "complete_results", "none_prediction")


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    Attributes:
        index: place in the question set, from 0.
        id: the question set's own name for it; its place if it has none.
        question: as it is asked; the options of a multiple-choice question stand in it.
        reference: the right answer, in words.
        video: as the question set names it.
        path: where it lies on this machine; ``None``: it does not.
        options: of a multiple-choice question, in order.
        letter: of the right option, if the question set tells it or it can be told from the options.
        duration: of the video in seconds, if the question set tells it.
        ques_type: ``"mcq"`` or ``"open_ended"``.
        kind, difficulty, modality: what the report is broken down by; ``None`` where the question set says nothing.
        given: the answered record this item was read from, in a results file.
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

    def matches(self, key: str, value: str) -> bool:
        """Whether ``key=value`` holds: a field's value, or a stretch of seconds (``duration=600-1200``) that the duration lies in."""
        if key != "duration":
            return str(getattr(self, key)).lower() == value.lower()
        low, _, high = value.partition("-")
        return self.duration is not None and float(low or 0) <= self.duration < float(high or "inf")


FILTERS: Final = ("ques_type", "kind", "difficulty", "modality", "duration", "video", "id")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A question set.

    Attributes:
        name: short, for folders and headings.
        items: in order.
        answered: it is a results file.
    """

    name: str
    items: tuple[Item, ...]
    answered: bool

    @property
    def missing(self) -> tuple[Item, ...]:
        """Items whose video is not on this machine."""
        return tuple(item for item in self.items if item.path is None)

    def select(self, filters: Sequence[str], limit: int | None) -> Dataset:
        """The items that every filter ``KEY=VALUE`` lets through, no more than ``limit``.

        Raises:
            UsageError: a filter cannot be, or lets nothing through.
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
        return Dataset(self.name, tuple(items[:limit]), self.answered)


def bucket(seconds: float) -> str:
    """The duration bucket of SAGE-Bench that a video falls into, e.g. ``"600-1200 s"``."""
    low, high = next(bucket for bucket in reversed(BUCKETS) if seconds >= bucket[0])
    return f"{low}-{high} s" if high else f"{low}+ s"


# ---- reading -------------------------------------------------------------------------------------------------------


def read_dataset(source: str, videos: Path | None = None) -> Dataset:
    """Read a question set.

    Args:
        source: a JSONL, JSON or parquet file; a folder with one, or that a run was written to; or ``hf:OWNER/NAME``, a dataset of the
            Hugging Face Hub, of which only the tables are downloaded.
        videos: folder of the videos; by default they are looked for beside the file.

    Raises:
        UsageError: there is nothing of the kind, or it is not a question set.
        SageError: the hub cannot be reached.
    """
    if videos is not None and not videos.is_dir():
        raise UsageError(f"no such folder: {videos} (--videos takes the folder that the videos lie in)")
    path = _from_hub(source.removeprefix(HUB)) if source.startswith(HUB) else Path(source).expanduser()
    files = _tables(path, source)
    rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise UsageError(f"{source}: there is no question in it")
    answered = any(key in rows[0] for key in _ANSWERED)
    folders = [folder for folder in (videos, files[0].parent, Path()) if folder is not None]
    items = []
    for index, row in enumerate(rows):
        try:
            items.append(_item(index, row, folders, answered))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise UsageError(f"{source}, record {index + 1}: {_problem(error)}; see docs/bench.md for the fields of a question") from error
    name = source.removeprefix(HUB).rpartition("/")[2] if source.startswith(HUB) else _name(path)
    return Dataset(name, tuple(items), answered)


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == RESULTS else path.resolve().stem


def _problem(error: Exception) -> str:
    return f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error)


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
    chosen = [file for file in found if file.name.startswith("test")] or found
    if len({file.suffix for file in chosen}) != 1 or (len(chosen) > 1 and chosen[0].suffix != ".parquet"):
        names = ", ".join(str(file.relative_to(path)) for file in chosen[:6]) or "none"
        raise UsageError(f"{source}: it should hold one question set; name the file (there are: {names})")
    return chosen


def _rows(file: Path) -> Iterable[Row]:
    try:
        if file.suffix.lower() == ".parquet":
            return _parquet(file)
        text = file.read_text(encoding="utf-8")
        if file.suffix.lower() == ".json":
            data = json.loads(text)
            inside = data.values() if isinstance(data, dict) else ()
            rows = data if isinstance(data, list) else next((value for value in inside if isinstance(value, list)), None)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    if rows is None or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{file}: it should be a list of objects, one a question")
    return rows


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(f"{file}: to read parquet, install the extra 'bench': uv tool install '.[bench]'") from error
    # Columns of pictures or other binary data would only fill the memory.
    table = pyarrow.parquet.ParquetFile(file)
    names = [field.name for field in table.schema_arrow if not pyarrow.types.is_binary(field.type)]
    rows: list[dict[str, Any]] = table.read(columns=names).to_pylist()
    return rows


def _from_hub(repository: str) -> Path:
    """The tables of a dataset, in the hub's shared cache."""
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=[f"*{suffix}" for suffix in _TABLES]))
    except (HfHubHTTPError, HFValidationError) as error:
        raise UsageError(f"no dataset {repository} on the Hugging Face Hub, or it needs a token: {str(error).splitlines()[0]}") from error
    except (LocalEntryNotFoundError, httpx2.HTTPError) as error:
        raise SageError(f"the Hugging Face Hub cannot be reached; get {repository} by other means and give its file") from error


# ---- a record as an item -------------------------------------------------------------------------------------------


def _item(index: int, row: Row, folders: Sequence[Path], answered: bool) -> Item:
    question = str(row["question"])
    video = str(_first(row, "video_path", "path", "video", "video_id"))
    options, letter, reference = _choices(row, question)
    if options and not _OPTION.search(question):
        lines = "\n".join(f"({_letter(number)}) {option}" for number, option in enumerate(options))
        question = f"{question}\nAnswer with one of these options:\n{lines}"
    duration = row.get("duration", row.get("video_duration"))
    ques_type = row.get("ques_type") or ("mcq" if options else "open_ended")
    return Item(
        index=index,
        id=str(_first(row, "id", "key", default=index)),
        question=question,
        reference=reference,
        video=video,
        path=_find(video, folders),
        options=options,
        letter=letter,
        duration=parse_time(duration) if isinstance(duration, str) else duration,
        ques_type=str(ques_type).replace("-", "_"),
        kind=_kind(row),
        difficulty=row.get("difficulty"),
        modality=row.get("modality"),
        given=row if answered else None,
    )


def _first(row: Row, *keys: str, default: object = None) -> Any:
    for key in keys:
        if row.get(key) is not None:
            return row[key]
    if default is None:
        raise KeyError(" or ".join(keys))
    return default


def _choices(row: Row, question: str) -> tuple[tuple[str, ...], str | None, str]:
    """Options, the right one's letter, and the right answer in words."""
    if "answer_choice_0" in row:  # MINERVA
        options = [str(row[f"answer_choice_{number}"]) for number in range(26) if row.get(f"answer_choice_{number}") is not None]
        right = int(row["answer_id"])
        return tuple(options), _letter(right), options[right]
    listed = row.get("options") or row.get("choices")
    options = [str(option) for option in listed] if listed else _options_in(question)
    reference = str(_first(row, "gt_answer", "full_answer", "answer"))
    letter = row.get("correct_answer")
    if letter is None and options:
        named = [_letter(number) for number, option in enumerate(options) if option.strip().lower() == reference.strip().lower()]
        letter = named[0] if named else reference if reference in map(_letter, range(len(options))) else None
    if letter is not None and len(reference) == 1 and options:
        reference = options[ord(letter) - ord("A")]
    return tuple(options), letter, reference


def _options_in(question: str) -> list[str]:
    """The options that stand in a question: lines lettered from A on without a gap."""
    found = _OPTION.findall(question)
    return [text for _, text in found] if len(found) > 1 and [letter for letter, _ in found] == [*map(_letter, range(len(found)))] else []


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _kind(row: Row) -> str | None:
    value = row.get("kind") or row.get("question_type")
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _find(video: str, folders: Sequence[Path]) -> Path | None:
    """The file of a video: under its path, its name, or its identifier with a suffix, also in a folder named like it."""
    name = PurePosixPath(video.replace("\\", "/")).name
    stem = name.rpartition(".")[0] if f".{name.rpartition('.')[2].lower()}" in _VIDEOS and "." in name else name
    places = [video, name, *(f"{place}{suffix}" for place in (stem, f"{stem}/{stem}") for suffix in _VIDEOS[1:])]
    return next((path for folder in folders for place in places if (path := folder / place).is_file()), None)

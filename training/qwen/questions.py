"""Question sets to train on: the teacher's, or one's own in any layout that ``sage bench`` reads."""

from __future__ import annotations

import sys
from pathlib import Path

from sage_cli.bench.items import Item, read_dataset
from sage_cli.errors import UsageError


def read_questions(path: Path, videos: Path | None = None) -> list[Item]:
    """The questions of a set whose videos are on this machine, each once.

    Args:
        videos: folder of the videos; by default they are searched beside the set and in the current folder.

    Raises:
        UsageError: there is no such set, it cannot be read, or none of its videos is here.
    """
    if not path.exists():
        raise UsageError(f"{path}: there are no questions; run 'python -m training.qwen questions' first, or name a set with --questions")
    dataset = read_dataset(str(path), videos)
    for notice in dataset.notices:
        print(notice, file=sys.stderr)
    if missing := dataset.missing:
        left = f"{len(missing)} of {len(dataset.items)} questions are left out: their videos are not here, for example {missing[0].video}"
        print(left, file=sys.stderr)
    found: dict[tuple[Path | None, str], Item] = {}
    for item in dataset.items:
        if item.path is not None:
            found.setdefault((item.path, item.question), item)
    if not found:
        raise UsageError(f"{path}: none of its videos was found; name their folder with --videos")
    return list(found.values())

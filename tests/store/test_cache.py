"""The cache folder as a whole, filled by the packages that use it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sage_cli
from sage_cli.model.disk import ModelCache
from sage_cli.store import cache, cache_dir
from sage_cli.store.cache import KINDS, entries, forget_media, media_paths, note_media, remove, trim
from sage_cli.web.cache import WebCache

TALK, FILM = "a" * 24, "b" * 24
DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def transcript(media: str, days: float = 0, size: int = 1000) -> Path:
    path = cache_dir() / "transcripts" / f"{media}-0123456789abcdef-0-1000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


@pytest.fixture
def filled() -> None:
    transcript(TALK, days=40)
    transcript(FILM, days=2)
    models = ModelCache(cache_dir())
    for media in TALK, FILM:
        models.keep_embedding(f"{'c' * 24} {media}@1.000000:64x64", np.zeros((25, 1000), np.float32), encode_s=60.0)

    def save(path: Path) -> bool:
        path.write_bytes(bytes(50_000))
        return True

    saving = models.prefixes.save(f"{TALK}-{'d' * 32}", 50_000, 1000, save)
    assert saving is not None
    saving.wait()
    models.flush()
    models.close()
    WebCache(cache_dir() / "web", None).put({"results": []}, "who?")


def summary() -> dict[tuple[str, str], int]:
    return {(entry.kind, entry.media[:1]): entry.size for entry in entries()}


@pytest.mark.usefixtures("filled")
def test_everything_is_found_with_its_size_and_its_video() -> None:
    found = summary()
    assert found.pop(("web", "")) > 0
    assert found == {
        ("transcripts", "a"): 1000,
        ("transcripts", "b"): 1000,
        ("embeddings", "a"): 100_016,
        ("embeddings", "b"): 100_016,
        ("prefixes", "a"): 50_048,
    }
    assert [entry.kind for entry in entries()][:2] == ["transcripts", "transcripts"]  # the longest unused first


def test_an_empty_cache_stays_empty(folder: Path) -> None:
    assert entries() == []
    assert trim(0) == 0
    assert media_paths() == {}
    assert not folder.exists()


def test_every_folder_in_the_cache_is_a_kind() -> None:
    """Every package's folder must be listed, otherwise users could not see or clear it."""
    sources = [path.read_text(encoding="utf-8") for path in Path(sage_cli.__file__).parent.rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'cache_dir\(\) / "(\w+)"', text)}
    named |= set(re.findall(r'folder / "(\w+)"', (Path(sage_cli.__file__).parent / "model" / "disk.py").read_text(encoding="utf-8")))
    assert named == {kind.name for kind in KINDS}


@pytest.mark.usefixtures("filled")
def test_one_video_is_removed() -> None:
    mine = [entry for entry in entries() if entry.media == TALK]
    assert remove(mine) == 151_064
    assert {media for _, media in summary()} == {"b", ""}
    models = ModelCache(cache_dir())
    assert models.embedding(f"{'c' * 24} {TALK}@1.000000:64x64", (25, 1000)) is None
    assert models.embedding(f"{'c' * 24} {FILM}@1.000000:64x64", (25, 1000)) is not None
    models.close()


@pytest.mark.usefixtures("filled")
def test_what_is_old_goes() -> None:
    assert trim(1 << 40, older_than=time.time() - 30 * DAY) == 1000
    assert ("transcripts", "a") not in summary()
    assert ("transcripts", "b") in summary()


@pytest.mark.usefixtures("filled")
def test_the_longest_unused_goes_first() -> None:
    total = sum(entry.size for entry in entries())
    assert trim(total - 1) == 1000
    assert ("transcripts", "b") in summary()
    models = ModelCache(cache_dir())
    assert models.embedding(f"{'c' * 24} {TALK}@1.000000:64x64", (25, 1000)) is not None  # used just now
    models.close()
    trim(200_000)
    assert ("embeddings", "a") in summary()
    assert ("embeddings", "b") not in summary()
    trim(0)
    assert entries() == []


@pytest.mark.parametrize(
    "place", [lambda: cache_dir() / "web" / "tmp1.part", lambda: cache_dir() / "prefixes" / "key.7.part"], ids=["web", "prefix"]
)
@pytest.mark.usefixtures("filled")
def test_what_was_never_finished_goes_after_a_day(place: Callable[[], Path]) -> None:
    path = place()
    path.write_bytes(bytes(500))
    assert trim(1 << 40) == 0
    assert path.exists()
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    assert trim(1 << 40) == 500
    assert not path.exists()


@pytest.mark.usefixtures("filled")
def test_a_damaged_database_is_no_trouble() -> None:
    (cache_dir() / "embeddings" / "cache.db").write_bytes(b"SQLite format 3\0 not really" * 100)
    assert ("prefixes", "a") in summary()
    trim(0)


def test_videos_have_names(tmp_path: Path) -> None:
    note_media(TALK, tmp_path / "talk.mp4")
    note_media(FILM, tmp_path / "old.mp4")
    note_media(FILM, tmp_path / "film.mp4")
    assert media_paths() == {TALK: tmp_path / "talk.mp4", FILM: tmp_path / "film.mp4"}
    forget_media(but=[FILM])
    assert media_paths() == {FILM: tmp_path / "film.mp4"}


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SAGE_CACHE_DIR", str(file))
    note_media(TALK, tmp_path)
    assert cache.media_paths() == {}
    assert entries() == []


def test_what_is_no_entry_is_never_in_the_way(filled: None) -> None:
    """A folder in place of an entry, a link, a stray copy, a damaged database."""
    before = len(entries())
    (cache_dir() / "transcripts" / f"{TALK}-stray (copy).jsonl").mkdir()
    (cache_dir() / "web" / "folder.json" / "deep").mkdir(parents=True)
    (cache_dir() / "web" / "link.json").symlink_to("nowhere")
    (cache_dir() / "media" / TALK).mkdir(parents=True)
    assert len(entries()) == before
    trim(0)
    assert entries() == []
    forget_media()
    for kind in KINDS:
        kind.reset()
        assert not kind.folder.exists()


def test_a_damaged_database_is_cleared_all_the_same(filled: None) -> None:
    database = cache_dir() / "embeddings" / "cache.db"
    for content in (b"no database at all", b"", database.read_bytes()[:5000]):
        database.write_bytes(content)
        entries()
        trim(0)
    freed = {kind.name: kind.reset() for kind in KINDS}
    assert freed["embeddings"] > 0
    assert not database.exists()


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    note_media(TALK, path)
    assert media_paths() == {TALK: path}


def test_locks_of_downloads_are_no_entries() -> None:
    folder = cache_dir() / "links"
    folder.mkdir(parents=True)
    for name in ("0123.mp4", ".0123.lock"):
        (folder / name).touch()
    assert [entry.key for entry in entries()] == ["0123.mp4"]

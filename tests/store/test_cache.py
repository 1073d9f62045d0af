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
from sage_cli.store.cache import KINDS, Files, entries, forget_media, media_paths, note_media, remove, trim
from sage_cli.store.files import part_of
from sage_cli.store.scratch import scratch_folder
from sage_cli.web.web import WebCache

TALK, FILM = "a" * 24, "b" * 24
DAY = 24 * 3600.0


NAMES = {
    "transcripts": f"{TALK}-0123456789abcdef-language.jsonl",
    "damage": f"{TALK}-video-01234567",
    "prefixes": f"{TALK}-{'d' * 32}.state",
    "web": "e" * 32,
    "links": f"{TALK}.mp4",
    "fingerprints": TALK,
    "speeds": "speeds.json",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def transcript(media: str, days: float = 0, size: int = 1000) -> Path:
    path = cache_dir() / "transcripts" / f"{media}-0123456789abcdef-0.jsonl"
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
        models.embeddings.keep(f"{'c' * 24} {media}@1.000000:64x64", np.zeros((25, 1000), np.float32), encode_s=60.0)

    def save(path: Path) -> bool:
        path.write_bytes(bytes(50_000))
        return True

    saving = models.prefixes.save(f"{TALK}-{'d' * 32}", 50_000, 1000, save)
    assert saving is not None
    saving.wait()
    models.embeddings.flush()
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
        ("prefixes", "a"): 50_056,
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
    assert remove(mine) == 151_072
    assert {media for _, media in summary()} == {"b", ""}
    models = ModelCache(cache_dir())
    assert models.embeddings.get(f"{'c' * 24} {TALK}@1.000000:64x64", (25, 1000)) is None
    assert models.embeddings.get(f"{'c' * 24} {FILM}@1.000000:64x64", (25, 1000)) is not None
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
    assert models.embeddings.get(f"{'c' * 24} {TALK}@1.000000:64x64", (25, 1000)) is not None  # used just now
    models.close()
    trim(200_000)
    assert ("embeddings", "a") in summary()
    assert ("embeddings", "b") not in summary()
    trim(0)
    assert entries() == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if isinstance(kind, Files) and kind.name in NAMES], ids=lambda kind: kind.name)
def test_what_was_never_finished_goes_when_it_is_abandoned(kind: Files) -> None:
    path = part_of(kind.folder / NAMES[kind.name])
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(500))
    assert trim(1 << 40) == 0
    os.utime(path, (time.time() - DAY / 12,) * 2)
    assert trim(1 << 40) == 500
    assert not path.exists()


def test_what_a_killed_measurement_left_goes(folder: Path) -> None:
    folder.mkdir()
    with scratch_folder(folder) as place:
        left = place
    left.mkdir(parents=True, mode=0o700)
    left.parent.chmod(0o700)
    (left / ".sage-scratch").touch()
    (left / "cache.db").write_bytes(bytes(700))
    os.utime(left, (time.time() - DAY,) * 2)
    assert trim(1 << 40) == 700
    assert not left.exists()


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


def test_a_name_is_of_one_video(tmp_path: Path) -> None:
    note_media(TALK, tmp_path / "talk.mp4")
    (cache_dir() / "media" / TALK).rename(cache_dir() / "media" / FILM)
    os.mkfifo(cache_dir() / "media" / TALK)  # nor is a pipe waited for
    assert media_paths() == {}
    note_media(TALK, tmp_path / "talk.mp4")
    assert media_paths() == {TALK: tmp_path / "talk.mp4"}


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SAGE_CACHE_DIR", str(file))
    note_media(TALK, tmp_path)
    assert cache.media_paths() == {}
    assert entries() == []


@pytest.mark.usefixtures("filled")
def test_what_is_no_entry_is_never_in_the_way() -> None:
    """A folder in place of an entry, a link, a stray copy."""
    before = len(entries())
    (cache_dir() / "transcripts" / f"{TALK}-0123456789abcdef-7.jsonl").mkdir()
    (cache_dir() / "web" / ("e" * 32) / "deep").mkdir(parents=True)
    (cache_dir() / "web" / ("f" * 32)).symlink_to("nowhere")
    (cache_dir() / "media" / TALK).mkdir(parents=True)
    assert len(entries()) == before
    trim(0)
    assert entries() == []
    forget_media()


MINE = {
    "transcripts": ["interview.docx", "interview.jsonl", f"{TALK}-interview.jsonl"],
    "times": ["cache.db.bak", "ab/notes.txt"],
    "damage": ["report.txt"],
    "embeddings": ["vectors.npy"],
    "prefixes": ["machine.state", "film.mkv.part"],
    "summaries": ["2024.md"],
    "web": ["index.html", "package.json", "deep/down.html"],
    "links": ["film.mp4", ".film.lock"],
    "fingerprints": ["thumbs.json", "tmp12345678.part"],
    "speeds": ["runs.json"],
    "media": ["photo.jpg"],
}


@pytest.mark.parametrize(
    "way", [lambda: [kind.reset() for kind in KINDS], lambda: trim(0, older_than=time.time() + DAY)], ids=["clear", "prune"]
)
@pytest.mark.usefixtures("filled")
def test_nothing_of_the_user_is_removed(folder: Path, tmp_path: Path, way: Callable[[], object]) -> None:
    """Regression: in a SAGE_CACHE_DIR with other files, all that had the name of a kind was deleted."""
    assert MINE.keys() == {kind.name for kind in KINDS} | {"media"}
    mine = {folder / place / name for place, names in MINE.items() for name in names}
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (1e9, 1e9))
    (tmp_path / "disk").mkdir()
    (folder / "links" / "disk").symlink_to(tmp_path / "disk")
    for kind, name in NAMES.items():
        (folder / kind / name).touch()
    assert len(entries()) == 6 + len(NAMES) - 1
    way()
    forget_media()
    assert entries() == []
    left = {path for path in folder.rglob("*") if path.is_file()}
    assert mine <= left
    assert all(path.name.startswith("cache.db") for path in left - mine)  # which stays where only entries are removed


@pytest.mark.usefixtures("filled")
def test_all_that_is_ours_goes_and_links_to_other_disks_stay(folder: Path, tmp_path: Path) -> None:
    (folder / "prefixes").rename(tmp_path / "disk")
    (folder / "prefixes").symlink_to(tmp_path / "disk")
    for kind, name in NAMES.items():
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / name).touch()
        part_of(folder / kind / name).touch()
    (folder / "links" / f".{TALK}.lock").touch()
    for one in KINDS:
        assert one.files() or one.name in ("times", "summaries")  # nothing was summarized
        one.reset()
    assert [path.name for path in folder.iterdir()] == ["prefixes"]
    assert (folder / "prefixes").is_symlink()
    assert not list((tmp_path / "disk").iterdir())


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
    for name in (f"{TALK}.mp4", f".{TALK}.lock"):
        (folder / name).touch()
    assert [entry.key for entry in entries()] == [f"{TALK}.mp4"]

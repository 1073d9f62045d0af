"""Models are replaced and removed while other processes use, install or remove them, or are interrupted."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from sage_cli.assets import NANO
from sage_cli.errors import ModelError, SageError, UsageError
from sage_cli.store import install as installing
from sage_cli.store.catalogue import parse
from sage_cli.store.choose import Choice, RemoteFile
from sage_cli.store.exchange import exchange
from sage_cli.store.hub import Hub, Listing
from sage_cli.store.install import Plan, install, installed, remove

CONTENTS = {"m-Q4_K_M.gguf": NANO.text, "m-Q8_0.gguf": NANO.text, "mmproj-m.gguf": NANO.mmproj}


class Cache:
    """The Hub cache, filled without a hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "models--me--m"
        self.fetched = 0
        self.after: Callable[[], object] = lambda: None  # when all files of a plan were fetched

    def fetch(self, listing: Listing, file: RemoteFile, _progress: object) -> Path:
        blob, path = self.folder / "blobs" / f"{listing.commit}{file.name}", self.folder / "snapshots" / listing.commit / file.name
        for parent in blob.parent, path.parent, self.folder / "refs":
            parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "refs" / "main").write_text(listing.commit)
        if not path.exists():
            self.fetched += 1
            shutil.copy(CONTENTS[file.name], blob)
            path.symlink_to(os.path.relpath(blob, path.parent))
        if "mmproj" in file.name:
            after, self.after = self.after, lambda: None
            after()
        return path

    def sizes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "blobs").glob("*"))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def cache(tmp_path: Path, models: Path) -> Cache:
    return Cache(tmp_path / "hub")


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "exchange", lambda first, second: False)


def pull(cache: Cache, commit: str = "a" * 40, *, name: str = "m", text: str = "m-Q4_K_M.gguf") -> installing.Installed:
    files = tuple(RemoteFile(file, CONTENTS[file].stat().st_size, "0") for file in (text, "mmproj-m.gguf"))
    plan = Plan(parse("hf:me/m"), Listing("me/m", commit, files), Choice(files, "Q4_K_M", True))
    return install(plan, cast(Hub, cache), lambda file: lambda done: None, name=name)


def there(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if path.name != ".lock")


def test_a_model_is_replaced_in_one_step(cache: Cache, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(cache)
    if not exchange(models, models.parent / "hub"):
        pytest.skip("this file system cannot exchange folders")
    exchange(models, models.parent / "hub")
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("there would be a moment without the model"))
    model = pull(cache, "b" * 40, text="m-Q8_0.gguf")
    assert [path.name for path in model.files] == ["m-Q8_0.gguf", "mmproj-m.gguf"]
    assert there(models) == ["m"]
    assert {path.name[0] for path in (cache.folder / "blobs").iterdir()} == {"b"}


def test_a_reader_that_has_listed_the_old_files_sees_the_new_ones(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(cache)
    complete, listings = installing._complete, iter(range(1))

    def slow(folder: Path) -> installing.Installed | None:
        if next(listings, None) is None:
            return complete(folder)
        pull(cache, "b" * 40, text="m-Q8_0.gguf")
        return None  # what was listed is gone

    monkeypatch.setattr(installing, "_complete", slow)
    (model,) = installed()
    assert model.path.name == "m-Q8_0.gguf"


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.usefixtures("no_exchange")
def test_an_interrupted_replacement_leaves_the_model(cache: Cache, models: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: with a Ctrl-C between two renames both the old and the new one were deleted."""
    pull(cache)
    rename, steps = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        done = rename(self, target)
        steps.append(self)
        if len(steps) == step:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", interrupted)
        pull(cache, "b" * 40)
    (model,) = installed()
    assert model.path.is_file()
    assert there(models) == ["m"]


@pytest.mark.usefixtures("no_exchange")
def test_what_a_killed_process_left_is_put_in_order(cache: Cache, models: Path) -> None:
    pull(cache)
    (models / "m").rename(models / ".m.0123abcd.sage-old")
    (models / ".m.0123abcd.sage-new").mkdir()
    fetched = cache.fetched
    assert pull(cache).path.is_file()
    assert cache.fetched == fetched
    assert there(models) == ["m"]
    shutil.copytree(models / "m", models / ".m.0123abcd.sage-old", symlinks=True)  # killed one step later
    assert remove(installed()[0]) > 0
    assert there(models) == []


def test_folders_of_others_stay(cache: Cache, models: Path) -> None:
    for name in ".m.part", ".m.old", ".git":
        (models / name).mkdir(parents=True)
    pull(cache)
    remove(installed()[0])
    assert there(models) == [".git", ".m.old", ".m.part"]


@pytest.mark.parametrize("other", ["notes.txt", "sub/x", "link"])
def test_files_of_the_user_in_a_models_folder_stay(cache: Cache, models: Path, other: str) -> None:
    """Regression: they were deleted with the model, even by a pull of the very model that was there."""
    pull(cache)
    path = models / "m" / other
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(cache.folder) if other == "link" else path.write_text("mine")
    before = (models / "m").stat().st_ino
    assert pull(cache).path.parent.stat().st_ino == before
    fetched = cache.fetched
    named = re.escape(str(models / "m" / other.partition("/")[0]))
    with pytest.raises(UsageError, match=f"^{named} was not made by sage and would be deleted with the model: move it away first$"):
        pull(cache, "b" * 40)
    assert cache.fetched == fetched
    with pytest.raises(UsageError, match=f"{named} was not made by sage"):
        remove(installed()[0])
    assert path.exists()
    assert installed()[0].path.is_file()


def test_what_the_system_puts_into_folders_stops_nothing(cache: Cache, models: Path) -> None:
    pull(cache)
    (models / "m" / ".DS_Store").touch()
    remove(installed()[0])
    assert there(models) == []


def test_a_model_of_another_user_is_not_removed(cache: Cache, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(cache)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != models / "m" and access(path, mode))
    for change in (lambda: remove(installed()[0]), lambda: pull(cache, "b" * 40)):
        with pytest.raises(SageError, match=r"you may not delete what is in .*/m: remove the model as its owner"):
            change()
    assert installed()[0].path.is_file()
    assert there(models) == ["m"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_cannot_be_deleted_is_told_and_in_nobodys_way(
    cache: Cache, models: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the removal said nothing, and the next pull of that name ended in FileExistsError."""
    if not exchanges:
        monkeypatch.setattr(installing, "exchange", lambda first, second: False)
    pull(cache)
    with monkeypatch.context() as stuck:
        stuck.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        with pytest.raises(SageError, match=r"\.m\.\w+\.sage-new is left of a model and could not be deleted: delete it yourself"):
            remove(installed()[0])
        assert installed() == []
        assert pull(cache).path.is_file()
        with pytest.raises(SageError, match=r"is left of a model"):
            pull(cache, "b" * 40)
        assert pull(cache, "b" * 40).path.is_file()
    pull(cache)
    assert there(models) == ["m"]


def test_a_download_that_cannot_be_deleted_is_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(cache)
    monkeypatch.setattr("sage_cli.store.hub.forget", lambda paths: 0)
    with pytest.raises(SageError, match=r"m-Q4_K_M.gguf is used by no model any more and could not be deleted: delete it yourself"):
        remove(installed()[0])
    assert installed() == []


def test_a_removal_beside_an_installation(cache: Cache) -> None:
    """Regression: the new model had links to files that the removal of the old one had deleted."""
    old = pull(cache)
    cache.after = lambda: remove(old)
    model = pull(cache, name="second")
    assert all(path.is_file() for path in model.files)
    assert [model.name for model in installed()] == ["second"]


def test_files_that_vanish_are_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs clear the Hub cache whenever they like."""
    put = installing._put

    def late(part: Path, target: Path) -> None:
        put(part, target)
        shutil.rmtree(cache.folder / "blobs")

    monkeypatch.setattr(installing, "_put", late)
    with pytest.raises(ModelError, match="the files of m were deleted while it was installed: pull it again"):
        pull(cache)


def test_two_removals_of_one_model(cache: Cache) -> None:
    model = pull(cache)
    assert remove(model) > 0
    assert remove(model) == 0


@pytest.mark.parametrize("links", [(), ("hardlink_to",)])
def test_a_disk_without_symbolic_links(cache: Cache, links: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the download stayed in the Hub cache when a model was removed from exFAT, or on Windows."""
    symlink_to = Path.symlink_to

    def refuse(self: Path, target: Path) -> None:
        if "models--me--m" in self.parts:
            return symlink_to(self, target)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for name in {"symlink_to", "hardlink_to"} - {*links}:
        monkeypatch.setattr(Path, name, refuse)
    model = pull(cache)
    assert not any(path.is_symlink() for path in model.files)
    assert model.source == "hf:me/m"
    before = model.path.stat().st_ino
    assert pull(cache).path.stat().st_ino == before  # left alone
    pull(cache, "b" * 40)
    assert {path.name[0] for path in (cache.folder / "blobs").iterdir()} == {"b"}
    size = cache.sizes()
    assert remove(installed()[0]) == (size if links else 2 * size)
    assert cache.sizes() == 0


def test_a_model_that_the_user_has_put_elsewhere(cache: Cache, models: Path, tmp_path: Path) -> None:
    pull(cache)
    (models / "m").rename(tmp_path / "elsewhere")
    (models / "m").symlink_to(tmp_path / "elsewhere")
    pull(cache, "b" * 40)
    assert there(models) == ["m"]
    assert (tmp_path / "elsewhere").is_dir()
    assert installed()[0].path.is_file()


def test_exchange(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "file").touch()
    assert not exchange(first, second)
    second.mkdir()
    if exchange(first, second):
        assert [path.parent.name for path in tmp_path.rglob("file")] == ["second"]

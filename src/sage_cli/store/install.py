"""Installed models: a folder for each in the models folder, with links to files in the hub's shared cache.

Links are made after all files are downloaded and checked, and the folder is renamed last: a folder that exists is a complete model.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from sage_cli.assets import NANO
from sage_cli.errors import ModelError, UsageError
from sage_cli.store.catalogue import HUB, Reference, parse
from sage_cli.store.choose import Choice, RemoteFile, choose_single, choose_vision
from sage_cli.store.models import is_language_model, shards
from sage_cli.store.paths import models_dir
from sage_cli.store.quantization import UNKNOWN, quantization

if TYPE_CHECKING:
    from sage_cli.store.hub import Hub, Listing, Progress

_SOURCE = ".source"  # in a model's folder: where it comes from
_LONGEST_NAME = 200  # bytes; file systems allow 255, and we add to it
_IN_CACHE = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)/snapshots/[0-9a-f]+/")


@dataclass(frozen=True, slots=True)
class Installed:
    """A model in the models folder.

    Attributes:
        files: all of them; the one to load first.
        source: as in ``sage models pull``; ``""`` for files that the user put there.
        size: in bytes.
    """

    name: str
    kind: Literal["vision", "speech"]
    files: tuple[Path, ...]
    source: str
    size: int

    @property
    def quantization(self) -> str:
        """As its header tells; see :mod:`sage_cli.store.quantization`."""
        try:
            return quantization(self.files[0])
        except ModelError:
            return UNKNOWN

    @property
    def damage(self) -> str | None:
        """What is wrong with its headers, if anything is."""
        try:
            for path in self.files:
                quantization(path)
        except ModelError as error:
            return str(error)
        return None

    @property
    def path(self) -> Path:
        """The path to load it by."""
        return self.files[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned download."""

    reference: Reference
    listing: Listing
    choice: Choice

    @property
    def kind(self) -> Literal["vision", "speech"]:
        return self.reference.entry.kind if self.reference.entry else "vision"


def installed() -> list[Installed]:
    """All complete models in the models folder, by name."""
    folder = models_dir()
    found = [*map(_folder, _subfolders(folder)), *_loose(folder)]
    return sorted((model for model in found if model is not None), key=lambda model: (model.kind != "vision", model.name))


def find(name: str) -> Installed | None:
    """The installed model with this name or reference (see ``sage models pull``)."""
    wanted = {name}
    with suppress(UsageError):
        wanted.add(parse(name).name)
    return next((model for model in installed() if model.name in wanted), None)


def plan(reference: Reference, hub: Hub, *, rooms: Sequence[int] = (), preferred: str | None = None) -> Plan:
    """Find a model's repository and choose its files.

    Args:
        rooms: bytes available for its files in memory, the fastest memory first.
        preferred: quantization to choose if it exists and fits.

    Raises:
        ModelError: it has no repository; the message lists alternatives.
        SageError: the hub cannot be reached.
    """
    from sage_cli.store.hub import NotThereError

    missing: NotThereError | None = None
    for repository in reference.repositories:
        try:
            listing = hub.listing(repository)
        except NotThereError as error:
            missing = missing or error
            continue
        return Plan(reference, listing, _choose(reference, listing, rooms, preferred))
    checkpoint = reference.entry.checkpoint if reference.entry else ""
    others = [f"'sage models pull {HUB}{name} --name {reference.name}'" for name in (hub.conversions(checkpoint) if checkpoint else [])]
    if others:
        raise ModelError(
            f"no known conversion of {reference.name} is on the hub; its users have made others: run {' or '.join(others[:3])}"
        )
    if missing:
        raise missing
    raise ModelError(f"nobody seems to have converted {reference.name} to GGUF yet: pull another model ('sage models list')")


def install(plan: Plan, hub: Hub, progress: Callable[[RemoteFile], Progress], *, name: str | None = None) -> Installed:
    """Download a model and install it.

    Args:
        progress: called with each file; returns a function to call with its number of bytes so far.
        name: to install it under; ``None`` for the reference's own name.

    Raises:
        SageError: a download failed; nothing is installed then.
        UsageError: the name is invalid, or taken by files that are not ours.
    """
    name = name or plan.reference.name
    check_name(name)
    target = models_dir() / name
    paths = [hub.fetch(plan.listing, file, progress(file)) for file in plan.choice.files]
    part = target.with_name(f".{name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(".lock")):  # another process may be installing the same model
        if _holds(target, paths) and (model := _folder(target)):  # and has: nobody who uses it may miss it, even for a moment
            return model
        before = {_linked(path) for path in target.glob("*") if path.is_symlink()}
        shutil.rmtree(part, ignore_errors=True)  # of one that was killed
        part.mkdir()
        old = target.with_name(f".{name}.old")
        try:
            for path in paths:
                _link(path, part / path.name)
            (part / _SOURCE).write_text(f"{HUB}{plan.listing.repository}\n", encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            with suppress(FileNotFoundError):
                target.rename(old)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        _delete_unused(before)
    model = _folder(target)
    assert model is not None
    return model


def check_name(name: str) -> None:
    """Check, before downloading gigabytes, that a model can have this name.

    Raises:
        UsageError: it is no valid folder name, has another meaning, or is taken by files that are not ours.
    """
    if name == NANO.name:
        raise UsageError(f"the bundled model is called {name}: choose another name with --name")
    if not name or name.startswith((".", "-", HUB)) or not name.isprintable() or "/" in name or "\\" in name:
        raise UsageError(f"no model can be called {name!r}: choose a name without slashes, such as --name my-model")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise UsageError(f"the name is longer than {_LONGEST_NAME} bytes: choose a shorter one with --name")
    target = models_dir() / name
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or not ((target / _SOURCE).is_file() or all(path.is_symlink() for path in target.iterdir())):
        raise UsageError(f"{target} is there and was not made by sage: give the model another name with --name, or move it away")


def remove(model: Installed, *, keep_files: bool = False) -> int:
    """Uninstall a model, and delete its files from the Hub cache unless another installed model uses them.

    Returns:
        Freed bytes.

    Raises:
        UsageError: it was not installed by us.
    """
    check_removable(model)
    snapshots = {_linked(path) for path in model.files if path.is_symlink()}
    copied = sum(path.stat().st_size for path in model.files if not path.is_symlink() and path.stat().st_nlink == 1)
    shutil.rmtree(model.path.parent)
    return copied + (0 if keep_files else _delete_unused(snapshots))


def check_removable(model: Installed) -> None:
    """Check that a model may be deleted.

    Raises:
        UsageError: it was not installed by us.
    """
    if not model.source:
        raise UsageError(f"{model.name} was not pulled by sage: delete it yourself, it is {model.path}")
    if model.path.parent == models_dir():
        raise UsageError(f"{model.path} does not lie in a folder of its own: delete it yourself")


def _choose(reference: Reference, listing: Listing, rooms: Sequence[int], preferred: str | None) -> Choice:
    """The best version that fits in the fastest memory, otherwise in main memory; two bits per weight only as a last resort."""
    repository, quantization = listing.repository, reference.quantization
    if reference.match:
        return choose_single(listing.files, reference.match, repository=repository, quantization=quantization)
    spaces: Sequence[int | None] = rooms or (None,)
    choices = [
        choose_vision(listing.files, repository=repository, quantization=quantization, preferred=preferred, room=room) for room in spaces
    ]
    return next((choice for choice in choices if choice.fits and "Q2" not in choice.quantization), choices[-1])


def _holds(folder: Path, paths: Sequence[Path]) -> bool:
    """Whether a model's folder has exactly these files, of this commit."""
    there = {path.name: path for path in folder.glob("[!.]*")}
    return there.keys() == {path.name for path in paths} and all(_is_link(there[path.name], path) for path in paths)


def _is_link(link: Path, target: Path) -> bool:
    return _linked(link) == target if link.is_symlink() else link.samefile(target)


# ---- folders -------------------------------------------------------------------------------------------------------


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []


def _folder(folder: Path) -> Installed | None:
    """The model in a folder; ``None`` if it is incomplete, for example because the Hub cache was cleared."""
    with suppress(FileNotFoundError):  # another process removes or replaces it just now
        return _complete(folder)
    return None


def _complete(folder: Path) -> Installed | None:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".gguf", ".bin"))
    if not files or not all(path.is_file() for path in files):
        return None
    text = next((path for path in files if path.suffix == ".gguf" and is_language_model(path)), None)
    if text is not None:
        return _model(folder.name, "vision", [text, *(path for path in files if path != text)])
    speech = next((path for path in files if path.name.startswith("ggml-")), None)
    return _model(folder.name, "speech", [speech]) if speech else None


def _loose(folder: Path) -> list[Installed]:
    """Files that the user put directly into the models folder."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file()]
    texts = [path for path in files if path.suffix == ".gguf" and is_language_model(path)]
    sounds = [path for path in files if path.name.startswith("ggml-") and path.suffix == ".bin" and "silero" not in path.name]
    return [
        *(_model(path.stem, "vision", shards(path)) for path in texts),
        *(_model(path.stem, "speech", [path]) for path in sounds),
    ]


def _model(name: str, kind: Literal["vision", "speech"], files: Sequence[Path]) -> Installed:
    match = _IN_CACHE.search(_linked(files[0]).as_posix()) if files[0].is_symlink() else None
    source = f"{HUB}{match['owner']}/{match['name']}" if match else ""
    if not source and files[0].parent != models_dir():
        with suppress(OSError, UnicodeDecodeError):
            source = (files[0].parent / _SOURCE).read_text(encoding="utf-8").strip()
    return Installed(name, kind, tuple(files), source, sum(path.stat().st_size for path in files))


def _link(target: Path, link: Path) -> None:
    """Link a file, or copy it if the file system has no links."""
    for name_it in (link.symlink_to, link.hardlink_to):
        try:
            name_it(target)
        except OSError:  # Windows without the right to, exFAT, some network drives
            continue
        return
    shutil.copyfile(target, link)


def _linked(link: Path) -> Path:
    """The target of a link. Windows writes it with a prefix that makes it differ from every other path."""
    return Path(str(link.readlink()).removeprefix("\\\\?\\"))


def _delete_unused(snapshots: set[Path]) -> int:
    """Delete the files from the Hub cache that no installed model uses; return the freed bytes."""
    used = {path.resolve() for model in installed() for path in model.files}
    unused = {path for path in snapshots if path.exists() and path.resolve() not in used}
    if not unused:
        return 0
    from sage_cli.store.hub import forget

    return forget(unused)

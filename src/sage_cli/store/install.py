"""Installed models: a folder for each in the models folder, with links to files in the hub's shared cache.

Links are made after all files are downloaded and checked, and the folder gets its name last: a folder that exists is a complete model.
Processes that install or remove take turns; those that read need not.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from sage_cli.assets import NANO
from sage_cli.errors import ModelError, SageError, UsageError
from sage_cli.store.catalogue import HUB, Reference, parse
from sage_cli.store.choose import Choice, RemoteFile, choose_single, choose_vision
from sage_cli.store.exchange import exchange
from sage_cli.store.models import is_language_model, shards
from sage_cli.store.paths import models_dir
from sage_cli.store.private import private_folder
from sage_cli.store.quantization import UNKNOWN, quantization

if TYPE_CHECKING:
    from sage_cli.store.hub import Hub, Listing, Progress

_SOURCE = ".source"  # in a model's folder: the repository it comes from, and the paths of its files in the Hub cache
_NEW, _OLD = ".sage-new", ".sage-old"  # ends of hidden folders: one that is being made or removed, one that has lost its name
_NAME_OF = re.compile(rf"\.(.+)\.[0-9a-f]{{8}}{re.escape(_OLD)}")  # as _unused makes them
_LITTER = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini")  # that systems put into any folder
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
    with suppress(UsageError, ModelError):
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
        UsageError: the name is invalid, or taken by files that are not ours, or such files lie in the folder of a model to replace.
    """
    name = name or plan.reference.name
    while True:
        check_name(name)
        if not _is_made_of(models_dir() / name, plan):
            _check_expendable(models_dir() / name)
        paths = [hub.fetch(plan.listing, file, progress(file)) for file in plan.choice.files]  # long: others may work meanwhile
        with _locked() as folder:
            if not all(path.is_file() for path in paths):
                continue  # a removal of another model has taken them along
            target = folder / name
            if _holds(target, paths) and (model := _folder(target)):
                return model  # left alone: others are using it
            check_name(name)
            _check_expendable(target)
            before = _snapshots(target)
            part = _unused(target, _NEW)
            part.mkdir()
            for path in paths:
                _link(path, part / path.name)
            record = [f"{HUB}{plan.listing.repository}", json.dumps([str(path) for path in paths])]
            (part / _SOURCE).write_text("\n".join([*record, ""]), encoding="utf-8")
            _put(part, target)
            _delete_unused(before)
            if model := _folder(target):
                return model
            raise ModelError(f"the files of {name} were deleted while it was installed: pull it again")


def _put(part: Path, target: Path) -> None:
    """Give a model its name. Where the system can, it changes places with the one that had it; :func:`_tidy` does the rest."""
    if not exchange(part, target):
        with suppress(FileNotFoundError):
            target.rename(_unused(target, _OLD))
        part.rename(target)


def _unused(target: Path, end: str) -> Path:
    """A hidden name that nothing has: what an earlier run could not delete may still be there."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{end}")


@contextmanager
def _locked() -> Iterator[Path]:
    """The models folder for one process at a time, without what interrupted ones left in it.

    Raises:
        SageError: what was removed or replaced meanwhile cannot be deleted.
    """
    folder = models_dir()
    private_folder(folder)
    with FileLock(folder / ".lock"):
        before = _tidy(folder)
        try:
            yield folder
        finally:
            left = _tidy(folder) - before
        if left:
            raise SageError(f"{min(left)} is left of a model and could not be deleted: delete it yourself")


def _tidy(folder: Path) -> set[Path]:
    """Give back the name of a model whose successor never came, and delete what nobody needs; return what cannot be deleted."""
    for old in folder.glob(f".*{_OLD}"):
        if match := _NAME_OF.fullmatch(old.name):
            target = folder / match[1]
            # Nor may half of it get the name back, when its successor is removed.
            old.rename(_unused(target, _NEW) if target.exists() or target.is_symlink() else target)
    doomed = [*folder.glob(f".*{_NEW}")]
    for path in doomed:
        if path.is_symlink():  # the user has put the model elsewhere
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    return {path for path in doomed if os.path.lexists(path)}


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
        UsageError, SageError: see :func:`check_removable`; or something of it cannot be deleted.
    """
    check_removable(model)
    folder = model.path.parent
    with _locked():
        if not folder.is_dir():  # another process was faster
            return 0
        _check_expendable(folder)
        snapshots = _snapshots(folder)
        stats = [path.lstat() for path in folder.glob("[!.]*")]
        freed = sum(stat.st_size for stat in stats if S_ISREG(stat.st_mode) and stat.st_nlink == 1)
        folder.rename(_unused(folder, _NEW))  # in one step: there is no half of a model
        return freed + (0 if keep_files else _delete_unused(snapshots))


def check_removable(model: Installed) -> None:
    """Check that a model may be deleted, and nothing else with it.

    Raises:
        UsageError: it was not installed by us, or files of others lie in its folder.
        SageError: this user may not delete it.
    """
    if not model.source:
        raise UsageError(f"{model.name} was not pulled by sage: delete it yourself, it is {' and '.join(map(str, model.files))}")
    if model.path.parent == models_dir():
        raise UsageError(f"{model.path} does not lie in a folder of its own: delete it yourself")
    _check_expendable(model.path.parent)


def _check_expendable(folder: Path) -> None:
    """Check that a model's folder can be deleted, and nothing else with it."""
    if folder.is_symlink() or not folder.is_dir():
        return  # only the link is deleted
    if other := next((path for path in sorted(folder.iterdir()) if not _is_ours(path) and not _LITTER.fullmatch(path.name)), None):
        raise UsageError(f"{other} was not made by sage and would be deleted with the model: move it away first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SageError(f"you may not delete what is in {folder}: remove the model as its owner")


def _is_ours(path: Path) -> bool:
    """Whether sage has put something into a model's folder."""
    if path.is_symlink():
        return bool(_IN_CACHE.search(_linked(path).as_posix()))
    return path.name == _SOURCE or path.name in {file.name for file in _recorded(path.parent)}


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


def _is_made_of(folder: Path, plan: Plan) -> bool:
    """Whether a model was made of the files of a plan, so that nothing will be replaced."""
    wanted = sorted(f"{plan.listing.commit}/{file.name}" for file in plan.choice.files)
    made = sorted(path.as_posix() for path in _snapshots(folder))
    return len(made) == len(wanted) and all(path.endswith(f"/{end}") for path, end in zip(made, wanted, strict=True))


def _holds(folder: Path, paths: Sequence[Path]) -> bool:
    """Whether a model's folder has exactly these files of ours, of this commit."""
    there = {path.name: path for path in folder.glob("[!.]*") if path.name in {one.name for one in paths} or _is_ours(path)}
    return there.keys() == {path.name for path in paths} and all(_is_link(there[path.name], path) for path in paths)


def _is_link(link: Path, target: Path) -> bool:
    if link.is_symlink():
        return _linked(link) == target
    return link.samefile(target) or (target in _recorded(link.parent) and link.stat().st_size == target.stat().st_size)


def _snapshots(folder: Path) -> set[Path]:
    """The files in the Hub cache that a model was made of, whether it has links to them or copies."""
    return {_linked(path) for path in folder.glob("*") if path.is_symlink() and _is_ours(path)} | _recorded(folder)


def _recorded(folder: Path) -> set[Path]:
    with suppress(OSError, ValueError, IndexError, TypeError, RecursionError):  # a folder that was made by hand, or is damaged
        return {Path(path) for path in json.loads((folder / _SOURCE).read_text(encoding="utf-8").split("\n")[1])}
    return set()


# ---- folders -------------------------------------------------------------------------------------------------------


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []


def _folder(folder: Path) -> Installed | None:
    """The model in a folder; ``None`` if it is incomplete, for example because the Hub cache was cleared."""
    with suppress(FileNotFoundError):  # another process removes it just now
        while True:
            before = folder.stat().st_ino
            with suppress(FileNotFoundError):
                if model := _complete(folder):
                    return model
            if folder.stat().st_ino == before:  # else another has taken its place since
                return None
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
            source = (files[0].parent / _SOURCE).read_text(encoding="utf-8").partition("\n")[0].strip()
    return Installed(name, kind, tuple(files), source, sum(path.stat().st_size for path in files))


def _link(target: Path, link: Path) -> None:
    """Link a file, or copy it if the file system has no links."""
    for name_it, content in ((link.symlink_to, target), (link.hardlink_to, target.resolve())):
        try:
            name_it(content)
        except OSError:  # Windows without the right to, exFAT, some network drives
            continue
        return
    shutil.copyfile(target, link)


def _linked(link: Path) -> Path:
    """The target of a link. Windows writes it with a prefix that makes it differ from every other path."""
    return Path(str(link.readlink()).removeprefix("\\\\?\\"))


def _delete_unused(snapshots: set[Path]) -> int:
    """Delete the files from the Hub cache that no installed model uses; return the freed bytes.

    Raises:
        SageError: one cannot be deleted; huggingface-hub only logs that.
    """
    used = {path.resolve() for model in installed() for path in model.files}
    unused = {path for path in snapshots if path.exists() and path.resolve() not in used}
    if not unused:
        return 0
    from sage_cli.store.hub import forget

    freed = forget(unused)
    if kept := sorted(path for path in unused if os.path.lexists(path)):
        raise SageError(f"{kept[0]} is used by no model any more and could not be deleted: delete it yourself")
    return freed

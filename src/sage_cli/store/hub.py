"""The Hugging Face Hub: lists repositories and downloads their files into the Hub's shared cache.

huggingface-hub does listing, authentication, the cache layout and locks. The transfer is our own, because the library's discards
half-finished files when a process ends, loses up to 10 MB with every dropped connection, and checks sizes but not checksums. An unfinished
file is ``blobs/HASH.incomplete`` and is renamed only if its checksum is right. Plain HTTP, not Xet, because it can be resumed.

Nothing here is called unless the user requested a download.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

# Read when huggingface_hub is imported. The warning about disks without symbolic links is of no use during a command.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_SYMLINKS_WARNING", "1")

import httpx2
from huggingface_hub import HfApi, constants, get_session, get_token, hf_hub_download, hf_hub_url, scan_cache_dir
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from sage_cli.errors import ModelError, SageError, UsageError
from sage_cli.store.choose import RemoteFile
from sage_cli.text import without_password
from sage_cli.version import __version__

logger = logging.getLogger(__name__)
# The library must not write to the terminal.
logging.getLogger("huggingface_hub").handlers.clear()

T = TypeVar("T")
Progress = Callable[[int], None]  # bytes that are there

_OFF: Final = "downloads are off (by --offline, the setting offline, or HF_HUB_OFFLINE)"
_PATIENCE: Final = 6  # consecutive failures without progress before giving up
_WAIT: Final = 0.5  # seconds between checks of another process's progress
_LONGEST_WAIT: Final = 300  # seconds a server may ask us to wait
_RETRIED: Final = frozenset((408, 429, 500, 502, 503, 504))
_COMMIT: Final = re.compile(r"\w[\w.-]*")  # mirrors have commits of their own kind, or none
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]


class NotThereError(ModelError):
    """A repository that does not exist, or that we may not see."""


class Hub:
    """A hub and the cache for its files.

    Args:
        endpoint: its address; ``None`` is ``HF_ENDPOINT``, else huggingface.co.
        cache: folder of the cache; ``None`` is the one that all programs share (``HF_HUB_CACHE``, ``HF_HOME``).
        offline: make no connections, use the cache only. ``HF_HUB_OFFLINE`` sets it too.
    """

    def __init__(self, endpoint: str | None = None, cache: Path | None = None, *, offline: bool = False) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.shown = without_password(self.endpoint)
        self.cache = cache or Path(constants.HF_HUB_CACHE)
        self.offline = offline or constants.is_offline_mode()
        self._api = HfApi(self.endpoint, library_name="sage-cli", library_version=__version__)

    def listing(self, repository: str) -> Listing:
        """List a repository, from the hub or, offline, from the cache.

        Raises:
            NotThereError: there is no such repository, or it needs a token.
            SageError: the hub cannot be reached.
        """
        if self.offline:
            return self._cached(repository)
        with self._explaining(repository):
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            info = self._patiently(lambda: self._api.model_info(repository, files_metadata=True, timeout=timeout))
        # All of it becomes paths in the cache: what no hub would list could lead out of it.
        commit = info.sha or "main"
        if not _COMMIT.fullmatch(commit):
            raise SageError(f"{self.shown} lists a commit of {repository} that is none: check HF_ENDPOINT")
        files = [RemoteFile(file.rfilename, file.size or 0, _checksum(file)) for file in info.siblings or () if _is_inside(file.rfilename)]
        return Listing(repository, commit, tuple(files))

    def conversions(self, checkpoint: str) -> list[str]:
        """Repositories that say they are GGUF conversions of a checkpoint, the most downloaded first.

        Raises:
            SageError: the hub cannot be reached.
        """
        if self.offline:
            return []
        with self._explaining(checkpoint):
            found = self._api.list_models(filter=["gguf", f"base_model:quantized:{checkpoint}"], sort="downloads", limit=5)
            return [model.id for model in found]

    def has(self, listing: Listing, file: RemoteFile) -> Path | None:
        """The file in the cache, if it is there and complete."""
        path = self._folder(listing.repository) / "snapshots" / listing.commit / file.path
        return path if path.is_file() and path.stat().st_size == file.size else None

    def fetch(self, listing: Listing, file: RemoteFile, progress: Progress = lambda _bytes: None) -> Path:
        """Download a file into the cache, unless it is there. Resumes an unfinished download.

        Args:
            progress: called repeatedly with the number of bytes so far.

        Returns:
            Its path in the cache: a link with the name it has in the repository.

        Raises:
            SageError: the hub cannot be reached or keeps failing, the disk is full, or the file is damaged.
        """
        if path := self.has(listing, file):
            progress(file.size)
            return path
        if self.offline:
            raise ModelError(f"{file.name} is not in {self.cache}, and {_OFF}")
        if not file.sha256:
            raise ModelError(f"{listing.repository} has no checksum for {file.name}: choose another repository")
        folder = self._folder(listing.repository)
        with self._explaining(listing.repository), ExitStack() as stack:
            blob = folder / "blobs" / file.sha256
            part = blob.with_name(f"{blob.name}.incomplete")
            lock = self.cache / ".locks" / folder.name / f"{blob.name}.lock"  # where the library takes it, too
            for parent in blob.parent, lock.parent:
                parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    stack.enter_context(WeakFileLock(lock, timeout=_WAIT))
                    break
                except TimeoutError:  # another process downloads it: show its progress
                    progress(part.stat().st_size if part.exists() else 0)
            if not blob.exists():
                self._download(listing, file, part, progress)
                part.replace(blob)
        progress(file.size)
        with self._explaining(listing.repository):
            # The content is there: the library links it to its name and commit.
            found = hf_hub_download(listing.repository, file.path, revision=listing.commit, cache_dir=self.cache, endpoint=self.endpoint)
            _remember_commit(folder, listing.commit)
        return Path(found)

    # ---- the transfer ----------------------------------------------------------------------------------------------

    def _download(self, listing: Listing, file: RemoteFile, path: Path, progress: Progress) -> None:
        """Complete ``path``, with retries, and check it. The caller holds the lock."""
        with _Part(path, file.size) as part:
            _check_room(path, file.size - part.position)
            progress(part.position)
            failures = 0
            while part.position < file.size:
                before, problem = part.position, None
                try:
                    self._receive(listing, file, part, progress)
                except (httpx2.TransportError, HfHubHTTPError) as error:
                    problem = error
                failures = 0 if part.position > before else failures + 1
                if problem is None and not failures:
                    continue
                if failures >= _PATIENCE or not _passing(problem):
                    raise problem or SageError(f"{self.shown} sends nothing of {file.name}: try again later")
                logger.info("%s: %s; going on from byte %d", file.name, problem, part.position)
                time.sleep(_pause(problem, failures))
            checksum = part.checksum
        if checksum != file.sha256:
            path.unlink()
            raise SageError(f"{file.name} arrived damaged (its checksum is not the hub's) and was deleted: run the command again")

    def _receive(self, listing: Listing, file: RemoteFile, part: _Part, progress: Progress) -> None:
        """One request for the missing bytes. The address redirects to a storage host, which must not get our token."""
        url = hf_hub_url(listing.repository, file.path, revision=listing.commit, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="sage-cli", library_version=__version__)
        headers |= {"Range": f"bytes={part.position}-", "Accept-Encoding": "identity"}
        with get_session().stream(
            "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise SageError(_portal(self.shown))
            if response.status_code != 206:  # a server without support for ranges sends the whole file
                part.restart()
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {part.position}-"):
                raise httpx2.RemoteProtocolError("not the range that was asked for")
            for piece in response.iter_raw():
                part.append(piece)
                progress(part.position)

    # ---- the cache -------------------------------------------------------------------------------------------------

    def _folder(self, repository: str) -> Path:
        return self.cache / repo_folder_name(repo_id=repository, repo_type="model")

    def _cached(self, repository: str) -> Listing:
        """The files of a repository in the cache, at the newest commit known."""
        folder = self._folder(repository)
        try:
            commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotThereError(f"{repository} is not in {self.cache}, and {_OFF}") from error
        snapshot = folder / "snapshots" / commit
        files = (
            RemoteFile(path.relative_to(snapshot).as_posix(), path.stat().st_size, path.resolve().name)
            for path in sorted(snapshot.rglob("*"))
            if path.is_file()
        )
        return Listing(repository, commit, tuple(files))

    # ---- failures --------------------------------------------------------------------------------------------------

    @contextmanager
    def _explaining(self, repository: str) -> Iterator[None]:
        """Turn errors of the libraries into messages for users."""
        try:
            yield
        except SageError:
            raise
        except HFValidationError as error:
            raise UsageError(f"{repository} is not a repository: write hf:OWNER/REPO") from error
        except GatedRepoError as error:
            page = f"{self.shown}/{repository}"
            raise NotThereError(f"{repository} is gated: accept its terms on {page}, then set HF_TOKEN to a token of yours") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
                refused = " (HF_TOKEN was refused)" if status == 401 and get_token() else ""
                message = f"no repository {repository} at {self.shown}, or it is private{refused}: check the name, or set HF_TOKEN"
                raise NotThereError(message) from error
            raise SageError(f"{self.shown} answered {status} for {repository}: try again later; what has arrived is kept") from error
        except (httpx2.TransportError, LocalEntryNotFoundError) as error:
            raise SageError(
                f"no connection to {self.shown} ({_first_line(error)}): check the network or HF_ENDPOINT; what has arrived is kept"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SageError(_portal(self.shown)) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise SageError(f"no room left in {self.cache}: make some, or move it with HF_HOME; what has arrived is kept") from error

    def _patiently(self, call: Callable[[], T]) -> T:
        """Retry while the hub is busy. The library does so for lists of repositories, but not for single ones."""
        for failures in range(1, _PATIENCE):
            try:
                return call()
            except HfHubHTTPError as error:
                if not _passing(error):
                    raise
                time.sleep(_pause(error, failures))
        return call()


class _Part:
    """An unfinished download with its checksum so far. A context manager."""

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._digest = hashlib.sha256()
        self._file = path.open("a+b")
        self._file.seek(0)
        while piece := self._file.read(1 << 20):
            self._digest.update(piece)
        if self.position > size:
            self.restart()

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        return self._file.tell()

    @property
    def checksum(self) -> str:
        return self._digest.hexdigest()

    def append(self, piece: bytes) -> None:
        """Append data; drop what exceeds the size."""
        piece = piece[: self._size - self.position]
        self._file.write(piece)
        self._file.flush()  # Python 3.14 would keep 128 KiB, which a kill loses
        self._digest.update(piece)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()


def _checksum(file: RepoSibling) -> str | None:
    found = file.lfs.sha256.lower() if file.lfs and file.lfs.sha256 else ""
    return found if _SHA256.fullmatch(found) else None


def _is_inside(path: str) -> bool:
    """Whether the path of a file in a repository stays in the folder that it is put into, on any system."""
    return not (path.startswith("/") or {"", ".", ".."} & {*path.split("/")} or re.search(r"[\\\0]", path))


def _check_room(path: Path, missing: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < missing:
        raise SageError(
            f"{missing / 1e9:.1f} GB are missing in {path.parent.parent} and the disk has {free / 1e9:.1f} GB: "
            "make room, or set HF_HOME to another disk"
        )


def _remember_commit(folder: Path, commit: str) -> None:
    """Record which commit is the newest, as the library does, so that other programs find the files without a connection."""
    reference = folder / "refs" / "main"
    reference.parent.mkdir(exist_ok=True)
    part = reference.with_name(f"main.{os.getpid()}")
    part.write_text(commit, encoding="utf-8")
    part.replace(reference)


def _passing(problem: Exception | None) -> bool:
    """Whether a retry may succeed."""
    return problem.response.status_code in _RETRIED if isinstance(problem, HfHubHTTPError) else True


def _pause(problem: Exception | None, failures: int) -> float:
    """Seconds to wait: what the server asks for, otherwise longer each time.

    Raises:
        SageError: the server asks for too long a wait.
    """
    asked = problem.response.headers.get("Retry-After", "") if isinstance(problem, HfHubHTTPError) else ""
    if not (asked.isascii() and asked.isdigit()):
        return float(min(2 ** max(0, failures - 1), 16))
    if int(asked[:9]) > _LONGEST_WAIT:
        raise SageError(f"the hub asks to come back in {int(asked[:9]) // 60} minutes; what has arrived is kept")
    return float(asked)


def _portal(endpoint: str) -> str:
    """The likely cause if the server does not answer like a hub."""
    return (
        f"what answers at {endpoint} is not a Hugging Face hub, perhaps the login page of this network: "
        "log in with a browser, or check HF_ENDPOINT; what has arrived is kept"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def forget(paths: set[Path]) -> int:
    """Delete files from the cache, given by the links that :meth:`Hub.fetch` returned.

    Returns:
        Bytes that were freed: content that other commits use stays.
    """
    caches = {path.parents[index] for path in paths for index, name in enumerate(path.parts[::-1]) if name.startswith("models--")}
    wanted = {path.parent.resolve() / path.name for path in paths}
    freed = 0
    for cache in caches:
        scan = scan_cache_dir(cache)
        files = [
            file
            for repository in scan.repos
            for revision in repository.revisions
            for file in revision.files
            if file.file_path.parent.resolve() / file.file_path.name in wanted
        ]
        strategy = scan.delete_files(*files)
        freed += strategy.expected_freed_size
        strategy.execute()
    return freed

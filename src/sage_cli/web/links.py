"""Downloads videos from links with yt-dlp, once, into the cache, with the site's captions; broken downloads resume."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from sage_cli.errors import ExtraError, SageError, VideoError
from sage_cli.hardware.waiting import GLANCE_S
from sage_cli.signals import check_interrupted
from sage_cli.store.private import private_folder

logger = logging.getLogger(__name__)

_TALLEST: Final = 720  # pixels; models see a fraction of that
_RETRIES: Final = 5
_TIMEOUT_S: Final = 20.0
_NONE: Final = ".none"  # of an empty file beside a video: the site has no captions in the language before it
_UNFINISHED: Final = frozenset({".part", ".ytdl"})
_SIDE_FILES: Final = frozenset({".vtt", ".srt", ".ass", _NONE, *_UNFINISHED})


def host_of(link: str) -> str:
    """The host of a link, for people.

    Raises:
        VideoError: it has none.
    """
    with suppress(ValueError):
        if host := urlsplit(link).hostname:
            return host
    raise VideoError(f"{link} names no host: check the link")


def download(link: str, folder: Path, progress: Callable[[int, int], None] | None = None, *, languages: tuple[str, ...] = ()) -> Path:
    """The video behind a link as a file in a folder, downloaded unless it is there.

    Another process that downloads it is waited for. Captions that were not asked for before are fetched when they are.

    Args:
        folder: made if needed.
        progress: called with bytes downloaded and total bytes (0 if unknown); may raise to stop.
        languages: of captions to download; the site's default if empty.

    Raises:
        ExtraError: yt-dlp is not installed.
        VideoError: there is no video, or it cannot be downloaded.
        SageError: the host cannot be reached, or the connection broke.
    """
    name = hashlib.sha256(link.encode()).hexdigest()[:24]
    if (found := _finished(folder, name)) and not _missing(folder, name, languages):
        return found
    private_folder(folder)
    with _alone(folder / f".{name}.lock"):
        missing = _missing(folder, name, languages)
        if found := _finished(folder, name):
            if missing:
                try:
                    _fetch(link, folder, name, missing, skip_download=True)
                except SageError as error:  # the video can be used without them
                    logger.warning("no captions: %s", error)
                    return found
        else:
            _fetch(link, folder, name, missing, progress_hooks=[_hook(progress)])
        for language in _missing(folder, name, languages):
            (folder / f"{name}.{language}{_NONE}").touch()
        if found := _finished(folder, name):
            return found
    raise VideoError(f"{host_of(link)}: there is no video behind {link}")


def _fetch(link: str, folder: Path, name: str, languages: Sequence[str], **more: Any) -> None:
    try:
        from yt_dlp import YoutubeDL
        from yt_dlp.networking.exceptions import TransportError
        from yt_dlp.utils import DownloadError, YoutubeDLError
    except ImportError:
        raise ExtraError("links need yt-dlp", "url") from None

    # Without an ffmpeg program, picture and sound cannot be merged: take a single file.
    together = f"b[height<={_TALLEST}]/b/bv*+ba"
    best = f"bv*[height<={_TALLEST}]+ba/{together}" if shutil.which("ffmpeg") else together
    options = {
        "outtmpl": {"default": f"{str(folder).replace('%', '%%')}/{name}.%(ext)s"},
        "format": best,
        "noplaylist": True,
        "playlist_items": "1",
        "continuedl": True,
        "retries": _RETRIES,
        "fragment_retries": _RETRIES,
        "socket_timeout": _TIMEOUT_S,
        "writesubtitles": True,
        "writeautomaticsub": True,
        "subtitleslangs": [f"{language}(-.*)?" for language in languages] or ["en.*", "-live_chat"],  # pt-BR is pt, too
        "subtitlesformat": "vtt/srt/best",
        "ignoreerrors": False,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": logger,
        "cachedir": False,
        "updatetime": False,  # the file's time says when it was last of use, and not when it was published
        **more,
    }
    try:
        with YoutubeDL(options) as downloader:
            downloader.download([link])
    except (DownloadError, YoutubeDLError) as error:
        if isinstance((getattr(error, "exc_info", None) or (None, error))[1], TransportError):
            raise SageError(f"{host_of(link)}: {_reason(error)}; check the connection, and try again to resume") from error
        raise VideoError(f"{host_of(link)}: {_reason(error)}; check the link, or try again to resume") from error


def _hook(progress: Callable[[int, int], None] | None) -> Callable[[dict[str, Any]], None]:
    def hook(state: dict[str, Any]) -> None:
        if progress and state["status"] == "downloading":
            progress(int(state.get("downloaded_bytes") or 0), int(state.get("total_bytes") or state.get("total_bytes_estimate") or 0))

    return hook


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two downloads of one link would both append to its file."""
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=GLANCE_S)
            break
        except Timeout:
            check_interrupted()
    try:
        yield
    finally:
        lock.release()


def _missing(folder: Path, name: str, languages: Sequence[str]) -> list[str]:
    """The languages without captions, of which the site was not asked."""
    beside = [path.name for path in folder.glob(f"{name}.*") if path.suffix not in _UNFINISHED]
    return [language for language in languages if not any(re.match(re.escape(f"{name}.{language}") + "[.-]", one) for one in beside)]


def _finished(folder: Path, name: str) -> Path | None:
    files = [path for path in folder.glob(f"{name}.*") if path.suffix not in _SIDE_FILES and path.stem == name]
    return files[0] if files else None


def _reason(error: Exception) -> str:
    """yt-dlp's message on one line, without its advice on reporting bugs."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).removeprefix("ERROR: ")
    return " ".join(re.split(r"; please report| \(caused by ", text)[0].split())[:200].rstrip(".")

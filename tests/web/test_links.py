from __future__ import annotations

import gc
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sage_cli.errors import SageError, VideoError
from sage_cli.text import is_link
from sage_cli.video import Video
from sage_cli.web.links import download, host_of

_PAGE = b"""<!DOCTYPE html><html><head><title>A talk</title></head><body><video src="/talk.mp4">
<track kind="subtitles" srclang="de" src="/talk.de.vtt"><track kind="subtitles" srclang="pt-BR" src="/talk.de.vtt"></video></body></html>"""
_GERMAN = b"WEBVTT\n\n00:00.000 --> 00:02.000\nGuten Tag.\n"


class _Site(BaseHTTPRequestHandler):
    """Serves one video, whole or from a byte on, and a page with it and its captions in German.

    ``breaks`` is after how many bytes the next connection ends, ``pause_s`` the time before a body.
    """

    data: bytes
    log: list[str]
    breaks: list[int]
    pages: list[str]
    pause_s = 0.0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send(body=False)

    def do_GET(self) -> None:
        self._send(body=True)

    def _send(self, *, body: bool) -> None:
        if text := {"/page.html": _PAGE, "/talk.de.vtt": _GERMAN}.get(self.path):
            self.pages.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("Content-Type", "text/vtt" if self.path.endswith(".vtt") else "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if body:
                self.wfile.write(text)
            return
        if not self.path.startswith("/talk.mp4"):
            self.send_error(404)
            return
        asked = self.headers.get("Range") or ""
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.log.append(f"{self.command} {first}")
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.data) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(self.data) - 1}/{len(self.data)}")
        self.end_headers()
        if body:
            time.sleep(self.pause_s)
            end = first + self.breaks.pop(0) if self.breaks and len(self.log) > 1 else len(self.data)
            self.wfile.write(self.data[first:end])


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _sockets() -> Iterator[None]:
    """yt-dlp leaves broken connections to the garbage collector: it comes while this module's filter holds."""
    yield
    gc.collect()


@pytest.fixture
def site(clip_path: Path) -> Iterator[Any]:
    handler = type("Site", (_Site,), {"data": clip_path.read_bytes(), "log": [], "breaks": [], "pages": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.url = f"http://127.0.0.1:{server.server_address[1]}/talk.mp4"  # type: ignore[attr-defined]
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True)
    thread.start()
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "link"), [("https://a.example/v", True), ("HTTPS://A.example", True), ("http.mp4", False), ("./https://x", False)]
)
def test_what_is_a_link(text: str, link: bool) -> None:
    assert is_link(text) is link
    assert not link or host_of(text) == "a.example"


@pytest.mark.parametrize("link", ["http://[", "https://:80/v"])
def test_a_link_without_a_host(link: str) -> None:
    with pytest.raises(VideoError, match="names no host"):
        host_of(link)


def test_a_link_is_downloaded_once(site: Any, tmp_path: Path, clip_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = download(site.url, tmp_path / "100%(ext)s", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == clip_path.read_bytes()
    assert Video(path).duration == Video(clip_path).duration
    assert seen[-1][0] == len(site.data)
    asked = len(site.log)
    assert download(site.url, path.parent) == path
    assert len(site.log) == asked


def test_a_download_goes_on_where_it_broke_off(site: Any, tmp_path: Path, clip_path: Path) -> None:
    site.breaks = [3000, 2000]
    assert download(site.url, tmp_path).read_bytes() == clip_path.read_bytes()
    assert [line for line in site.log if line.startswith("GET") and not line.endswith(" 0")]


def test_two_downloads_of_a_link_at_once_are_one(site: Any, tmp_path: Path, clip_path: Path) -> None:
    site.pause_s = 0.3
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: download(site.url, tmp_path), range(2))
    assert first == second
    assert first.read_bytes() == clip_path.read_bytes()
    alone = tmp_path / "alone"
    both = len(site.log)
    download(site.url, alone)
    assert len(site.log) == 2 * both


def test_captions_are_fetched_when_their_language_is_asked_for(site: Any, tmp_path: Path) -> None:
    link = site.url.replace("talk.mp4", "page.html")
    path = download(link, tmp_path)
    beside = path.with_suffix(".de.vtt")
    assert not beside.exists()  # the site's default is English
    videos = len(site.log)
    assert download(link, tmp_path, languages=("de",)) == path
    assert "Guten Tag." in beside.read_text()
    assert not [line for line in site.log[videos:] if line == "GET 0"]  # the video is not downloaded again
    for languages, asked in ((("de",), False), (("fr",), True), (("fr",), False), ((), False), (("pt",), True), (("pt",), False)):
        before = len(site.pages)
        assert download(link, tmp_path, languages=languages) == path
        assert (len(site.pages) > before) is asked
    assert path.with_suffix(".pt-BR.vtt").exists()


def test_a_video_is_used_when_its_captions_cannot_be_fetched(site: Any, tmp_path: Path) -> None:
    path = download(site.url, tmp_path)
    path = path.rename(tmp_path / f"{hashlib.sha256(site.url.replace('talk', 'missing').encode()).hexdigest()[:24]}.mp4")
    assert download(site.url.replace("talk", "missing"), tmp_path, languages=("de",)) == path


def test_where_there_is_no_video(site: Any, tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        download(site.url.replace("talk", "missing"), tmp_path)
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_where_there_is_no_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/talk.mp4"
    with pytest.raises(SageError, match=r"refused; check the connection, and try again to resume$") as caught:
        download(address, tmp_path)
    assert caught.value.exit_code == 1

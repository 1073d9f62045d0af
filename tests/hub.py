"""A hub on loopback: an HTTP server with the part of the Hugging Face Hub's API that downloads use. It fails on demand.

Two servers, as in reality: the hub answers questions, asks for tokens and redirects to a storage host (another port), which serves ranges
of files by their hash and must never see a token.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """A repository on the hub.

    Attributes:
        files: content by path.
        token: without it, the repository does not exist.
        gated: its files require accepted terms.
        tags: found by the search.
    """

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    tags: tuple[str, ...] = ()
    claimed: dict[str, str] = field(default_factory=dict)  # checksums that are not those of the content
    claimed_commit: str = ""

    @property
    def commit(self) -> str:
        return self.claimed_commit or hashlib.sha1(repr(sorted((path, self.sha256(path)) for path in self.files)).encode()).hexdigest()

    def sha256(self, path: str) -> str:
        return self.claimed.get(path) or hashlib.sha256(self.files[path]).hexdigest()


@dataclass
class FakeHub:
    """Behaviour of the two servers, and a record of requests.

    Attributes:
        repositories: by name; may change between requests.
        answers: status codes, with headers, that come before any real answer of the hub, each once.
        drops: bytes after which the storage host drops each of the next connections.
        ranges: whether the storage host supports ranges.
        trickle: seconds between pieces of 4 kB.
        holds: bytes after which each of the next connections stays open and brings nothing, until the client leaves.
        corrupt: bytes to flip in the response.
        requests: method, path and headers of every request to the hub; ``transfers`` to the storage host.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    answers: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    drops: deque[int] = field(default_factory=deque)
    ranges: bool = True
    trickle: float = 0.0
    holds: deque[int] = field(default_factory=deque)
    corrupt: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    transfers: list[tuple[str, str | None, int]] = field(default_factory=list)  # hash, range, bytes sent
    leaks: list[str] = field(default_factory=list)  # tokens the storage host saw
    endpoint: str = ""
    storage: str = ""

    def blob(self, digest: str) -> bytes | None:
        return next(
            (content for repo in self.repositories.values() for path, content in repo.files.items() if repo.sha256(path) == digest), None
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        raise NotImplementedError

    def do_HEAD(self) -> None:
        self.do_GET()


class _HubHandler(_Handler):
    def do_GET(self) -> None:
        self.hub.requests.append((self.command, self.path, dict(self.headers)))
        if self.hub.answers:
            status, headers = self.hub.answers.popleft()
            self.answer(status, {"error": "on demand"}, **headers)
            return
        address = urlsplit(self.path)
        if address.path == "/api/models":
            self.search(parse_qs(address.query))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/\w+)?", address.path):
            self.describe(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", address.path):
            self.resolve(match[1], match[2], unquote(match[3]))
        else:
            self.answer(404, {"error": "nothing here"})

    def allowed(self, name: str, *, content: bool) -> Repository | None:
        repo = self.hub.repositories.get(name)
        if repo is None or (repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}"):
            self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            return None
        if content and repo.gated:
            self.answer(403, {"error": "gated"}, X_Error_Code="GatedRepo", X_Error_Message="Access to this model is restricted")
            return None
        return repo

    def search(self, query: dict[str, list[str]]) -> None:
        wanted = {tag for value in query.get("filter", []) for tag in value.split(",")}
        found = [name for name, repo in self.hub.repositories.items() if wanted <= {*repo.tags}]
        self.answer(200, [{"id": name, "modelId": name, "downloads": 1, "tags": []} for name in found])

    def describe(self, name: str) -> None:
        if repo := self.allowed(name, content=False):
            siblings = [
                {
                    "rfilename": path,
                    "size": len(content),
                    "blobId": "0" * 40,
                    "lfs": {"sha256": repo.sha256(path), "size": len(content), "pointerSize": 134},
                }
                for path, content in repo.files.items()
            ]
            self.answer(200, {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "downloads": 1})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.allowed(name, content=True)
        if repo is None:
            return
        if revision not in ("main", repo.commit) or path not in repo.files:
            code = "EntryNotFound" if revision in ("main", repo.commit) else "RevisionNotFound"
            self.answer(404, {"error": code}, X_Error_Code=code)
            return
        digest = repo.sha256(path)
        self.answer(
            302,
            Location=f"{self.hub.storage}/{digest}?signature=secret",
            X_Repo_Commit=repo.commit,
            X_Linked_Etag=f'"{digest}"',
            X_Linked_Size=str(len(repo.files[path])),
            ETag='"pointer"',
        )


class _StorageHandler(_Handler):
    def do_GET(self) -> None:
        hub, digest = self.hub, urlsplit(self.path).path[1:]
        if "Authorization" in self.headers:
            hub.leaks.append(self.headers["Authorization"])
        content = hub.blob(digest)
        if content is None:
            self.answer(404)
            return
        if hub.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        asked = self.headers.get("Range")
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        start = int(match[1]) if match and hub.ranges else 0
        if start >= len(content) and content:
            self.answer(416, Content_Range=f"bytes */{len(content)}")
            return
        self.send_response(206 if match and hub.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if match and hub.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        rest = content[start:]
        held = hub.holds.popleft() if hub.holds else None
        dropped = hub.drops.popleft() if hub.drops and held is None else None
        sent = rest[: held if held is not None else dropped]
        hub.transfers.append((digest, asked, len(sent)))
        try:
            for at in range(0, len(sent), 4096) if hub.trickle else (0,):
                self.wfile.write(sent[at : at + 4096] if hub.trickle else sent)
                self.wfile.flush()
                time.sleep(hub.trickle)
            if held is not None:
                self.connection.recv(1)
        except OSError:  # the client has gone
            pass
        if len(sent) < len(rest):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A killed client is no error."""


@contextmanager
def running() -> Iterator[FakeHub]:
    """The two servers, at the ``endpoint`` and ``storage`` of the hub."""
    hub = FakeHub()
    servers = []
    for base in _HubHandler, _StorageHandler:
        server = _Server(("127.0.0.1", 0), type("Handler", (base,), {"hub": hub}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def wait_for_part(process: subprocess.Popen[str], cache: Path, size: int) -> None:
    """Until a process that downloads has written so many bytes of a file."""
    while [part.stat().st_size for part in cache.rglob("*.incomplete")] != [size]:
        assert process.poll() is None
        time.sleep(0.01)

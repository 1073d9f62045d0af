"""A small internet on this machine: hosts with public addresses, served from loopback over real sockets.

Only name resolution and the target of connections are replaced; everything else is real.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpcore2

from sage_cli.web import Request
from sage_cli.web.address import Network
from sage_cli.web.base import Asking, T

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1::1"


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Asked], Iterable[bytes]]


def http(
    body: bytes | str = b"",
    *,
    status: int = 200,
    content_type: str | None = "text/html; charset=utf-8",
    length: bool = True,
    **headers: str,
) -> Answer:
    """A whole answer. Underscores in header names are hyphens."""
    data = body.encode() if isinstance(body, str) else body

    def answer(_asked: Asked) -> Iterator[bytes]:
        yield head(status, content_type, **({"Content-Length": str(len(data))} if length else {}), **headers) + data

    return answer


def head(status: int = 200, content_type: str | None = "text/html; charset=utf-8", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    lines += [f"Content-Type: {content_type}"] if content_type is not None else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def redirect(target: str, status: int = 302) -> Answer:
    return http(status=status, content_type=None, Location=target)


def as_json(value: Any) -> Answer:
    return http(json.dumps(value), content_type="application/json")


def article(title: str, text: str, *, head: str = "") -> str:
    """A blog page; the text is repeated to be long enough for an article."""
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title>{head}</head><body><nav><a href='/'>Home</a> <a href='/about'>About</a></nav>"
        f"<article><h1>{title}</h1><p>{text}</p><p>{text}</p></article><footer>All rights reserved</footer></body></html>"
    )


def forever(piece: bytes, begin: bytes | None = None) -> Answer:
    """An answer without an end."""

    def answer(_asked: Asked) -> Iterator[bytes]:
        yield begin if begin is not None else head()
        yield from itertools.repeat(piece)

    return answer


@dataclass
class Internet(Network):
    """Names, their hosts, and a record of all connections and requests.

    Attributes:
        names: addresses of a name; a list of lists gives the results of successive lookups.
        pages: responses by ``host/path``; the path ``*`` matches all others.
        resolved, dialled: every name looked up, every address connected to.
        asked: every request that arrived anywhere.
    """

    names: dict[str, list[str] | Iterator[list[str]]] = field(default_factory=dict)
    pages: dict[str, Answer] = field(default_factory=dict)
    resolved: list[str] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.internet = self
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def host(self, name: str, address: str = PUBLIC, **pages: Answer) -> None:
        """A host at a public address. Pages by path: ``index`` is ``/``, ``a__html`` is ``/a.html``, ``rest`` is everything else."""
        self.names[name] = [address]
        for path, page in pages.items():
            self.pages[f"{name}{'*' if path == 'rest' else '/' if path == 'index' else '/' + path.replace('__', '.')}"] = page

    # ---- the two injected parts ------------------------------------------------------------------------------------

    def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if (known := self.names.get(host)) is not None:
            return known if isinstance(known, list) else next(known)
        # Numbers in any notation, and this machine's own names, are the system's affair; nothing else may leave this machine.
        flags = 0 if re.fullmatch(r"localhost\.?|ip6-localhost", host) else socket.AI_NUMERICHOST
        return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)))

    def connect(self, address: str, port: int, timeout: float) -> httpcore2.NetworkStream:
        self.dialled.append((address, port))
        return httpcore2.SyncBackend().connect_tcp("127.0.0.1", self.port, timeout)

    # ---- serving ---------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Iterable[bytes]:
        self.asked.append(asked)
        host = asked.host.rpartition(":")[0] or asked.host
        page = self.pages.get(f"{host}{asked.path.partition('?')[0]}") or self.pages.get(f"{host}*")
        return (page or http("no such page", status=404))(asked)

    @property
    def paths(self) -> list[str]:
        """``host/path`` of every request but those for robots.txt."""
        return [f"{asked.host}{asked.path}" for asked in self.asked if asked.path != "/robots.txt"]


class _Server(socketserver.ThreadingTCPServer):
    internet: Internet
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        pass  # clients that go away are what much of this is about


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        internet: Internet = self.server.internet  # type: ignore[attr-defined]
        sock: socket.socket = self.request
        sock.settimeout(30)
        if sock.recv(1, socket.MSG_PEEK) == b"\x16":  # the first byte of a TLS handshake
            if internet.tls is None:  # this host knows none: it listens on, and says nothing
                while sock.recv(65536):
                    pass
                return
            sock = internet.tls.wrap_socket(sock, server_side=True)
        data = b""
        while b"\r\n\r\n" not in data and (piece := sock.recv(65536)):
            data += piece
        top, _, body = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)) and (piece := sock.recv(65536)):
            body += piece
        try:
            for piece in internet.answer(Asked(method, headers.get("host", ""), path, headers, body)):
                sock.sendall(piece)
        finally:
            sock.close()


def bomb(megabytes: int) -> bytes:
    """So many megabytes of zeros, compressed."""
    return gzip.compress(bytes(megabytes << 20), 9)


def done(asking: Asking[T]) -> tuple[T, list[Request]]:
    """Allow every request; return the result and the requests."""
    sent: list[Request] = []
    try:
        while True:
            sent.append(next(asking))
    except StopIteration as stop:
        return stop.value, sent


class _Tunnel(socketserver.BaseRequestHandler):
    """A proxy's CONNECT: whatever host is asked for, the tunnel leads to the loopback internet."""

    def handle(self) -> None:
        internet: Internet = self.server.internet  # type: ignore[attr-defined]
        sock: socket.socket = self.request
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(4096)
        internet.resolved.append(data.split(b" ")[1].decode())
        sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", internet.port)) as other:
            threading.Thread(target=_pump, args=(other, sock), daemon=True).start()
            _pump(sock, other)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def tunnel(internet: Internet) -> Iterator[str]:
    """The address of a proxy into the internet, for a client that makes its own connections; ``resolved`` tells where to."""
    server = _Server(("127.0.0.1", 0), _Tunnel)
    server.internet = internet
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()

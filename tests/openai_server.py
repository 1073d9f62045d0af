"""A small OpenAI-compatible server on loopback around any ``ChatModel``, with the faults of real servers."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeVar

import cv2
import numpy as np

from sage_cli.model.base import ChatModel, Delta, Frames, Message, Reply, Text
from sage_cli.video.frame import Frame

Fault = Literal["busy", "down", "cut", "garbage", "hang-up", "disowned", "long"]


@dataclass
class Served:
    """A running server.

    Attributes:
        url: its address, with ``/v1``.
        gets: paths and headers of the other requests, in order.
        requests: bodies of the chat requests, in order.
        posts: their paths.
        moved: where they are sent instead, as by a proxy.
        refused: bodies of those that ``refuse`` refused.
        faults: of the next requests, one each; later requests succeed.
        formats: supported kinds of ``response_format``; others are refused.
        page: status, content type and text in place of a reply; ``None`` for a reply.
        stream: bytes to stream in place of events; ``None`` for a valid stream.
        text: reply in place of the model's; ``None`` for the model's reply.
        pause_s: between pieces.
        key: the required key; ``""`` for none.
        models: listed names.
        listed: status of the list of models.
        busy: requests for it that are refused first with status 429, which does not say for how long.
        told: what it tells at other addresses.
        context_size: of a slot, as llama-server tells it who has the key; 0 for another server.
        refuse: says why a request is refused, and with which status; empty to take it.
        prompt_tokens: that it reports; 0 for an estimate.
        finish: why replies end, where it is not the model's end.
        stop: ends it, as a server that dies.
        lock: held during a reply; the model writes one at a time.
        stopped: set at its end, which ends pauses.
    """

    model: ChatModel | None = None
    url: str = ""
    gets: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    moved: str = ""
    refused: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    formats: tuple[str, ...] = ("json_schema", "json_object")
    page: tuple[int, str, str] | None = None
    stream: bytes | None = None
    text: str | None = None
    pause_s: float = 0.0
    key: str = ""
    models: tuple[dict[str, Any], ...] = ({"id": "served", "max_model_len": 8192},)
    listed: int = 200
    busy: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)
    context_size: int = 0
    refuse: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda _: None
    prompt_tokens: int = 0
    finish: str = "stop"
    stop: Callable[[], None] = field(default=lambda: None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def pieces(self, body: Mapping[str, Any]) -> Iterator[tuple[str, Reply | None]]:
        """The reply's pieces, and the reply with the last one."""
        if self.text is not None or self.model is None:
            for word in (self.text or "").split(" "):
                yield f"{word} ", None
            return
        asked = body.get("response_format") or {}
        schema = asked["json_schema"]["schema"] if asked.get("type") == "json_schema" else None
        stream = self.model.stream(
            [prompt_message(message) for message in body["messages"]],
            schema=schema,
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            seed=body["seed"],
        )
        for part in stream:
            if isinstance(part, Delta):
                yield part.text, None
            elif isinstance(part, Reply):
                yield "", part


@dataclass
class Seer(Served):
    """Grounds events: of those that are in the window it is shown, it finds one.

    Attributes:
        events: when they happen, in whole seconds, in order; ``None``: whatever it is shown, it sees the event for a second in the middle.
        first: whether it finds the first one, or the last.
        from_zero: it counts from the start of the window.
        most: requests that it answers; with the next one it waits.
    """

    events: Sequence[tuple[int, int]] | None = ()
    first: bool = True
    from_zero: bool = False
    most: int = 1000

    @property
    def windows(self) -> list[tuple[int, int]]:
        """What it was shown, in seconds."""
        return [self._window(body) for body in self.requests]

    @staticmethod
    def _window(body: Mapping[str, Any]) -> tuple[int, int]:
        times = re.search(r"from (\d\d):(\d\d):(\d\d) to (\d\d):(\d\d):(\d\d)", json.dumps(body["messages"][-1]))
        assert times is not None
        hours, minutes, seconds, *end = map(int, times.groups())
        return 3600 * hours + 60 * minutes + seconds, 3600 * end[0] + 60 * end[1] + end[2]

    def pieces(self, body: Mapping[str, Any]) -> Iterator[tuple[str, Reply | None]]:
        if len(self.requests) > self.most:
            self.stopped.wait()
        begin, end = self._window(body)
        middle = (begin + end) // 2
        events = [(middle, middle + 1)] if self.events is None else self.events
        seen = [(max(begin, start), min(end, last)) for start, last in events if start < end and last > begin]
        times = [None, None] if not seen else [time - self.from_zero * begin for time in seen[0 if self.first else -1]]
        start, last = (None if time is None else f"{time // 3600:02}:{time // 60 % 60:02}:{time % 60:02}" for time in times)
        yield json.dumps({"timestamps": {"start": start, "end": last}}), None


def prompt_message(message: Mapping[str, Any]) -> Message:
    """A chat message as the server's model takes it: JPEG data becomes frames."""
    content = message["content"]
    if isinstance(content, str):
        return Message(message["role"], (Text(content),))
    parts: list[Text | Frames] = []
    for number, part in enumerate(content):
        if part["type"] == "text":
            parts.append(Text(part["text"]))
        else:
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None, "not a picture"
            parts.append(Frames((Frame(float(number), np.ascontiguousarray(image[..., ::-1], np.uint8), f"{hash(data)}"),), pairs=False))
    return Message(message["role"], tuple(parts))


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.served.gets.append((self.path, dict(self.headers.items())))
        path = self.path.partition("?")[0]
        if path == "/v1/models" and self.served.busy:
            self.served.busy -= 1
            self._json(429, {"error": {"message": "too many requests"}})
        elif path == "/v1/models" and self.served.listed == 200:
            self._json(
                200, {"object": "list", "data": [{"object": "model", "created": 0, "owned_by": "x", **one} for one in self.served.models]}
            )
        elif path in self.served.told:
            self._json(200, self.served.told[path])
        elif path == "/props" and self.served.context_size and self._may:
            self._json(200, {"default_generation_settings": {"n_ctx": self.served.context_size}})
        else:
            self._json(self.served.listed if path == "/v1/models" else 404, {"error": {"message": "not found"}})

    @property
    def _may(self) -> bool:
        return not self.served.key or self.headers.get("Authorization") == f"Bearer {self.served.key}"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served.posts.append(self.path)
        if self.served.moved:
            return self._json(301, {}, {"Location": self.served.moved})
        if not self._may:
            return self._json(401, {"error": {"message": "wrong key"}})
        fault = self.served.faults.pop(0) if self.served.faults else None
        if fault == "busy":
            return self._json(429, {"error": {"message": "too many requests"}}, {"Retry-After": "0"})
        if fault == "down":
            return self._json(503, {"error": {"message": "loading model"}}, {"Retry-After": "0"})
        if fault == "hang-up":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if fault == "long":  # as llama-server says it
            message = "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"
            return self._json(400, {"error": {"code": 400, "message": message, "type": "exceed_context_size_error"}})
        if refusal := self.served.refuse(body):
            self.served.refused.append(body)
            return self._json(*refusal)
        kind = (body.get("response_format") or {}).get("type")
        if kind and kind not in self.served.formats:
            return self._json(400, {"error": {"message": f"response_format {kind} is not supported"}})
        self.served.requests.append(body)
        if self.served.page is not None:
            status, media, text = self.served.page
            return self._send(status, media, text.encode())
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with self.served.lock:
            self._stream(body, fault)
        self.close_connection = True
        return None

    def _stream(self, body: Mapping[str, Any], fault: Fault | None) -> None:
        if self.served.stream is not None:
            self.wfile.write(self.served.stream)
            return
        if fault == "garbage":
            self.wfile.write(b"data: {<html>this is no JSON\n\n")
            return
        reply: Reply | None = None
        for sent, (piece, end) in enumerate(self.served.pieces(body)):
            reply = end or reply
            if fault == "cut" and sent == 3:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if piece:
                self._chunk(body, [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}])
                self.served.stopped.wait(self.served.pause_s)
        if fault == "disowned":  # llama-server, about a reply under a schema that it cut off
            message = "The model produced output that does not match the expected peg-native format"
            self.wfile.write(f"data: {json.dumps({'error': {'code': 500, 'message': message, 'type': 'server_error'}})}\n\n".encode())
            return
        self._chunk(body, [{"index": 0, "delta": {}, "finish_reason": reply.finish if reply else self.served.finish}])
        read = self.served.prompt_tokens or len(json.dumps(body["messages"]))
        usage = {"prompt_tokens": read, "completion_tokens": reply.usage.output_tokens if reply else 3, "total_tokens": read + 3}
        self._chunk(body, [], usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, body: Mapping[str, Any], choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": body["model"], "choices": choices, **more}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _send(self, status: int, media: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in {"Content-Type": media, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


S = TypeVar("S", bound=Served)


@contextmanager
def serve(served: S, secure: ssl.SSLContext | None = None) -> Iterator[S]:
    """Run it on a free port of the loopback interface; with a context, over TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    if secure:
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    served.url = f"{'https' if secure else 'http'}://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop() -> None:
        served.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()

    served.stop = stop
    try:
        yield served
    finally:
        stop()

"""Requests over HTTP that stay within limits: of where they go, of what comes back, of how long it takes.

There is no client with a memory here: no cookies, no credentials, no proxies or passwords from the environment, no redirects but those that
are followed one by one, each checked and told like the first address.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from threading import Event
from typing import TYPE_CHECKING, Final, TypeAlias

import httpcore2
import httpx2
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_before_delay,
    stop_when_event_set,
)
from tenacity.wait import wait_random_exponential

from sage_cli.hardware.waiting import in_thread
from sage_cli.version import __version__
from sage_cli.web.address import Checked, Network, parse_address
from sage_cli.web.base import Asking, Purpose, Request, WebError
from sage_cli.web.settings import WebSettings

if TYPE_CHECKING:
    from ssl import SSLContext

    from protego import Protego

Readable: TypeAlias = Callable[[str], bool]

AGENT: Final = "sage-cli"  # the name that robots.txt files know us by
_USER_AGENT: Final = f"{AGENT}/{__version__} (a person's own tool; reads single pages on request)"

_HEADERS: Final = {
    "User-Agent": _USER_AGENT,
    "Accept": "text/html,application/xhtml+xml,application/pdf,text/plain;q=0.9,application/json;q=0.8,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "Connection": "close",
}
_HOPS: Final = 5
_TRIES: Final = 3
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ROBOTS_BYTES: Final = 512 << 10
# Text is seldom compressed to less than a thirtieth; a bomb to a thousandth.
_RATIO, _RATIO_FROM = 200, 1 << 20
_STEP: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Body:
    """What a server sent.

    Attributes:
        url: who sent it, after redirects.
        content_type: media type and parameters, as declared; empty if it was not.
        data: the bytes, decompressed.
    """

    url: str
    content_type: str
    data: bytes


class _Busy(WebError):
    """It may work in a moment. ``after``: seconds that the server asks us to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class _TooBig(WebError):
    def __init__(self, target: httpx2.URL, limit: int) -> None:
        super().__init__(f"{target} is larger than {limit / 2**20:.3g} MB")


class _Refused(WebError):
    """The server answered, and not with what was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Moved:
    target: str


def _anything(_content_type: str) -> bool:
    return True


class Allowance:
    """Seconds that can be spent on the network. A person who is asked in between may take their time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @contextmanager
    def spend(self) -> Iterator[float]:
        """The deadline, a time of ``time.monotonic``, of what is done inside."""
        deadline = time.monotonic() + self.seconds
        try:
            yield deadline
        finally:
            self.seconds = deadline - time.monotonic()


class Fetcher:
    """Fetches pages and calls services.

    Args:
        settings: their limits; of the cache and of searches nothing.
        network: how connections are made.
    """

    def __init__(self, settings: WebSettings, network: Network | None = None) -> None:
        self._settings, self._network = settings, network or Network()
        self._rules: dict[str, Protego] = {}

    @cached_property
    def _tls(self) -> SSLContext:
        return httpx2.create_ssl_context()

    def page(self, address: str, readable: Readable) -> Asking[Body]:
        """Fetch a page.

        Args:
            readable: whether a declared media type is worth fetching.

        Raises:
            WebError: the address, or one that it redirects to, must not be opened; or the page cannot be fetched within the limits.
        """
        return (yield from self._follow("page", address, Allowance(self._settings.timeout_s), self._settings.max_bytes, readable))

    def call(self, url: str, *, headers: Mapping[str, str], body: bytes | None = None, private: bool = False) -> bytes:
        """Call a service: POST with a body, else GET. It may not redirect.

        Args:
            private: it is the user's own and may be at a private address.

        Raises:
            WebError: it does not answer as it should.
        """
        target = parse_address(url)
        answer = self._ask(
            target, Allowance(self._settings.timeout_s), self._settings.max_bytes, headers=headers, body=body, private=private
        )
        if isinstance(answer, _Moved):
            raise WebError(f"{_host(target)} redirects elsewhere: give its own address")
        return answer.data

    # ---- pages -----------------------------------------------------------------------------------------------------

    def _follow(self, purpose: Purpose, address: str, allowance: Allowance, limit: int, readable: Readable = _anything) -> Asking[Body]:
        first = purpose
        for _ in range(1 + _HOPS):
            target = parse_address(address)
            yield Request(purpose, _host(target), str(target))
            if first == "page" and self._settings.robots:
                yield from self._keep_to_robots(target, allowance)
            answer = self._ask(target, allowance, limit, readable)
            if isinstance(answer, Body):
                return answer
            address, purpose = answer.target, "redirect" if first == "page" else first
        raise WebError(f"{_host(target)} redirects more than {_HOPS} times")

    def _keep_to_robots(self, target: httpx2.URL, allowance: Allowance) -> Asking[None]:
        origin = f"{target.scheme}://{target.netloc.decode()}"
        if origin not in self._rules:
            self._rules[origin] = yield from self._read_rules(origin, allowance)
        if not self._rules[origin].can_fetch(str(target), AGENT):
            raise WebError(f"{_host(target)} does not want programs to read this page (robots.txt)")

    def _read_rules(self, origin: str, allowance: Allowance) -> Asking[Protego]:
        from protego import Protego

        try:
            body = yield from self._follow("robots", f"{origin}/robots.txt", allowance, _ROBOTS_BYTES)
            return Protego.parse(body.data.decode("utf-8-sig", "replace"))
        except _Refused as refusal:
            # RFC 9309: no rules allow everything, rules that are unavailable now allow nothing.
            if refusal.status < 500:
                return Protego.parse("")
            raise

    # ---- one exchange ----------------------------------------------------------------------------------------------

    def _ask(
        self,
        target: httpx2.URL,
        allowance: Allowance,
        limit: int,
        readable: Readable = _anything,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        private: bool = False,
    ) -> Body | _Moved:
        """Ask, and ask again when that may help and there is time: a little later each time, or when the server says."""
        backoff = wait_random_exponential(self._settings.backoff_s, max=8 * self._settings.backoff_s, min=self._settings.backoff_s / 2)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return error.after if isinstance(error, _Busy) and error.after is not None else backoff(state)

        request = httpx2.Request("GET" if body is None else "POST", target, content=body, headers={**_HEADERS, **(headers or {})})
        left = Event()  # nobody waits for the answer any more
        with allowance.spend() as deadline:
            retrying = Retrying(
                retry=retry_if_exception_type(_Busy),
                wait=wait,
                stop=stop_after_attempt(_TRIES) | stop_before_delay(max(allowance.seconds, 0.0)) | stop_when_event_set(left),
                sleep=sleep_using_event(left),
                reraise=True,
            )
            try:
                return in_thread(partial(retrying, self._exchange, request, deadline, limit, readable, private))
            finally:
                left.set()

    def _exchange(self, request: httpx2.Request, deadline: float, limit: int, readable: Readable, private: bool) -> Body | _Moved:
        target = request.url
        url = httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        backend = Checked(self._network, deadline, private=private)
        try:
            with (
                httpcore2.ConnectionPool(ssl_context=self._tls, max_connections=1, network_backend=backend) as pool,
                pool.stream(request.method, url, headers=request.headers.raw, content=request.content or None) as response,
            ):
                return _read(target, response, limit, readable)
        except httpcore2.TimeoutException:
            raise WebError(f"{_host(target)} is too slow: no answer within {self._settings.timeout_s:g} seconds") from None
        except httpcore2.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise WebError(f"{_host(target)} cannot prove that it is {_host(target)}: its certificate is not valid") from error
            raise _Busy(f"{_host(target)} cannot be reached") from error
        except httpcore2.NetworkError as error:
            raise _Busy(f"{_host(target)} broke the connection") from error
        except (httpcore2.ProtocolError, zlib.error) as error:
            raise WebError(f"{_host(target)} does not answer as a web server should") from error


def _read(target: httpx2.URL, response: httpcore2.Response, limit: int, readable: Readable) -> Body | _Moved:
    headers, status = httpx2.Headers(response.headers), response.status
    if status in _REDIRECTS and "location" in headers:
        return _Moved(_joined(target, headers["location"]))
    if not 200 <= status < 300:
        said = f"{_host(target)} answers {status} {httpx2.codes.get_reason_phrase(status)}".rstrip()
        raise _Busy(said, _seconds(headers.get("retry-after"))) if status in _BUSY else _Refused(said, status)
    content_type = headers.get("content-type", "")
    if not readable(content_type):
        raise WebError(f"{target} is {content_type.partition(';')[0]!r}, not something to read")
    length = headers.get("content-length", "")
    encoding = headers.get("content-encoding", "").strip().lower()
    if length.isdecimal() and int(length[:20]) > limit:
        raise _TooBig(target, limit)
    return Body(str(target), content_type, _unpacked(target, response.iter_stream(), encoding, limit))


def _unpacked(target: httpx2.URL, pieces: Iterable[bytes], encoding: str, limit: int) -> bytes:
    """All of a body, decompressed, as long as neither form of it is too big."""
    # One compression at most: several in a row multiply.
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise WebError(f"{target} is compressed in a way that was not asked for ({encoding[:40]!r})")
    steps = _as_it_is if encoding in ("", "identity") else _gunzipped
    data, sent = bytearray(), 0
    for size, part in steps(pieces):
        sent += size
        data += part
        if len(data) > _RATIO_FROM and len(data) > _RATIO * sent:
            raise WebError(f"{target} is a decompression bomb: it was not unpacked")
        if max(sent, len(data)) > limit:
            raise _TooBig(target, limit)
    return bytes(data)


def _as_it_is(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Bytes received, and what they make."""
    for piece in pieces:
        yield len(piece), piece


def _gunzipped(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The same, unpacked in small steps, whatever a piece would make at once."""
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield len(piece), b""
        while piece and not unpack.eof:
            yield 0, unpack.decompress(piece, _STEP)
            piece = unpack.unconsumed_tail


def _joined(target: httpx2.URL, location: str) -> str:
    try:
        return str(target.join(location))
    except (httpx2.InvalidURL, ValueError):
        raise WebError(f"{target.host} redirects to {location!r}, which is not a web address") from None


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After``: seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError, OSError):  # no date, or one that this machine's clock does not know
        return None


def _host(url: httpx2.URL) -> str:
    """As it is asked for: names in other alphabets than ours can look like one another."""
    return url.raw_host.decode("ascii")

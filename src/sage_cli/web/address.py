"""Which addresses may be asked, and connections that can go nowhere else.

A name is resolved once, all that it resolves to is checked, and the connection is made to the address that was checked: a name server
that answers differently the second time is never asked a second time.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import httpcore2
import httpx2

from sage_cli.hardware.waiting import in_thread
from sage_cli.web.base import WebError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST: Final = 2048  # characters of an address
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+")

# What the IANA's registries call public, less what still leads into a network or a machine of one's own. Spelled out, because what Python's
# ``is_global`` knows depends on its version.
_CLOSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's own services, on every machine in it
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "2001::/23",  # Teredo and other protocols' own
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",
        ),
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def parse_address(text: str) -> httpx2.URL:
    """A web address that is written as one should be; where it leads is seen when it is resolved.

    Raises:
        WebError: it is something else.
    """
    if len(text) > _LONGEST:
        raise WebError(f"the address is longer than {_LONGEST} characters")
    try:
        url = httpx2.URL(text)
        host, port = url.raw_host.decode("ascii"), url.port
    except (httpx2.InvalidURL, ValueError):
        raise WebError(f"{text!r} is not a web address") from None
    if url.scheme not in ("http", "https"):
        raise WebError(f"{text!r} is not a web address: only http and https are opened")
    if url.userinfo:
        raise WebError(f"{text!r} carries a user name or password: such addresses are not opened")
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise WebError(f"{text!r} is not a web address")
    # Whoever listens below 1024 on another port does not speak HTTP, and could be made to do something by what we send.
    if port is not None and not (port in (80, 443) or 1024 <= port <= 65535):
        raise WebError(f"{text!r}: port {port} is not a web server's")
    return url.copy_with(fragment=None)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's, in whichever notation."""
    try:
        ip: Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip in _NAT64:  # how an IPv6-only network reaches IPv4 addresses
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _GLOBAL_V6:  # mapped, compatible, link-local, unique local, multicast, loopback
            return False
    return not any(ip in network for network in _CLOSED if network.version == ip.version)


class Network:
    """How names become addresses, and addresses connections. Tests put in an internet of their own."""

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name, best first, each once. Numbers in any notation that the system knows are names too.

        Raises:
            OSError: it has none.
        """
        return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))

    def connect(self, address: str, port: int, timeout: float) -> httpcore2.NetworkStream:
        """A TCP connection.

        Raises:
            httpcore2.ConnectError, httpcore2.ConnectTimeout: no answer.
        """
        return httpcore2.SyncBackend().connect_tcp(address, port, timeout)


class Checked(httpcore2.NetworkBackend):
    """Connects to public addresses only, and gives everything together until ``deadline``, a time of ``time.monotonic``.

    Args:
        private: also to others: for a server that the user named, not one that the model or a page did.
    """

    def __init__(self, network: Network, deadline: float, *, private: bool = False) -> None:
        self._network, self._deadline, self._private = network, deadline, private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            # The system's resolver takes no time limit.
            addresses = in_thread(lambda: self._network.resolve(host, port), _left(self._deadline))
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name server does not answer") from None
        except (OSError, UnicodeError) as error:
            raise WebError(f"{host} is not known: its name has no address") from error
        # One that is not public among others that are is a trick, not a mistake.
        closed = [address for address in addresses if not is_public(address)]
        if closed and not self._private:
            raise WebError(f"{host} is at {closed[0]}, which is not on the public internet: such addresses are not opened")
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses[:4]:
            try:
                return _Timed(self._network.connect(address, port, _left(self._deadline)), self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class _Timed(httpcore2.NetworkStream):
    """A connection that ends at a deadline, however slowly bytes drip in."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise httpcore2.ReadTimeout("the time is up")
    return seconds

"""Servers that are slow, endless, broken or hostile: pages arrive within the limits, or not at all."""

from __future__ import annotations

import gzip
import itertools
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from sage_cli.web import WebError, WebSettings
from sage_cli.web import fetch as fetching
from sage_cli.web.fetch import Body, Fetcher
from tests.web.internet import PUBLIC, Answer, Asked, Internet, bomb, done, forever, head, http, redirect

MB = 1 << 20


@pytest.fixture
def fetch(internet: Internet) -> Callable[..., Body]:
    """Fetch a page of the one site; half a second is enough for anything that is not meant to be slow... on an idle machine."""

    def fetch(address: str = "http://site.example/", **settings: object) -> Body:
        given = {"timeout_s": 20.0, "max_bytes": MB, "robots": False, "backoff_s": 0.0, **settings}
        fetcher = Fetcher(WebSettings(**given), internet)  # type: ignore[arg-type]
        body, _ = done(fetcher.page(address, lambda kind: not kind.startswith("image/")))
        return body

    return fetch


Fetch = Callable[..., Body]


def test_a_page(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", index=http("hello", content_type="text/plain"))
    assert fetch() == Body("http://site.example/", "text/plain", b"hello")
    [asked] = internet.asked
    assert (asked.method, asked.host, asked.path) == ("GET", "site.example", "/")
    assert asked.headers["user-agent"].startswith("sage-cli/")
    assert set(asked.headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert internet.dialled == [(PUBLIC, 80)]


def test_another_port(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http("hello"))
    assert fetch("http://site.example:8080/x?y=z").data == b"hello"
    assert internet.dialled == [(PUBLIC, 8080)]
    assert internet.asked[0].host == "site.example:8080"


# ---- TLS -----------------------------------------------------------------------------------------------------------


def test_tls_is_for_the_name_not_for_the_address(secure: Callable[..., Internet], fetch: Fetch) -> None:
    internet = secure("site.example")
    internet.host("site.example", rest=http("private"))
    assert fetch("https://site.example/").data == b"private"
    assert internet.dialled == [(PUBLIC, 443)]
    assert internet.asked[0].host == "site.example"


def test_a_certificate_of_somebody_else(secure: Callable[..., Internet], fetch: Fetch) -> None:
    internet = secure("other.example")
    internet.host("site.example", rest=http("private"))
    with pytest.raises(WebError, match="certificate is not valid"):
        fetch("https://site.example/")
    assert (internet.asked, len(internet.dialled)) == ([], 1)


def test_a_certificate_that_nobody_vouches_for(secure: Callable[..., Internet], fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    internet = secure("site.example")
    monkeypatch.delenv("SSL_CERT_FILE")
    internet.host("site.example", rest=http("private"))
    with pytest.raises(WebError, match="certificate is not valid"):
        fetch("https://site.example/")


# ---- slow ----------------------------------------------------------------------------------------------------------


def silence(_asked: Asked) -> Iterator[bytes]:
    time.sleep(5)
    yield b""


def drip(begin: bytes, piece: bytes) -> Answer:
    def answer(_asked: Asked) -> Iterator[bytes]:
        yield begin
        for _ in range(200):
            time.sleep(0.05)
            yield piece

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        silence,
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-Slow: a\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(head(), b"a"),
        drip(head(Transfer_Encoding="chunked"), b"1\r\na\r\n"),
        drip(head(Content_Length="1000"), b"a"),
        drip(head(Content_Encoding="gzip") + gzip.compress(b"a" * 1000)[:12], b""),
    ],
    ids=["silence", "status", "header", "headers", "continues", "body", "chunks", "length", "gzip"],
)
def test_slow(answer: Answer, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=answer)
    with pytest.raises(WebError, match="too slow: no answer within"):
        fetch(timeout_s=0.5)


def test_a_handshake_that_never_comes(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example")
    with pytest.raises(WebError, match="too slow"):
        fetch("https://site.example/", timeout_s=0.5)


def test_the_time_is_for_all_redirects_together(internet: Internet, fetch: Fetch) -> None:
    def later(asked: Asked) -> Iterator[bytes]:
        time.sleep(0.3)
        yield from redirect("/on" + asked.path)(asked)

    internet.host("site.example", rest=later)
    with pytest.raises(WebError, match="too slow"):
        fetch(timeout_s=0.5)
    assert len(internet.asked) < 4


def test_the_time_that_a_person_takes_does_not_count(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, later = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock() + later)
    internet.host("site.example", index=redirect("/there"), there=http("hello"))
    asking = Fetcher(WebSettings(timeout_s=20, max_bytes=MB, robots=False, backoff_s=0), internet).page(
        "http://site.example/", lambda _: True
    )
    for purpose in ("page", "redirect"):
        assert next(asking).purpose == purpose
        later += 3600
    with pytest.raises(StopIteration) as stop:
        next(asking)
    assert stop.value.value.data == b"hello"


# ---- endless and huge ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (forever(b"a" * 65536), "larger than 1 MB"),
        (forever(b"10000\r\n" + b"a" * 65536 + b"\r\n", head(Transfer_Encoding="chunked")), "larger than 1 MB"),
        (http(b"a" * (MB + 1)), "larger than 1 MB"),
        (http(b"a", Content_Length="999999999999", length=False), "larger than 1 MB"),
        (forever(b"X-More: " + b"a" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"), "does not answer as a web server should"),
        (forever(b"a" * 1000, b"HTTP/1.1 200 OK\r\nX-Long: "), "does not answer as a web server should"),
        (forever(b"a" * 1000, b""), "does not answer as a web server should"),
        (http(bomb(100), Content_Encoding="gzip"), "larger than 1 MB"),
        (http(gzip.compress(bomb(100)), Content_Encoding="gzip, gzip"), "compressed in a way that was not asked for"),
        (http(gzip.compress(b"a") + bytes(2 * MB), Content_Encoding="gzip", length=False), "larger than 1 MB"),
        (forever(bytes(65536), head(Content_Encoding="gzip") + gzip.compress(b"a")), "larger than 1 MB"),
    ],
    ids=["body", "chunks", "length", "declared", "headers", "header", "status", "bomb", "nested", "tail", "tails"],
)
def test_too_much(answer: Answer, said: str, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=answer)
    with pytest.raises(WebError, match=said):
        fetch()


def test_a_bomb_is_seen_before_it_is_unpacked(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http(bomb(60), Content_Encoding="gzip"))
    with pytest.raises(WebError, match="decompression bomb"):
        fetch(max_bytes=50 * MB)


def test_the_largest_that_is_taken(internet: Internet, fetch: Fetch) -> None:
    noise = bytes(range(256)) * 4096
    internet.host("site.example", plain=http(noise), packed=http(gzip.compress(noise), Content_Encoding="gzip"))
    assert len(noise) == MB
    assert fetch("http://site.example/plain").data == noise == fetch("http://site.example/packed").data


# ---- broken --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: [b"SSH-2.0-OpenSSH_9.6\r\n"], "does not answer as a web server should"),
        (lambda _: [b"\x00\x01\x02\x03\r\n\r\n"], "does not answer as a web server should"),
        (lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"], "does not answer as a web server should"),
        (lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], "does not answer as a web server should"),
        (lambda _: [head(Transfer_Encoding="chunked") + b"zz\r\nhello\r\n"], "does not answer as a web server should"),
        (lambda _: [head(Content_Length="1000") + b"only this"], "does not answer as a web server should"),
        (lambda _: [b"HTTP/1.1 200 OK\r\nContent-Type"], "does not answer as a web server should"),
        (lambda _: [], "does not answer as a web server should"),
        (http(b"not gzip at all", Content_Encoding="gzip"), "does not answer as a web server should"),
        (http(zlib.compress(b"hello"), Content_Encoding="deflate"), "compressed in a way that was not asked for"),
        (http(b"\x1b\x03\x00", Content_Encoding="br"), "compressed in a way that was not asked for"),
        (http(b"\x89PNG", content_type="image/png"), "'image/png', not something to read"),
        (http("gone", status=404), "answers 404 Not Found"),
        (http("no", status=403), "answers 403 Forbidden"),
        (http("odd", status=299 + 301), "answers 600"),
        (http(status=302), "answers 302 Found"),
        (http(status=304), "answers 304 Not Modified"),
        (redirect("http://site.example:-1/"), "not a web server's"),
    ],
)
def test_broken(answer: Answer, said: str, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=answer)
    with pytest.raises(WebError, match=said):
        fetch()


def test_a_page_cut_short_inside_its_compression_is_better_than_none(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http(gzip.compress(b"hello " * 1000)[:-12], Content_Encoding="gzip"))
    assert fetch().data.startswith(b"hello hello")


# ---- redirects -----------------------------------------------------------------------------------------------------


def test_redirects_are_followed_and_told(internet: Internet) -> None:
    internet.host("site.example", index=redirect("/moved", 301), moved=redirect("//other.example/here?x=1", 307))
    internet.host("other.example", here=http("hello"))
    fetcher = Fetcher(WebSettings(timeout_s=20, max_bytes=MB, robots=False, backoff_s=0), internet)
    body, sent = done(fetcher.page("http://site.example/", lambda _: True))
    assert body.url == "http://other.example/here?x=1"
    assert [(request.purpose, request.host, request.text) for request in sent] == [
        ("page", "site.example", "http://site.example/"),
        ("redirect", "site.example", "http://site.example/moved"),
        ("redirect", "other.example", "http://other.example/here?x=1"),
    ]


def test_a_redirect_that_is_not_agreed_to_is_not_followed(internet: Internet) -> None:
    internet.host("site.example", rest=redirect("http://other.example/"))
    internet.host("other.example", rest=http("hello"))
    asking = Fetcher(WebSettings(timeout_s=20, max_bytes=MB, robots=False, backoff_s=0), internet).page(
        "http://site.example/", lambda _: True
    )
    next(asking), next(asking)
    asking.close()
    assert internet.resolved == ["site.example"]


def test_nothing_is_resolved_before_it_is_agreed_to(internet: Internet) -> None:
    asking = Fetcher(WebSettings(timeout_s=20, max_bytes=MB, robots=True, backoff_s=0), internet).page(
        "http://site.example/", lambda _: True
    )
    assert next(asking).text == "http://site.example/"
    asking.close()
    assert (internet.resolved, internet.dialled) == ([], [])


@pytest.mark.parametrize("target", ["/", "http://site.example/", "?"])
def test_a_redirect_to_itself(target: str, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=redirect(target))
    with pytest.raises(WebError, match="redirects more than 5 times"):
        fetch()
    assert len(internet.asked) == 6


def test_two_hosts_that_redirect_to_each_other(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=redirect("http://other.example/"))
    internet.host("other.example", rest=redirect("http://site.example/"))
    with pytest.raises(WebError, match="redirects more than 5 times"):
        fetch()


def test_a_redirect_that_leads_ever_further(internet: Internet, fetch: Fetch) -> None:
    numbers = itertools.count()
    internet.host("site.example", rest=lambda asked: redirect(f"/{next(numbers)}")(asked))
    with pytest.raises(WebError, match="redirects more than 5 times"):
        fetch()


# ---- nothing of ours goes along ------------------------------------------------------------------------------------


def test_cookies_are_not_kept(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", index=http(status=302, Location="/there", Set_Cookie="id=1; Path=/"), there=http("hello"))
    fetch()
    fetch()
    assert len(internet.asked) == 4
    assert not any({"cookie", "referer", "authorization"} & set(asked.headers) for asked in internet.asked)


def test_the_environment_does_not_lead_elsewhere(internet: Internet, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine site.example login ana password secret")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    internet.host("site.example", rest=http("hello"))
    assert fetch().data == b"hello"
    assert "authorization" not in internet.asked[0].headers


# ---- trying again --------------------------------------------------------------------------------------------------


def after(*answers: Answer) -> Answer:
    """Answers in order; the last one repeats."""
    left = list(answers)
    return lambda asked: (left.pop(0) if len(left) > 1 else left[0])(asked)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(status: int, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=after(http("busy", status=status, Retry_After="0"), http("busy", status=status), http("hello")))
    assert fetch().data == b"hello"
    assert len(internet.asked) == 3


def test_but_not_for_ever(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http("busy", status=503))
    with pytest.raises(WebError, match="answers 503 Service Unavailable"):
        fetch()
    assert len(internet.asked) == 3


@pytest.mark.parametrize("when", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"])
def test_not_when_the_server_wants_to_be_left_alone_for_long(when: str, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http("busy", status=429, Retry_After=when))
    with pytest.raises(WebError, match="answers 429 Too Many Requests"):
        fetch()
    assert len(internet.asked) == 1


@pytest.mark.parametrize("when", ["soon", "-1", formatdate(0, usegmt=True), ""])
def test_an_odd_time_to_wait(when: str, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=after(http("busy", status=503, Retry_After=when), http("hello")))
    assert fetch().data == b"hello"


def test_a_refusal_is_final(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", rest=http("no", status=404))
    with pytest.raises(WebError):
        fetch()
    assert len(internet.asked) == 1


def test_a_server_that_cannot_be_reached(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example")
    internet.close()
    with pytest.raises(WebError, match="cannot be reached"):
        fetch()
    assert len(internet.dialled) == 3


# ---- robots --------------------------------------------------------------------------------------------------------


def robots(text: str, **more: Any) -> Answer:
    return http(text, content_type="text/plain", **more)


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ("User-agent: *\nDisallow: /private/", True),
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: sage-cli\nDisallow: /page", False),
        ("User-agent: otherbot\nDisallow: /", True),
        ("User-agent: *\nDisallow: /\nAllow: /page", True),
        ("User-agent: *\nDisallow: /*.html$", True),
        ("User-agent: *\nDisallow: /p*e", False),
        ("\ufeffUser-agent: *\r\nDisallow: /page\r\n", False),
        ("<html>no rules here</html>", True),
        ("", True),
    ],
)
def test_robots(rules: str, allowed: bool, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", page=http("hello"), robots__txt=robots(rules))
    if allowed:
        assert fetch("http://site.example/page", robots=True).data == b"hello"
    else:
        with pytest.raises(WebError, match=r"robots\.txt"):
            fetch("http://site.example/page", robots=True)
    assert internet.paths == (["site.example/page"] if allowed else [])


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (410, True), (500, False), (503, False), (501, False)])
def test_rules_that_cannot_be_had(status: int, allowed: bool, internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", page=http("hello"), robots__txt=http("x", status=status))
    if allowed:
        assert fetch("http://site.example/page", robots=True).data == b"hello"
    else:
        with pytest.raises(WebError, match=str(status)):
            fetch("http://site.example/page", robots=True)


def test_rules_are_read_once_a_host_and_told(internet: Internet) -> None:
    internet.host(
        "site.example", one=http("1"), two=redirect("http://other.example/three"), robots__txt=redirect("/rules"), rules=robots("")
    )
    internet.host("other.example", three=http("3"))
    fetcher = Fetcher(WebSettings(timeout_s=20, max_bytes=MB, robots=True, backoff_s=0), internet)
    sent = [done(fetcher.page(f"http://site.example/{page}", lambda _: True))[1] for page in ("one", "two")]
    assert [[(request.purpose, request.text) for request in requests] for requests in sent] == [
        [
            ("page", "http://site.example/one"),
            ("robots", "http://site.example/robots.txt"),
            ("robots", "http://site.example/rules"),
        ],
        [
            ("page", "http://site.example/two"),
            ("redirect", "http://other.example/three"),
            ("robots", "http://other.example/robots.txt"),
        ],
    ]


def test_rules_can_be_disregarded(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", page=http("hello"), robots__txt=robots("User-agent: *\nDisallow: /"))
    assert fetch("http://site.example/page", robots=False).data == b"hello"
    assert len(internet.asked) == 1


def test_rules_do_not_lead_inside(internet: Internet, fetch: Fetch) -> None:
    internet.host("site.example", page=http("hello"), robots__txt=redirect("http://127.0.0.1/"))
    with pytest.raises(WebError, match="not on the public internet"):
        fetch("http://site.example/page", robots=True)
    assert internet.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize("header", ["\xb2", "\u0663", "-5", "Fri, 99 Foo", "Mon, 01 Jan 99999 00:00:00 GMT", "1" * 5000, ""])
def test_a_retry_after_that_is_none(header: str) -> None:
    """What a stranger writes there ends no run."""
    seconds = fetching._seconds(header)
    assert seconds is None or seconds >= 0

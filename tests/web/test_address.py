"""Addresses of this machine or its network are never opened, in any notation and through any redirect."""

from __future__ import annotations

import itertools
import socket
import threading

import pytest

from sage_cli.web import WebError, addresses_in
from sage_cli.web.address import is_public, parse_address
from tests.web.conftest import Open
from tests.web.internet import PUBLIC, PUBLIC_V6, Internet, article, done, http, redirect

STORY = article("A story", "Once upon a time there was a film, and in the film there was a train, and nobody was late for it. " * 3)

# Hosts, as they can be written in an address, that are not the public internet's.
CLOSED = [
    # this machine
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.01", "127.8.9.10"),
    *("0", "0.0.0.0", "0x0", "localhost", "localhost.", "LOCALHOST", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[::7f00:1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]"),
    # its network
    *("10.0.0.1", "10.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "3232235777", "0xc0a80101", "100.64.0.1", "198.18.0.1"),
    *("[::ffff:192.168.1.1]", "[64:ff9b::c0a8:101]", "[fc00::1]", "[fd12:3456::1]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]"),
    # a cloud's keys
    *("169.254.169.254", "0xa9fea9fe", "2852039166", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]"),
    *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
    # everybody, nobody, examples
    *("224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "[ff02::1]", "[ff0e::1]", "192.0.2.1", "203.0.113.7"),
    *("[2001:db8::1]", "[100::1]", "[3fff::1]", "[5f00::1]"),
    # other digits and dots than ours
    *("\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021"),
]


@pytest.mark.parametrize("host", CLOSED)
def test_is_not_opened(host: str, internet: Internet, open_web: Open) -> None:
    internet.pages["*"] = http(STORY)
    with pytest.raises(WebError, match=r"not on the public internet|is not a web address|is not known"):
        done(open_web().read(f"http://{host}/secret"))
    assert (internet.dialled, internet.asked) == ([], [])


@pytest.mark.parametrize("host", CLOSED)
def test_is_not_redirected_to(host: str, internet: Internet, open_web: Open) -> None:
    internet.host("innocent.example", rest=redirect(f"http://{host}/secret"))
    with pytest.raises(WebError, match=r"not on the public internet|not a web address|is not known"):
        done(open_web().read("http://innocent.example/"))
    assert internet.dialled == [(PUBLIC, 80)]
    assert internet.paths == ["innocent.example/"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fe80::1%lo",
        "fd00::1",
        "0.0.0.0",
    ],
)
def test_a_name_of_such_an_address(address: str, internet: Internet, open_web: Open) -> None:
    internet.names["harmless.example"] = [address]
    with pytest.raises(WebError, match=r"harmless\.example is at .*, which is not on the public internet"):
        done(open_web().read("http://harmless.example/"))
    assert internet.dialled == []


@pytest.mark.parametrize("answers", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC_V6, "::1"], [PUBLIC, "::ffff:10.0.0.1"]])
def test_one_such_address_among_others(answers: list[str], internet: Internet, open_web: Open) -> None:
    internet.names["mixed.example"] = answers
    with pytest.raises(WebError, match="not on the public internet"):
        done(open_web().read("http://mixed.example/"))
    assert internet.dialled == []


def test_a_name_that_changes_its_mind_is_asked_once(internet: Internet, open_web: Open) -> None:
    internet.host("rebind.example", rest=http(STORY))
    internet.names["rebind.example"] = itertools.chain([[PUBLIC]], itertools.repeat(["127.0.0.1"]))
    page, _ = done(open_web().read("http://rebind.example/"))
    assert page.title == "A story"
    assert internet.resolved == ["rebind.example"]
    assert internet.dialled == [(PUBLIC, 80)]


def test_a_name_that_changes_its_mind_between_two_connections(internet: Internet, open_web: Open) -> None:
    internet.host("rebind.example", rest=redirect("/again"))
    internet.names["rebind.example"] = itertools.chain([[PUBLIC]], itertools.repeat(["127.0.0.1"]))
    with pytest.raises(WebError, match="not on the public internet"):
        done(open_web().read("http://rebind.example/"))
    assert internet.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://site.example/",
        "gopher://site.example/",
        "javascript:alert(1)",
        "data:text/html,hello",
        "about:blank",
        "unix:///run/docker.sock",
        "//site.example/",
        "/etc/passwd",
        "site.example",
        "",
        "http://",
        "http:///path",
        "http://user:secret@site.example/",
        "http://user@site.example/",
        "http://127.0.0.1:80@site.example/",
        "http://site.example\\@127.0.0.1/",
        "http://site.example:22/",
        "http://site.example:25/",
        "http://site.example:0/",
        "http://site.example:99999/",
        "http://site.example:port/",
        "http://site%2eexample/",
        "http://si te.example/",
        "http://site.example\r\nX-Injected: 1/",
        "http://\x00/",
        "http://[::1",
        "http://xn--/",
        "http://-site.example/",
        f"http://{'a.' * 130}example/",
        "http://site.example/" + "a" * 2100,
    ],
)
def test_is_not_a_web_address(address: str, internet: Internet, open_web: Open) -> None:
    internet.host("site.example", rest=http(STORY))
    with pytest.raises(WebError):
        done(open_web().read(address))
    assert (internet.resolved, internet.dialled) == ([], [])


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://site.example/", "http://u:p@site.example/", "http://site.example:22/", "http://["]
)
def test_redirects_are_held_to_the_same(target: str, internet: Internet, open_web: Open) -> None:
    internet.host("site.example", rest=redirect(target))
    with pytest.raises(WebError):
        done(open_web().read("http://site.example/"))
    assert len(internet.dialled) == 1


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", PUBLIC_V6, "2001:4860:4860::8888", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["", "site.example", "127.1", "1.2.3", "1.2.3.4.5", "01.2.3.4"])
def test_what_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)


def test_an_address_as_it_is_sent() -> None:
    assert str(parse_address("HTTP://M\u00fcnchen.example:80/a b?q=\u00e4#there")) == "http://xn--mnchen-3ya.example/a%20b?q=%C3%A4"


def test_a_name_server_that_does_not_answer(internet: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = threading.Event()
    monkeypatch.setattr(internet, "resolve", lambda *_: asleep.wait() and [])
    with pytest.raises(WebError, match="too slow"):
        done(open_web(timeout_s=0.3).read("http://site.example/"))
    asleep.set()


def test_a_name_that_is_not_known(internet: Internet, open_web: Open) -> None:
    with pytest.raises(WebError, match=r"nowhere\.example is not known"):
        done(open_web().read("http://nowhere.example/"))


def test_the_second_address_is_tried_when_the_first_is_dead(internet: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    internet.host("site.example", rest=http(STORY))
    internet.names["site.example"] = [PUBLIC_V6, PUBLIC]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        alive, dead = internet.port, unused.getsockname()[1]
        connect = internet.connect

        def by_family(address: str, port: int, timeout: float) -> object:
            internet.port = dead if ":" in address else alive
            return connect(address, port, timeout)

        monkeypatch.setattr(internet, "connect", by_family)
        assert done(open_web().read("http://site.example/"))[0].title == "A story"
    assert internet.dialled == [(PUBLIC_V6, 80), (PUBLIC, 80)]


def test_addresses_in_a_question() -> None:
    question = 'What does https://site.example/a?b=c#d say (or <HTTP://other.example/x_(y)>, "http://third.example.")? Not ftp://no.example'
    assert addresses_in(question) == ["https://site.example/a?b=c#d", "HTTP://other.example/x_(y)", "http://third.example"]
    film = "https://en.wikipedia.org/wiki/Alien_(film)"
    for around in (
        "{}?",
        "({}).",
        "[see {}]",
        "\u770b{}\u3002\u5b83",
        "\uff08{}\uff09",
        "\u201c{}\u201d",
        "\u00ab{}\u00bb",
        "\u300c{}\u300d",
    ):
        assert addresses_in(around.format(film)) == [film]

"""Each search provider, with responses in the real format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from threading import Event
from urllib.parse import parse_qs, urlsplit

import keyring
import keyring.backend
import keyring.errors
import pytest

from sage_cli.errors import UsageError
from sage_cli.web import Found, Request, WebError, WebSettings
from sage_cli.web.base import Kind
from tests.web.conftest import Open
from tests.web.internet import Asked, Internet, as_json, done, http, redirect, tunnel

Secure = Callable[..., Internet]

EMMA = [
    Found(
        "Emma (novel) - Wikipedia", "Emma is a novel written by English author Jane Austen.", "https://en.wikipedia.org/wiki/Emma_(novel)"
    ),
    Found("Emma & her author", "Published in 1815 by <John Murray>.", "https://books.example/emma?page=1"),
]

SERPER = {
    "searchParameters": {"q": "who wrote Emma", "type": "search", "num": 3, "engine": "google"},
    "knowledgeGraph": {"title": "Emma", "type": "Novel by Jane Austen"},
    "organic": [
        {
            "title": "Emma (novel) - Wikipedia",
            "link": "https://en.wikipedia.org/wiki/Emma_(novel)",
            "snippet": "Emma is a novel written by English author Jane Austen.",
            "position": 1,
        },
        {
            "title": "Emma & her author",
            "link": "https://books.example/emma?page=1",
            "snippet": "Published in 1815 by <John Murray>.",
            "date": "2 Jan 2020",
            "position": 2,
        },
    ],
    "credits": 1,
}
SERPER_IMAGES = {
    "images": [
        {
            "title": "Portrait of a lady",
            "imageUrl": "https://images.example/lady.jpg",
            "imageWidth": 800,
            "thumbnailUrl": "https://images.example/t.jpg",
            "source": "The Museum",
            "domain": "museum.example",
            "link": "https://museum.example/lady",
        }
    ]
}
BRAVE = {
    "type": "search",
    "query": {"original": "who wrote Emma"},
    "web": {
        "type": "search",
        "results": [
            {
                "title": "Emma (novel) - Wikipedia",
                "url": "https://en.wikipedia.org/wiki/Emma_(novel)",
                "description": "<strong>Emma</strong> is a novel written\n by English author Jane Austen.",
                "language": "en",
                "family_friendly": True,
            },
            {
                "title": "Emma &amp; her author",
                "url": "https://books.example/emma?page=1",
                "description": "Published in 1815 by &lt;John Murray&gt;.",
            },
        ],
    },
}
BRAVE_IMAGES = {
    "type": "images",
    "results": [
        {
            "type": "image_result",
            "title": "Portrait of a lady",
            "url": "https://museum.example/lady",
            "source": "The Museum",
            "thumbnail": {"src": "https://imgs.search.example/x"},
            "properties": {"url": "https://images.example/lady.jpg"},
        }
    ],
}
SEARXNG = {
    "query": "who wrote Emma",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://en.wikipedia.org/wiki/Emma_(novel)",
            "title": "Emma (novel) - Wikipedia",
            "content": "Emma is a novel written by English author Jane Austen.",
            "engines": ["google", "bing"],
            "score": 9.0,
            "publishedDate": None,
        },
        {"url": "https://books.example/emma?page=1", "title": "Emma & her author", "content": "Published in 1815 by <John Murray>."},
        {"url": "https://more.example/", "title": "More", "content": ""},
    ],
    "answers": [],
    "unresponsive_engines": [["qwant", "timeout"]],
}
LADY = [Found("Portrait of a lady", "The Museum", "https://museum.example/lady")]


# ---- with a key ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "answer", "found"), [("web", SERPER, EMMA), ("image", SERPER_IMAGES, LADY)])
def test_serper(kind: Kind, answer: object, found: list[Found], secure: Secure, open_web: Open) -> None:
    internet = secure("google.serper.dev")
    internet.host("google.serper.dev", rest=as_json(answer))
    results, sent = done(open_web(provider="serper", key="s3cret").search("who wrote Emma", kind, 3))
    assert results == found
    assert sent == [Request("search", "google.serper.dev", "who wrote Emma")]
    [asked] = internet.asked
    assert (asked.method, asked.path, asked.headers["x-api-key"]) == ("POST", "/search" if kind == "web" else "/images", "s3cret")
    assert json.loads(asked.body) == {"q": "who wrote Emma", "num": 3}


@pytest.mark.parametrize(("kind", "answer", "found"), [("web", BRAVE, EMMA), ("image", BRAVE_IMAGES, LADY)])
def test_brave(kind: Kind, answer: object, found: list[Found], secure: Secure, open_web: Open) -> None:
    internet = secure("api.search.brave.com")
    internet.host("api.search.brave.com", rest=as_json(answer))
    results, sent = done(open_web(provider="brave", key="s3cret").search("Emma & \u00c4hren?", kind, 2))
    assert results == found
    assert sent == [Request("search", "api.search.brave.com", "Emma & \u00c4hren?")]
    [asked] = internet.asked
    assert urlsplit(asked.path).path == ("/res/v1/web/search" if kind == "web" else "/res/v1/images/search")
    assert parse_qs(urlsplit(asked.path).query) == {"q": ["Emma & \u00c4hren?"], "count": ["2"]}
    assert (asked.method, asked.headers["x-subscription-token"]) == ("GET", "s3cret")


def test_a_key_is_not_given_away(secure: Secure, open_web: Open) -> None:
    settings = WebSettings(provider="brave", key="s3cret")
    assert "s3cret" not in repr(settings)
    internet = secure("api.search.brave.com")
    internet.host("api.search.brave.com", rest=redirect("https://thief.example/"))
    internet.host("thief.example", rest=as_json(BRAVE))
    with pytest.raises(WebError, match="redirects elsewhere"):
        done(open_web(provider="brave", key="s3cret").search("Emma"))
    assert internet.resolved == ["api.search.brave.com"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("no", status=401), "answers 401 Unauthorized"),
        (http("no", status=429, Retry_After="600"), "answers 429 Too Many Requests"),
        (http("<html>login</html>"), "cannot be read"),
        (as_json([1, 2]), "cannot be read"),
        (as_json({"web": [1]}), "cannot be read"),
        (http("[" * 100_000), "cannot be read"),
    ],
)
def test_a_service_that_fails(answer: Callable[[Asked], Iterator[bytes]], said: str, secure: Secure, open_web: Open) -> None:
    internet = secure("api.search.brave.com")
    internet.host("api.search.brave.com", rest=answer)
    with pytest.raises(WebError, match=said):
        done(open_web(provider="brave", key="k").search("Emma"))


@pytest.mark.parametrize("answer", [{}, {"web": None}, {"web": {"results": None}}, {"web": {"results": [1, None, {}]}}])
def test_nothing_found(answer: object, secure: Secure, open_web: Open) -> None:
    internet = secure("api.search.brave.com")
    internet.host("api.search.brave.com", rest=as_json(answer))
    assert done(open_web(provider="brave", key="k").search("Emma"))[0] == []


def test_odd_results_are_left_out_and_long_ones_cut(secure: Secure, open_web: Open) -> None:
    internet = secure("api.search.brave.com")
    results = [
        {"title": "a script", "url": "javascript:alert(1)", "description": ""},
        {"title": "a file", "url": "file:///etc/passwd", "description": ""},
        {"title": "too long", "url": "https://site.example/" + "a" * 3000, "description": ""},
        {"title": "t" * 9999, "url": "https://site.example/", "description": "s" * 9999},
        {"title": "the same again", "url": "https://site.example/", "description": ""},
        {"title": f"<b>&#{'1' * 9999};&amp;</b>", "url": "https://site.example/number", "description": ""},
        {"title": 7, "url": "https://site.example/7", "description": ["x"]},
    ]
    internet.host("api.search.brave.com", rest=as_json({"web": {"results": results}}))
    first, number, second = done(open_web(provider="brave", key="k").search("Emma", "web", 10))[0]
    assert (len(first.title), len(first.snippet)) == (200, 600)
    assert number.title.startswith("&#111")
    assert second == Found("", "", "https://site.example/7")


# ---- the user's own ------------------------------------------------------------------------------------------------


def test_searxng_may_live_at_a_private_address(internet: Internet, open_web: Open) -> None:
    internet.pages["localhost/sub/search"] = as_json(SEARXNG)
    results, sent = done(open_web(provider="searxng", searxng_url="http://localhost:8888/sub/").search("who wrote Emma", "web", 2))
    assert results == EMMA
    assert sent == [Request("search", "localhost", "who wrote Emma")]
    assert internet.dialled[0][1] == 8888
    assert parse_qs(urlsplit(internet.asked[0].path).query) == {"q": ["who wrote Emma"], "format": ["json"]}


def test_searxng_images(internet: Internet, open_web: Open) -> None:
    answer = {"results": [{"url": "https://museum.example/lady", "title": "Portrait of a lady", "content": "", "source": "The Museum"}]}
    internet.pages["localhost/search"] = as_json(answer)
    assert done(open_web(provider="searxng", searxng_url="http://localhost:8888").search("lady", "image"))[0] == LADY
    assert parse_qs(urlsplit(internet.asked[0].path).query)["categories"] == ["images"]


def test_searxng_without_json_says_what_to_do(internet: Internet, open_web: Open) -> None:
    internet.pages["localhost*"] = http("forbidden", status=403)
    with pytest.raises(WebError, match=r"search\.formats"):
        done(open_web(provider="searxng", searxng_url="http://localhost:8888").search("Emma"))


def test_that_searxng_is_private_opens_no_other_door(internet: Internet, open_web: Open) -> None:
    internet.pages["localhost*"] = http("hello")
    web = open_web(provider="searxng", searxng_url="http://localhost:8888")
    with pytest.raises(WebError, match="not on the public internet"):
        done(web.read("http://localhost:8888/"))
    assert internet.dialled == []


# ---- without a key -------------------------------------------------------------------------------------------------

DUCKDUCKGO = """<html><body><div id="links" class="results">
<div class="result results_links results_links_deep web-result"><div class="links_main links_deep result__body">
<h2 class="result__title"><a rel="nofollow" class="result__a" href="https://en.wikipedia.org/wiki/Emma_(novel)">Emma (novel) -
 <b>Wikipedia</b></a></h2>
<a class="result__snippet" href="https://en.wikipedia.org/wiki/Emma_(novel)">
<b>Emma</b> is a novel written by English author Jane Austen.</a>
</div></div>
<div class="result"><div class="links_main links_deep result__body">
<h2 class="result__title"><a class="result__a" href="https://duckduckgo.com/y.js?ad_domain=shop.example">Buy Emma</a></h2>
<a class="result__snippet" href="https://duckduckgo.com/y.js?ad_domain=shop.example">An advertisement</a></div></div>
</div></body></html>"""
BRAVE_PAGE = """<html><body><div id="results"><div class="snippet" data-type="web"><a href="https://en.wikipedia.org/wiki/Emma_(novel)">
<div class="title search-snippet-title">Emma (novel) - Wikipedia</div></a>
<div class="generic-snippet"><div class="content">
Emma is a novel written by English author Jane Austen.</div></div></div></div></body></html>"""
ENGINES = ("html.duckduckgo.com", "duckduckgo.com", "search.brave.com", "www.mojeek.com", "www.bing.com")


@pytest.fixture
def engines(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """The internet with search engines for people, of which none finds anything. The package that asks them is let in through a tunnel."""
    internet = secure(*ENGINES)
    for name in ENGINES:
        internet.host(name, rest=http("<html><body>No results.</body></html>"))
    with tunnel(internet) as proxy:
        monkeypatch.setenv("DDGS_PROXY", proxy)
        yield internet


def test_without_a_key(engines: Internet, open_web: Open) -> None:
    engines.host("html.duckduckgo.com", rest=http(DUCKDUCKGO))
    results, sent = done(open_web().search("who wrote Emma"))
    assert results == EMMA[:1]
    assert sent == [Request("search", "html.duckduckgo.com", "who wrote Emma")]
    assert engines.resolved == ["html.duckduckgo.com:443"]
    assert parse_qs(engines.asked[0].body.decode())["q"] == ["who wrote Emma"]


def test_the_next_engine_is_asked_when_one_finds_nothing_and_that_is_told(engines: Internet, open_web: Open) -> None:
    engines.host("search.brave.com", rest=http(BRAVE_PAGE))
    results, sent = done(open_web().search("who wrote Emma"))
    assert [item.link for item in results] == [EMMA[0].link]
    assert [request.host for request in sent] == ["html.duckduckgo.com", "search.brave.com"]
    assert {name.partition(":")[0] for name in engines.resolved} == {"html.duckduckgo.com", "search.brave.com"}


def test_an_engine_is_asked_only_when_that_is_agreed_to(engines: Internet, open_web: Open) -> None:
    asking = open_web().search("who wrote Emma")
    next(asking)
    assert engines.resolved == []
    next(asking)
    asking.close()
    assert engines.resolved == ["html.duckduckgo.com:443"]


def test_no_engine_finds_anything(engines: Internet, open_web: Open) -> None:
    results, sent = done(open_web().search("who wrote Emma"))
    assert (results, len(sent)) == ([], 3)


@pytest.mark.parametrize("status", [202, 403, 429, 503])
def test_engines_that_refuse_are_no_answer_without_results(status: int, engines: Internet, open_web: Open) -> None:
    for name in ENGINES:
        engines.host(name, rest=http("<html><body>Are you a robot?</body></html>", status=status))
    with pytest.raises(WebError, match=r"no search engine answers \(html\.duckduckgo\.com, .*wait, or use another --search-provider$"):
        done(open_web().search("who wrote Emma"))
    engines.host("search.brave.com", rest=http("<html><body>No results.</body></html>"))
    assert done(open_web().search("who wrote Emma"))[0] == []


def test_an_engine_that_ddgs_lost_is_an_engine_that_fails(engines: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddgs.engines.ENGINES", {"text": {}})
    with pytest.raises(WebError, match="no search engine can be reached"):
        done(open_web().search("who wrote Emma"))
    assert engines.asked == []


def test_no_engine_can_be_reached(open_web: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDGS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(WebError, match=r"no search engine can be reached \(html\.duckduckgo\.com"):
        done(open_web().search("who wrote Emma"))


class Panic(BaseException):
    """As a panic in a Rust library reaches Python (``pyo3_runtime.PanicException``)."""


@pytest.mark.parametrize("failure", [Panic("index out of bounds"), ValueError("not HTML")])
def test_an_engine_whose_library_fails_is_an_engine_that_fails(
    failure: BaseException, engines: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("ddgs.base.BaseSearchEngine.search", fail)
    with pytest.raises(WebError, match="no search engine can be reached"):
        done(open_web().search("who wrote Emma"))


def test_an_engine_that_never_answers_is_left(engines: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    never = Event()
    monkeypatch.setattr("ddgs.base.BaseSearchEngine.search", lambda *_, **__: never.wait())
    with pytest.raises(WebError, match="no search engine can be reached"):
        done(open_web(timeout_s=0.01).search("who wrote Emma"))
    never.set()


def test_images_without_a_key(engines: Internet, open_web: Open) -> None:
    found = {
        "title": "Portrait of a lady",
        "image": "https://images.example/lady.jpg",
        "thumbnail": "https://t.example/1",
        "url": "https://museum.example/lady",
        "height": 600,
        "width": 800,
        "source": "The Museum",
    }
    engines.host("duckduckgo.com", index=http('<script>vqd="4-123"</script>'), i__js=as_json({"results": [found]}))
    results, sent = done(open_web().search("lady", "image"))
    assert results == LADY
    assert sent == [Request("search", "duckduckgo.com", "lady")]


# ---- settings ------------------------------------------------------------------------------------------------------


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self, locked: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.locked = locked

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")
        return {("sage-cli", "brave"): "from the ring"}.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("nothing is written")


@pytest.fixture
def ring() -> Iterator[Callable[[Ring], None]]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_the_key_comes_from_the_environment_or_the_keyring(monkeypatch: pytest.MonkeyPatch, ring: Callable[[Ring], None]) -> None:
    ring(Ring())
    assert WebSettings.from_environment(provider="brave").secret() == "from the ring"
    monkeypatch.setenv("SAGE_SEARCH_KEY", "from the environment")
    assert WebSettings.from_environment(provider="brave").secret() == "from the environment"


@pytest.mark.parametrize("locked", [False, True])
def test_no_key(locked: bool, open_web: Open, ring: Callable[[Ring], None]) -> None:
    ring(Ring(locked))
    with pytest.raises(UsageError, match="serper needs a key: set SAGE_SEARCH_KEY"):
        open_web(provider="serper")


@pytest.mark.parametrize("key", ["s3cret\nX-Other: 1", "s3cr\u00e9t"])
def test_a_key_that_was_not_pasted_whole_is_told_and_not_shown(key: str, open_web: Open) -> None:
    with pytest.raises(UsageError, match="pasted whole") as failure:
        open_web(provider="brave", key=key)
    assert "s3c" not in str(failure.value)


def test_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WebSettings.from_environment() == WebSettings()
    monkeypatch.setenv("SAGE_WEB_ROBOTS", "0")
    monkeypatch.setenv("SAGE_WEB_MAX_AGE", "1.5")
    assert WebSettings.from_environment(offline=True) == WebSettings(robots=False, max_age_s=5400, offline=True)


@pytest.mark.parametrize(("name", "value"), [("SAGE_WEB_ROBOTS", "maybe"), ("SAGE_WEB_MAX_AGE", "a week")])
def test_settings_that_cannot_be(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        WebSettings.from_environment()


@pytest.mark.parametrize(
    "given",
    [
        {"provider": "altavista"},
        {"provider": "searxng"},
        {"provider": "searxng", "searxng_url": "localhost"},
        {"provider": "searxng", "searxng_url": "http://["},
        {"provider": "searxng", "searxng_url": "http://u:s3cret@localhost"},
    ],
)
def test_providers_that_cannot_be(given: dict[str, str]) -> None:
    with pytest.raises(UsageError) as failure:
        WebSettings(**given)  # type: ignore[arg-type]
    assert "s3cret" not in str(failure.value)

"""Cached results are not requested again for a while; offline, nothing is requested."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sage_cli.web import Found, Page, Request, Web, WebError, WebSettings
from sage_cli.web import web as caching
from sage_cli.web.web import WebCache
from tests.web.conftest import Open
from tests.web.internet import Internet, as_json, done, http

SEARXNG = {"provider": "searxng", "searxng_url": "http://localhost:8888"}
ANSWER = {"results": [{"url": "https://site.example/", "title": "A", "content": "B"}]}


@pytest.fixture
def site(internet: Internet) -> Internet:
    internet.host("site.example", rest=http("words", content_type="text/plain"))
    internet.pages["localhost*"] = as_json(ANSWER)
    return internet


def test_a_page_is_fetched_once(site: Internet, open_web: Open) -> None:
    first, sent = done(open_web().read("http://site.example/"))
    assert (first, sent) == (Page("http://site.example/", "", "words", None), [Request("page", "site.example", "http://site.example/")])
    assert done(open_web().read("http://site.example/")) == (first, [])
    assert len(site.resolved) == 1


def test_a_search_is_made_once(site: Internet, open_web: Open) -> None:
    web = open_web(**SEARXNG)
    assert done(web.search("Emma"))[0] == [Found("A", "B", "https://site.example/")] == done(web.search("Emma"))[0]
    assert len(site.asked) == 1
    done(web.search("Emma", "image", 3))
    done(web.search("Emma", "web", 4))
    done(web.search("emma", "web", 3))
    assert len(site.asked) == 4


def test_nothing_found_may_be_different_next_time(site: Internet, open_web: Open) -> None:
    site.pages["localhost*"] = as_json({"results": []})
    web = open_web(**SEARXNG)
    done(web.search("Emma")), done(web.search("Emma"))
    assert len(site.asked) == 2


def test_failures_are_not_kept(site: Internet, open_web: Open) -> None:
    site.host("site.example", rest=http("no", status=404))
    for _ in range(2):
        with pytest.raises(WebError):
            done(open_web().read("http://site.example/"))
    assert len(site.asked) == 2


def test_old_answers_are_not_good_enough_but_better_than_none_offline(
    site: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(open_web(max_age_s=100).read("http://site.example/"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 99)
    assert done(open_web(max_age_s=100).read("http://site.example/"))[1] == []
    monkeypatch.setattr(time, "time", lambda: now + 101)
    assert done(open_web(max_age_s=100, offline=True).read("http://site.example/"))[0].text == "words"
    assert len(site.asked) == 1
    assert len(done(open_web(max_age_s=100).read("http://site.example/"))[1]) == 1


def test_offline(site: Internet, open_web: Open) -> None:
    web = open_web(offline=True, **SEARXNG)
    with pytest.raises(WebError, match="not in the cache, and offline"):
        done(web.read("http://site.example/"))
    with pytest.raises(WebError, match="not in the cache, and offline"):
        done(web.search("Emma"))
    assert (site.resolved, site.dialled) == ([], [])


def test_offline_needs_no_key(tmp_path: Path) -> None:
    Web(WebSettings(provider="brave", offline=True), tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"key": ["page"]}', '{"key": ["page", "u"], "at": "now", "value": {}}'])
def test_a_broken_file_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    cache = WebCache(tmp_path, 100)
    cache.put({"a": 1}, "page", "u")
    [file] = tmp_path.iterdir()
    file.write_text(content)
    assert cache.get(dict, "page", "u") is None


def test_a_file_of_another_version_is_as_good_as_none(site: Internet, open_web: Open, tmp_path: Path) -> None:
    WebCache(tmp_path / "web", None).put({"url": "u", "colour": "red"}, "page", "http://site.example/")
    assert len(done(open_web().read("http://site.example/"))[1]) == 1


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    cache = WebCache(tmp_path, None)
    cache.put({"text": "number 1", "date": None}, "page", "u")
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.get(dict, "page", "u") in (None, {"text": "number 1", "date": None})
    for other in b"[" * 100_000, b'{"digest": NaN}', b"\xff", whole[:-1]:
        file.write_bytes(other)
        assert cache.get(dict, "page", "u") is None
        assert not file.exists()
    file.mkdir()
    assert cache.get(dict, "page", "u") is None
    cache.put({}, "page", "u")  # cannot be kept, which harms nobody
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_only_this_user_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    WebCache(folder, 100).put(1, "a")
    [file] = folder.iterdir()
    assert file.stat().st_mode & 0o77 == 0


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = WebCache(tmp_path / "file" / "web", 100)
    cache.put(1, "a")
    assert cache.get(int, "a") is None
    assert "web is not used: Not a directory" in caplog.text


def test_the_oldest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = WebCache(tmp_path, 100)
    cache.put("x" * 1000, "0")
    [first] = tmp_path.iterdir()
    os.utime(first, (1, 1))
    monkeypatch.setattr(caching, "LIMIT", 3500)
    for number in range(1, 4):
        cache.put("x" * 1000, str(number))
    assert [cache.get(len, str(number)) for number in range(4)] == [None, 1000, 1000, 1000]
    assert not list(tmp_path.glob("*.part"))

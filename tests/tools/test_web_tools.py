"""web-search and parse-website, on the loopback internet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sage_cli.tools import TOOLS, AnyTool, Outcome, ToolError, Workspace, complete, web_tools
from sage_cli.video import Video
from sage_cli.web import Request, Web, WebError, WebSettings
from tests.agent.scripted import ScriptedModel
from tests.web.internet import Internet, article, as_json, http

LINKS = ["http://site.example/emma", "http://other.example/austen#life"]
RESULTS = {"results": [{"url": link, "title": f"Title {n}", "content": f"Snippet {n}"} for n, link in enumerate(LINKS)]}


@pytest.fixture
def internet() -> Iterator[Internet]:
    internet = Internet()
    internet.pages["localhost*"] = as_json(RESULTS)
    internet.host("site.example", rest=http("Emma was written by Jane Austen. " * 400, content_type="text/plain"))
    yield internet
    internet.close()


@pytest.fixture
def workspace(video: Video) -> Iterator[Workspace]:
    with Workspace(ScriptedModel(), video) as workspace:
        yield workspace


@pytest.fixture
def tools(internet: Internet, tmp_path: Path) -> dict[str, AnyTool]:
    settings = WebSettings(provider="searxng", searxng_url="http://localhost:8888", robots=False, backoff_s=0)
    return {tool.name: tool for tool in web_tools(Web(settings, tmp_path, network=internet))}


def use(tool: AnyTool, workspace: Workspace, **arguments: Any) -> Outcome:
    return complete(tool.run(tool.arguments(**arguments), workspace))


def test_the_local_tools_are_local() -> None:
    assert {tool.name for tool in TOOLS} == {"transcribe-speech", "ground-event", "extract-video-parts", "analyze"}


def test_a_search_in_wire_shape(tools: dict[str, AnyTool], workspace: Workspace) -> None:
    outcome = use(tools["web-search"], workspace, query="who wrote Emma")
    assert outcome.result == {
        "search_type": "web",
        "query": "who wrote Emma",
        "results": [{"title": f"Title {n}", "snippet": f"Snippet {n}", "link": link} for n, link in enumerate(LINKS)],
    }
    assert list(outcome.result) == ["search_type", "query", "results"]
    assert outcome.summary == "Title 0; Title 1"
    assert tools["web-search"].span(tools["web-search"].arguments(query="x"), workspace) is None


def test_what_a_search_found_can_be_opened_and_nothing_before(tools: dict[str, AnyTool], workspace: Workspace) -> None:
    assert tools["parse-website"].schema(workspace) is None
    use(tools["web-search"], workspace, query="who wrote Emma")
    schema = tools["parse-website"].schema(workspace)
    assert schema is not None
    assert schema["properties"]["website_url"] == {"enum": LINKS}
    page = use(tools["parse-website"], workspace, website_url=LINKS[0])
    assert list(page.result) == ["title", "content", "url"]
    assert len(page.result["content"]) == 5000
    assert page.result["url"] == LINKS[0]
    assert page.summary == "http://site.example/emma: 5000 of 13199 characters"


def test_how_much_of_a_page(tools: dict[str, AnyTool], workspace: Workspace) -> None:
    workspace.allow_addresses(LINKS)
    assert use(tools["parse-website"], workspace, website_url=LINKS[0], max_content_length=12).result["content"] == "Emma was wri"


def test_title_and_date(tools: dict[str, AnyTool], workspace: Workspace, internet: Internet) -> None:
    text = "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition, seemed to unite blessings. " * 3
    head = '<meta property="article:published_time" content="2015-12-23">'
    internet.host("other.example", rest=http(article("Emma", text, head=head)))
    workspace.allow_addresses(LINKS)
    result = use(tools["parse-website"], workspace, website_url=LINKS[1]).result
    assert (result["title"], result.get("date")) == ("Emma", "2015-12-23")


@pytest.mark.parametrize("spelling", ["http://site.example/emma/", "http://site.example/emma#top", " http://site.example/emma "])
def test_an_address_spelled_a_little_differently(spelling: str, tools: dict[str, AnyTool], workspace: Workspace) -> None:
    workspace.allow_addresses(LINKS)
    assert use(tools["parse-website"], workspace, website_url=spelling).result["url"] == LINKS[0]


@pytest.mark.parametrize(
    "address",
    [
        "http://site.example/",
        "http://site.example/emma?secret=1",
        "https://site.example/emma",
        "http://evil.example/",
        "file:///etc/passwd",
        "",
    ],
)
def test_other_addresses_are_not_opened(address: str, tools: dict[str, AnyTool], workspace: Workspace, internet: Internet) -> None:
    workspace.allow_addresses(LINKS)
    with pytest.raises(ToolError, match="search first"):
        use(tools["parse-website"], workspace, website_url=address)
    assert internet.resolved == []


def test_requests_are_said_before_they_are_sent(tools: dict[str, AnyTool], workspace: Workspace, internet: Internet) -> None:
    search, parse = tools["web-search"], tools["parse-website"]
    run = search.run(search.arguments(query="Emma"), workspace)
    assert next(run) == Request("search", "localhost", "Emma")
    run.close()
    workspace.allow_addresses(LINKS)
    run = parse.run(parse.arguments(website_url=LINKS[0]), workspace)
    assert next(run) == Request("page", "site.example", LINKS[0])
    run.close()
    assert (internet.resolved, internet.dialled) == ([], [])


def test_a_failure_is_an_error_for_the_model(tools: dict[str, AnyTool], workspace: Workspace, internet: Internet) -> None:
    internet.host("site.example", rest=http("no", status=404))
    workspace.allow_addresses(LINKS)
    with pytest.raises(WebError, match="site.example answers 404 Not Found"):  # noqa: RUF043
        use(tools["parse-website"], workspace, website_url=LINKS[0])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("web-search", {"query": "x" * 301}),
        ("web-search", {"query": "x", "num_results": 11}),
        ("web-search", {"query": "x", "num_results": 0}),
        ("web-search", {"query": "x", "search_type": "video"}),
        ("parse-website", {"website_url": "x", "max_content_length": 20_001}),
        ("parse-website", {"website_url": "x", "max_content_length": 0}),
    ],
)
def test_arguments_are_bounded(tool: str, arguments: dict[str, Any], tools: dict[str, AnyTool]) -> None:
    with pytest.raises(ValidationError):
        tools[tool].arguments(**arguments)

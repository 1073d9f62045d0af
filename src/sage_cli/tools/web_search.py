"""web-search: results of a search engine. Available only with the user's consent."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from sage_cli.tools.base import Arguments, Outcome, Tool, ToolRun
from sage_cli.tools.schema import Schema, one_of, record, text, whole
from sage_cli.tools.workspace import Workspace
from sage_cli.web import Web

_QUERY_LENGTH: Final = 300
_MOST_RESULTS: Final = 10


class WebSearchArguments(Arguments):
    query: str = Field(max_length=_QUERY_LENGTH)
    search_type: Literal["web", "image"] = Field("web", description='"web" for pages, "image" for pages with images.')
    num_results: int = Field(3, ge=1, le=_MOST_RESULTS)


class WebSearch(Tool[WebSearchArguments]):
    """Searches with ``web``."""

    name = "web-search"
    title = "Searched the web"
    arguments = WebSearchArguments

    def __init__(self, web: Web) -> None:
        self._web = web

    def schema(self, workspace: Workspace) -> Schema:
        return record(query=text(_QUERY_LENGTH), search_type=one_of(["web", "image"]), num_results=whole(1, _MOST_RESULTS))

    def span(self, arguments: WebSearchArguments, workspace: Workspace) -> None:
        return None

    def run(self, arguments: WebSearchArguments, workspace: Workspace) -> ToolRun:
        found = yield from self._web.search(arguments.query, arguments.search_type, arguments.num_results)
        workspace.allow_addresses(item.link for item in found)
        results = [{"title": item.title, "snippet": item.snippet, "link": item.link} for item in found]
        summary = "; ".join(item.title or item.link for item in found) or "nothing found"
        return Outcome({"search_type": arguments.search_type, "query": arguments.query, "results": results}, summary)

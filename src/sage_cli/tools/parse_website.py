"""parse-website: the text of a page. Available only with the user's consent.

Only addresses from a search or from the question can be opened. An address that the model invents, or that a page makes it invent, could
leak what it knows about the video.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sage_cli.tools.base import Arguments, Outcome, Tool, ToolError, ToolRun
from sage_cli.tools.schema import Schema, one_of, record, whole
from sage_cli.tools.workspace import Workspace
from sage_cli.web import Web

_LEAST, _USUAL, _MOST = 500, 5000, 20_000  # characters


class ParseWebsiteArguments(Arguments):
    website_url: str
    max_content_length: int = Field(_USUAL, ge=1, le=_MOST)


class ParseWebsite(Tool[ParseWebsiteArguments]):
    """Fetches pages with ``web``."""

    name = "parse-website"
    title = "Read a page"
    arguments = ParseWebsiteArguments

    def __init__(self, web: Web) -> None:
        self._web = web

    def schema(self, workspace: Workspace) -> Schema | None:
        if not workspace.addresses:
            return None
        return record(website_url=one_of(workspace.addresses), max_content_length=whole(_LEAST, _MOST))

    def span(self, arguments: ParseWebsiteArguments, workspace: Workspace) -> None:
        return None

    def run(self, arguments: ParseWebsiteArguments, workspace: Workspace) -> ToolRun:
        known = {_bare(address): address for address in workspace.addresses}
        if (address := known.get(_bare(arguments.website_url))) is None:
            raise ToolError("only links that a search gave, or addresses in the question, can be opened; search first")
        page = yield from self._web.read(address)
        content = page.text[: arguments.max_content_length]
        result: dict[str, Any] = {"title": page.title, "content": content, "url": page.url} | ({"date": page.date} if page.date else {})
        size = f"{len(content)} of {len(page.text)}" if len(content) < len(page.text) else f"{len(content)}"
        return Outcome(result, f"{page.title or page.url}: {size} characters")


def _bare(address: str) -> str:
    """A canonical form of an address: equal for spellings that make the same request."""
    return address.strip().partition("#")[0].rstrip("/")

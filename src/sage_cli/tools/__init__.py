"""The agent's tools, each usable by itself: ``complete(Analyze().run(arguments, workspace))``."""

from collections.abc import Mapping

from sage_cli.tools.analyze import Analyze
from sage_cli.tools.base import AnyTool, Outcome, Tool, ToolError, complete
from sage_cli.tools.extract_video_parts import ExtractVideoParts
from sage_cli.tools.ground_event import GroundEvent
from sage_cli.tools.parse_website import ParseWebsite
from sage_cli.tools.transcribe_speech import TranscribeSpeech
from sage_cli.tools.web_search import WebSearch
from sage_cli.tools.workspace import Workspace
from sage_cli.web import Web

__all__ = [
    "TITLES",
    "TOOLS",
    "WEB_TOOLS",
    "Analyze",
    "AnyTool",
    "ExtractVideoParts",
    "GroundEvent",
    "Outcome",
    "ParseWebsite",
    "Tool",
    "ToolError",
    "TranscribeSpeech",
    "WebSearch",
    "Workspace",
    "complete",
    "web_tools",
]

# The tools that need only the video, in the order in which they are listed to the model.
TOOLS: tuple[AnyTool, ...] = (TranscribeSpeech(), GroundEvent(), ExtractVideoParts(), Analyze())
WEB_TOOLS: tuple[str, ...] = (WebSearch.name, ParseWebsite.name)  # of :func:`web_tools`

_ALL = (TranscribeSpeech, GroundEvent, ExtractVideoParts, Analyze, WebSearch, ParseWebsite)
TITLES: Mapping[str, str] = {tool.name: tool.title for tool in _ALL}


def web_tools(web: Web) -> tuple[AnyTool, ...]:
    """The tools that send text written by the model to other hosts; only with the user's consent."""
    return WebSearch(web), ParseWebsite(web)

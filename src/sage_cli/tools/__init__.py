"""The agent's tools, each usable by itself: ``complete(Analyze().run(arguments, workspace))``."""

from sage_cli.tools.analyze import Analyze
from sage_cli.tools.base import AnyTool, Outcome, Tool, ToolError, complete
from sage_cli.tools.extract_video_parts import ExtractVideoParts
from sage_cli.tools.ground_event import GroundEvent
from sage_cli.tools.transcribe_speech import TranscribeSpeech
from sage_cli.tools.workspace import Workspace

__all__ = [
    "TOOLS",
    "Analyze",
    "AnyTool",
    "ExtractVideoParts",
    "GroundEvent",
    "Outcome",
    "Tool",
    "ToolError",
    "TranscribeSpeech",
    "Workspace",
    "complete",
]

# Every tool that needs nothing but the video, in the order the model reads about them.
TOOLS: tuple[AnyTool, ...] = (TranscribeSpeech(), GroundEvent(), ExtractVideoParts(), Analyze())

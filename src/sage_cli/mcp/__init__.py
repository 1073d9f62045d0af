"""``sage mcp``: videos for coding agents, by the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from typing import Final

from mcp.server.mcpserver import MCPServer

from sage_cli.mcp import wire
from sage_cli.mcp.arguments import StrictTool
from sage_cli.mcp.folders import Folders
from sage_cli.mcp.tools import Tools
from sage_cli.mcp.worker import Worker
from sage_cli.session import Session
from sage_cli.version import __version__

__all__ = ["Folders", "Worker", "make_server", "run"]

INSTRUCTIONS: Final = (
    "Answers questions about video and audio files on this machine, with a local model. Ask for what is seen or said; times are HH:MM:SS "
    "in the file. Use `list_videos` for the files, `transcribe` for words, `summary` for what a long video is about, `find_event` for the "
    "time of something seen, `frames` to look yourself."
)


def make_server(worker: Worker, folders: Folders) -> MCPServer:
    """A server whose tools open files in these folders. The caller closes the worker, after the server has ended."""
    tools = Tools(worker, folders)
    # A structured result is in the reply twice, also as text for clients that read no other. So what can be long is text alone.
    structured = (tools.list_videos, tools.ask, tools.summary, tools.find_event, tools.list_models)
    plain = (tools.transcribe, tools.frames)
    return MCPServer(
        "sage",
        title="sage",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        tools=[*(StrictTool.of(tool) for tool in structured), *(StrictTool.of(tool, structured=False) for tool in plain)],
    )


def run(session: Session, folders: Folders) -> None:
    """Serve on stdin and stdout until the client closes one of them."""
    worker = Worker(session)
    try:
        with wire.client():
            make_server(worker, folders).run("stdio")
    finally:
        worker.close()

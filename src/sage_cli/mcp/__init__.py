"""``sage mcp``: videos for coding agents, by the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from sage_cli.mcp.folders import Folders
from sage_cli.mcp.server import make_server, run
from sage_cli.mcp.worker import Worker

__all__ = ["Folders", "Worker", "make_server", "run"]

"""The any-horizon agent: a question about a video becomes a stream of typed events."""

from sage_cli.agent.events import Event, as_record
from sage_cli.agent.loop import Agent, Settings

__all__ = ["Agent", "Event", "Settings", "as_record"]

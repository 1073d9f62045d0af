"""What an answer comes from: the version of sage and the options it depends on. With it, an answer of the log can stand for a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sage_cli.session import log
from sage_cli.session.arguments import question_argument
from sage_cli.session.options import behind_answers
from sage_cli.version import __version__

if TYPE_CHECKING:
    from sage_cli.agent.events import RunStarted
    from sage_cli.agent.record import RunRecord
    from sage_cli.session.models import Models
    from sage_cli.video import Video

_SAME_S = 0.001  # to which spans are rounded in records


def signed(event: RunStarted, models: Models, asked: Mapping[str, Any]) -> RunStarted:
    """The beginning of a run with what it comes from; ``asked`` as for :func:`settings`."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return replace(event, asked=now, sage=__version__, settings=settings(models, asked))


def settings(models: Models, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options that answers depend on, as far as they differ from their defaults; JSON-ready. Prompts of the user's by content, too.

    Args:
        asked: what the question changes of them; ``None`` changes nothing.
    """
    from sage_cli.prompts import Prompts

    values = {one.name: getattr(models.given, one.name) for one in behind_answers()}
    values |= {name: value for name, value in asked.items() if value is not None}
    known: dict[str, Any] = {one.name: one.default for one in behind_answers()} | {"earlier": 0}
    found = {name: value for name, value in values.items() if value != known[name]}
    if models.given.schema is not None and models.schema:
        found["schema"] = models.schema.schema
    if models.given.prompts is not None:
        found["prompts_digest"] = Prompts(models.settings.prompts, models.settings.pack).digest
    return {
        name: list(value) if isinstance(value, tuple) else value if name == "schema" else _plain(value) for name, value in found.items()
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def earlier_run(models: Models, video: Video, question: str, span: tuple[float, float], asked: Mapping[str, Any]) -> RunRecord | None:
    """The newest run of the log that asked the same of the same: equal question, video, part of it, model, options and version of sage;
    ``None`` if there is none.

    Raises:
        SageError: the log cannot be read.
    """
    model = models.served_name if models.remote else models.model_name
    same = {"sage": __version__, "settings": settings(models, asked)}
    for entry in log.of_question(question_argument(question), media=video.id):
        run = entry.record
        begin, end = run["span"]["start"], run["span"]["end"]
        near = abs(begin - span[0]) <= _SAME_S and abs(end - span[1]) <= _SAME_S
        if near and run["model"]["name"] == model and {name: run.get(name) for name in same} == same:
            return run
    return None

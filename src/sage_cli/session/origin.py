"""What an answer comes from: the version of sage, the options it depends on, the subtitles beside the video. With it, an answer of the log
can stand for a new one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sage_cli.session.options import behind_answers
from sage_cli.version import __version__

if TYPE_CHECKING:
    from sage_cli.agent.events import RunStarted
    from sage_cli.session.models import Models
    from sage_cli.video import Video


def signed(event: RunStarted, models: Models, video: Video, asked: Mapping[str, Any]) -> RunStarted:
    """The beginning of a run with what it comes from; the rest as for :func:`settings`."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return replace(event, asked=now, sage=__version__, settings=settings(models, video, asked), fingerprint=video.id)


def settings(models: Models, video: Video, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options that answers depend on, as far as they differ from their defaults; JSON-ready. Prompts of the user's by content, too, and
    subtitle files beside the video if questions are answered from them.

    Args:
        asked: what the question changes of them; ``None`` changes nothing.
    """
    from sage_cli.speech.subtitles import contents_beside

    values = {one.name: getattr(models.given, one.name) for one in behind_answers()}
    values |= {name: value for name, value in asked.items() if value is not None}
    known: dict[str, Any] = {one.name: one.default for one in behind_answers()} | {"earlier": 0}
    found = {name: value for name, value in values.items() if value != known[name]}
    if models.given.schema is not None and models.schema:
        found["schema"] = models.schema.schema
    if models.given.prompts is not None:
        found["prompts_digest"] = models.settings.prompts.digest
    if models.options.subtitles and values["tools"] and (beside := contents_beside(video.path, remember=models.caching)):
        found["subtitles_digest"] = hashlib.blake2b(json.dumps(beside).encode(), digest_size=12).hexdigest()
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, (bool, int, float, str, dict)) else str(value)

"""Reports as one self-contained HTML file or as Markdown, from Jinja templates with escaping."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from sage_cli.agent.record import RunRecord
from sage_cli.errors import UsageError
from sage_cli.output import open_text
from sage_cli.signals import check_interrupted
from sage_cli.text import escape_markdown, is_link, media_label, without_controls
from sage_cli.timecode import format_clock, format_span, link_at, parse
from sage_cli.tools import TITLES, TranscribeSpeech

if TYPE_CHECKING:
    from sage_cli.video import Video

_TALL: Final = 360  # height of larger frames, in pixels
_SMALL: Final = 120  # height in the overview, in pixels
_STILLS: Final = 3  # frames per span
_LAST_S: Final = 0.1  # before the end of a span: its last frame, at 10 frames a second and more
_OVERVIEW: Final = 32  # frames of the first look to show
_JPEG_QUALITY: Final = 82
_CHUNK: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Still:
    """A frame in a report.

    Attributes:
        time: presentation time in seconds.
        data: a JPEG file.
        digest: SHA-256 of its RGB pixels before JPEG compression.
    """

    time: float
    data: bytes
    digest: str

    @property
    def clock(self) -> str:
        return format_clock(self.time)

    @property
    def source(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run.

    Attributes:
        title: in words.
        detail: its result.
        why: the model's reason.
        span: the part of the video, in seconds.
        stills: frames from the span.
        words: transcribed speech: start in seconds, and text.
    """

    title: str
    detail: str
    why: str
    span: tuple[float, float] | None
    stills: tuple[Still, ...] = ()
    words: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Content of a report on one question.

    Attributes:
        run: the question and what came of it.
        name: of the video's file, or its link.
        link: opens the video; ``""`` if there is no file to open.
        overview: frames of the first look.
        steps: of the run.
        evidence: spans that the answer rests on.
        lacking: why there are no frames of the video; ``""`` if there can be.
        origin: what the answer comes from, by name: when, which file, which program and settings.
    """

    run: RunRecord
    name: str
    link: str
    overview: tuple[Still, ...]
    steps: tuple[Step, ...]
    evidence: tuple[Step, ...]
    lacking: str
    origin: Mapping[str, str]

    def at(self, time: float) -> str:
        """A link that opens the video at a time; ``""`` if there is none."""
        return self.link and link_at(self.link, time)


def report_format(target: str | Path) -> Literal["html", "md"]:
    """The format of a report by its file's suffix.

    Raises:
        UsageError: the suffix is unknown.
    """
    suffix = Path(target).suffix.lower()
    if suffix in (".html", ".htm"):
        return "html"
    if suffix in (".md", ".markdown"):
        return "md"
    raise UsageError(f"{target}: reports are .html or .md files")


def write_report(target: Path, runs: Sequence[tuple[RunRecord, Video | str]]) -> None:
    """Write a report on one or several questions.

    Args:
        target: the file; its suffix is the format.
        runs: each run, and its video or why there is none any more. The report then has what the run knows, and says so.

    Raises:
        UsageError: the format is unknown, or the target is one of the videos.
        VideoError: a video can no longer be read.
        OSError: the file cannot be written.
    """
    kind = report_format(target)
    pages = [_page(run, video) for run, video in runs]
    with open_text(target, [video.path for _, video in runs if not isinstance(video, str)]) as file:
        file.write(render(f"report.{kind}", pages=pages))


def render(name: str, **content: object) -> str:
    """The text of a report, from one of the templates in this folder."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sage_cli.report", "."),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": format_clock, "span": _span_text, "line": _line, "lines": _lines, "target": _target}
    return without_controls(environment.get_template(f"{name}.jinja").render(content))


def _line(text: str) -> str:
    """Text as one line of Markdown."""
    return escape_markdown(" ".join(text.split()))


def _lines(text: str) -> str:
    """Text as Markdown with its lines and paragraphs."""
    return re.sub(r"(?<=[^\n])\n(?=[^\n])", r"\\\n", escape_markdown(text.strip()))


def _target(link: str) -> str:
    """A link as the target of one in Markdown."""
    return re.sub(r"[()<>\s\\]", lambda match: quote(match[0], safe=""), link)


# ---- gathering -----------------------------------------------------------------------------------------------------


def _page(run: RunRecord, video: Video | str) -> Page:
    given = str(run["video"]) if isinstance(video, str) else video.name
    name, link = (given, given) if is_link(given) else (media_label(given), _file_link(video))
    overview = stills(video, _spread([float(time) for time in run["frames"]], _OVERVIEW), _SMALL)
    steps = tuple(_step(call, video) for call in run["tool_calls"])
    evidence = tuple(_evidence(one, video) for one in run["evidence"])
    return Page(run, name, link, overview, steps, evidence, video if isinstance(video, str) else "", _origin(run, video, name))


def _evidence(one: dict[str, Any], video: Video | str) -> Step:
    span = one["span"]["start"], one["span"]["end"]
    return Step(str(one["what"]).capitalize(), one.get("said", ""), "", span, _of_span(video, span))


def _file_link(video: Video | str) -> str:
    return "" if isinstance(video, str) or video.copied else video.path.resolve().as_uri()


def _origin(run: RunRecord, video: Video | str, name: str) -> dict[str, str]:
    """Facts by which others can check that they have the same video, and ask it the same. Entries of old logs lack some."""
    asked, model, budget = run.get("asked"), run["model"], run.get("budget")
    device = f"at {model['host']}" if model.get("host") else f"on {model['device']}" if model.get("device") else ""
    facts = {
        "Asked": f"{datetime.fromisoformat(asked):%Y-%m-%d %H:%M:%S} UTC" if asked else "",
        **({"Video": name} if isinstance(video, str) else _file_facts(video, name)),
        "Model": f"{model['name']} {device}",
        "Program": f"sage {run.get('sage', '')}",
        "Limits": _limits(budget) if budget else "",
        "Settings": "; ".join(f"{key.replace('_', '-')} = {_value(value)}" for key, value in run.get("settings", {}).items()) or "defaults",
    }
    return {key: value.strip() for key, value in facts.items() if value}


def _file_facts(video: Video, name: str) -> dict[str, str]:
    return {
        "Video": name if video.copied else str(video.path.resolve()),
        "Size": f"{video.path.stat().st_size:,} bytes",
        "SHA-256": _sha256(video.path),
    }


def _limits(budget: Mapping[str, Any]) -> str:
    size = f" of {budget['frame_width']}x{budget['frame_height']} pixels" if budget["frames"] else ""  # a recording has none
    looked = f"{budget['frames']} frames{size}, {budget['context_size']} tokens of context"
    return f"{looked}, {budget['max_steps']} steps; tools: {', '.join(budget['tools']) or 'none'}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            check_interrupted()
            digest.update(data)
    return digest.hexdigest()


def _step(call: dict[str, Any], video: Video | str) -> Step:
    span = (call["span"]["start"], call["span"]["end"]) if call.get("span") else None
    tool = str(call["tool"])
    heard = tool == TranscribeSpeech.name
    return Step(
        TITLES.get(tool, tool),
        str(call.get("summary", "")),
        str(call.get("rationale", "")),
        span,
        () if span is None or heard else _of_span(video, span),
        _heard(call.get("result", {})) if heard else (),
    )


def _heard(result: dict[str, Any]) -> tuple[tuple[float, str], ...]:
    """The words of a transcript, from the tool's result: ``{0: {'text': ..., 'start': 'MM:SS', ...}, ...}``."""
    try:
        entries = ast.literal_eval(str(result.get("transcript", "")))
        return tuple((parse(str(entry["start"])), str(entry["text"]).strip()) for entry in entries.values())
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, UsageError):
        return ((0.0, str(result["transcript"])),) if result.get("transcript") else ()


def _of_span(video: Video | str, span: tuple[float, float]) -> tuple[Still, ...]:
    return stills(video, still_times(*span), _TALL)


def still_times(start: float, end: float) -> list[float]:
    """Times of the frames that stand for a span, in seconds: from its first to its last moment, or the middle of a short one. The frame at
    its end is of what follows."""
    if end - start <= 1:
        return [(start + end) / 2]
    return [start + (end - _LAST_S - start) * number / (_STILLS - 1) for number in range(_STILLS)]


def stills(video: Video | str, times: Iterable[float], height: int) -> tuple[Still, ...]:
    """Frames of a video as JPEG files; none if it has no picture, or is not there.

    Args:
        times: seconds, ascending.
        height: maximum, in pixels; frames keep their aspect ratio and are never enlarged.

    Raises:
        VideoError: nothing can be decoded.
    """
    wanted = list(times)
    if not wanted or isinstance(video, str) or not video.has_video:
        return ()
    found = []
    with closing(video.frames(wanted, video.size_within(height=height))) as frames:
        for frame in frames:
            found.append(Still(frame.time, frame.jpeg(_JPEG_QUALITY), hashlib.sha256(frame.image.tobytes()).hexdigest()))
    return tuple(found)


def _spread(times: list[float], most: int) -> list[float]:
    """Evenly spaced items of the times, including the first and the last."""
    if len(times) <= most:
        return times
    return [times[round(number * (len(times) - 1) / (most - 1))] for number in range(most)]


def _span_text(span: tuple[float, float] | None) -> str:
    return "" if span is None else format_clock(span[0]) if span[1] - span[0] < 1 else format_span(*span)

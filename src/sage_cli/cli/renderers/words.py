"""Events in words, for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.style import Style
from rich.text import Text

from sage_cli.agent.events import Budget, FramesSampled, RunStarted, Span
from sage_cli.cli.console import neutral
from sage_cli.model.base import ModelInfo, Usage
from sage_cli.text import STDIN, is_link, media_label
from sage_cli.timecode import format_clock, format_short, format_span, link_at, rough

CLOCK: Final = 8  # columns of the elapsed time
MARGIN: Final = CLOCK + 2

# How frames were obtained: `FramesSampled.method`.
METHODS: Final[Mapping[str, str]] = {
    "sequential": "decoded in one pass",
    "seek": "decoded by seeking",
    "keyframe": "the nearest keyframes",
    "cached": "from the cache",
    "reused": "from the previous question",
}
# Arguments that the time span, the tool's name and its result tell.
_HIDDEN_ARGUMENTS: Final = frozenset({"video_path", "media_paths", "extract_type", "timestamp_start", "timestamp_end"})


def elapsed_text(seconds: float) -> str:
    """``   12.4s``, ``   2:05`` or ``1:02:05``, right-aligned in the clock's columns."""
    return (f"{seconds:.1f}s" if seconds < 59.95 else format_short(round(seconds))).rjust(CLOCK)


def left_text(seconds: float) -> str:
    """An estimate, no more precise than it deserves: ``about 40 s left``, ``about 3 min left``."""
    return "a few seconds left" if seconds < 10 else f"about {rough(seconds)} left"


def span_text(span: Span, video: str = "") -> Text:
    """A span as text.

    Args:
        video: path or address of the video that the text links to, on terminals that know links (OSC 8); others ignore them. ``-`` for
            stdin, which cannot be opened.
    """
    link = None
    if video not in ("", STDIN):
        link = link_at(video if is_link(video) else Path(video).absolute().as_uri(), span.start)
    return Text(format_span(span.start, span.end), Style(color="cyan", link=link))


def video_text(event: RunStarted) -> Text:
    """The file's name and the part that is asked about."""
    name = (neutral(media_label(event.video)), "cyan")
    if event.span == Span(0.0, event.duration):
        return Text.assemble(name, f", {format_clock(event.duration)} long")
    return Text.assemble(name, ", ", span_text(event.span), f" of {format_clock(event.duration)}")


def frames_text(event: FramesSampled) -> Text:
    if not event.times:
        return Text("none")
    method = METHODS.get(event.method, event.method)
    return Text.assemble(f"{len(event.times)} from ", span_text(Span(event.times[0], event.times[-1])), (f", {method}", "dim"))


def setting_lines(model: ModelInfo, budget: Budget) -> list[str]:
    """The model, its devices, and the limits of a run."""
    device = f"{neutral(model.name)} on {model.device}"
    if model.vision_device != model.device:
        device += f", vision encoder on {model.vision_device}"
    limits = [
        f"{budget.frames} frames of {budget.frame_width}x{budget.frame_height} pixels" if budget.frames else "no frames",
        f"context {budget.context_size} tokens",
        f"at most {budget.max_steps} steps" if budget.tools else "no tools",
        *([f"time limit {budget.timeout_s:g} s"] if budget.timeout_s is not None else []),
    ]
    return [device, ", ".join(limits), *([f"tools: {', '.join(budget.tools)}"] if budget.tools else [])]


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """The arguments of a tool call: texts quoted, lists counted."""
    words = []
    for name, value in arguments.items():
        if name in _HIDDEN_ARGUMENTS or value in (None, [], ""):
            continue
        if isinstance(value, list):
            many = name.replace("_", " ")
            words.append(f"{len(value)} {many.removesuffix('s') if len(value) == 1 else many}")
        else:
            words.append(f'"{value}"' if isinstance(value, str) else f"{name.replace('_', ' ')} {value}")
    return neutral("  ".join(words))


def steps_text(steps: int) -> str:
    return f"after {steps} step{'' if steps == 1 else 's'}" if steps else "at first look"


def usage_text(usage: Usage) -> str:
    return (
        f"prompt {usage.prompt_tokens} tokens ({usage.prompt_reused} reused), {usage.images} images ({usage.images_reused} reused), "
        f"output {usage.output_tokens} tokens ({usage.output_forced} forced); "
        f"load {usage.load_s:.1f} s, encode {usage.encode_s:.1f} s, prefill {usage.prefill_s:.1f} s, decode {usage.decode_s:.1f} s"
    )

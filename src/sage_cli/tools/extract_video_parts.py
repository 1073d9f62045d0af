"""extract-video-parts: frames or a clip from a time span, for closer analysis."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BeforeValidator

from sage_cli.timecode import format_span
from sage_cli.tools.base import EvidenceSpan, Outcome, ToolNotice, ToolRun, WindowArguments, WindowTool
from sage_cli.tools.schema import Schema, clock, constant, one_of, record
from sage_cli.tools.workspace import Workspace

FRAMES: Final = 10

# What models write for the two kinds.
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("frame", "image", "images"), "frames") | dict.fromkeys(("subclip", "clip", "clips", "video"), "subclips")
)


def _kind(value: object) -> object:
    return _KINDS.get(value, value) if isinstance(value, str) else value


class ExtractVideoPartsArguments(WindowArguments):
    extract_type: Annotated[Literal["frames", "subclips"], BeforeValidator(_kind)] = "frames"


class ExtractVideoParts(WindowTool[ExtractVideoPartsArguments]):
    name = "extract-video-parts"
    title = "Took frames"
    looks = True
    arguments = ExtractVideoPartsArguments

    def schema(self, workspace: Workspace) -> Schema:
        when = clock(workspace.start, workspace.end)
        return record(
            video_path=constant(workspace.video_path),
            timestamp_start=when,
            timestamp_end=when,
            extract_type=one_of(["frames", "subclips"]),
        )

    def run(self, arguments: ExtractVideoPartsArguments, workspace: Workspace) -> ToolRun:
        start, end, notes = workspace.window(arguments)
        yield from map(ToolNotice, notes)
        where = format_span(start, end)
        evidence: tuple[EvidenceSpan, ...] = ()
        if arguments.extract_type == "subclips":
            names = [workspace.add_clip(start, end)]
            summary = f"clip of {where}"
        else:
            frames = yield from workspace.frames([float(time) for time in np.linspace(start, end, FRAMES)], workspace.sizes.still(FRAMES))
            names = workspace.add_frames(frames)
            evidence = (EvidenceSpan(start, end, "frames extracted"),)
            summary = f"{len(names)} frames of {where}"
        return Outcome(workspace.noted({"media_paths": names}, notes), summary, evidence)

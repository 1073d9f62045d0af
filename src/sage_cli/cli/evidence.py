"""What ``sage ask`` saves beside its answer: a report, clips and pictures of what the answer rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sage_cli.errors import UsageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from sage_cli.agent.record import RunRecord
    from sage_cli.video import Video


def check_evidence(options: Options, videos: Sequence[str]) -> None:
    """Check output targets before any work.

    Raises:
        UsageError: the report is neither HTML nor Markdown, or is the video; clips or pictures would go into a file.
        OSError: the report cannot be written.
    """
    if options.report:
        from sage_cli.output import check_targets
        from sage_cli.report import report_format

        report_format(options.report)
        check_targets([Path(options.report).expanduser()], map(Path, videos))
    for name, folder in (("clips", options.clips), ("stills", options.stills)):
        if folder and Path(folder).expanduser().is_file():
            raise UsageError(f"--{name} {folder}: this is a file; name a folder")


def save_evidence(options: Options, runs: Sequence[tuple[RunRecord, Video, str]]) -> None:
    """Write what the options ask for.

    Args:
        runs: each with the video and its name as given.

    Raises:
        SageError, OSError: it cannot be written.
    """
    if options.report and runs:
        from sage_cli.report import write_report

        write_report(Path(options.report).expanduser(), runs)
    if not (options.clips or options.stills):
        return
    videos = {video.id: video for _, video, _ in runs}
    for id, video in videos.items():
        evidence = [one["span"] for run, asked, _ in runs if asked.id == id for one in run["evidence"]]
        spans = sorted({(span["start"], span["end"]) for span in evidence})
        # Two videos of one name in different folders.
        twice = sum(other.path.stem == video.path.stem for other in videos.values()) > 1
        _save_spans(options, video, spans, f"{video.path.stem[:150]}{f'_{id[:8]}' if twice else ''}")


def _save_spans(options: Options, video: Video, spans: Sequence[tuple[float, float]], name: str) -> None:
    from sage_cli.output import open_binary
    from sage_cli.report.page import stills
    from sage_cli.timecode import format_clock

    for start, end in spans:
        stem = f"{name}_{format_clock(start)}-{format_clock(end)}".replace(":", "-")
        if options.clips:
            folder = Path(options.clips).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            video.clip(start, max(end, start + 1.0), folder / f"{stem}.mp4")
        if options.stills:
            folder = Path(options.stills).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            for still in stills(video, [start, (start + end) / 2, end] if end - start > 1 else [start], video.height):
                with open_binary(folder / f"{stem}_{still.clock.replace(':', '-')}.jpg", [video.path]) as file:
                    file.write(still.data)

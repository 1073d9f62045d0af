"""What ``sage ask`` and ``sage ground`` save beside their results: a report, and clips and pictures of spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sage_cli.cli import console
from sage_cli.errors import VideoError
from sage_cli.session.options import Options
from sage_cli.timecode import format_span, format_stamp

_WHOLE: Final = 0.9  # of a video, from which on a clip would be no more than a copy

if TYPE_CHECKING:
    from sage_cli.agent.record import RunRecord
    from sage_cli.video import Video


def check_evidence(options: Options, videos: Sequence[str]) -> None:
    """Check output targets before any work.

    Raises:
        UsageError: the report is neither HTML nor Markdown, or is the video; clips or pictures would go into a file.
        OSError: the report, clips or pictures cannot be written.
    """
    from sage_cli.output import check_targets, folder_named

    if options.report:
        from sage_cli.report import report_format

        report_format(options.report)
        check_targets([Path(options.report)], map(Path, videos))
    for name, folder in (("clips", options.clips), ("stills", options.stills)):
        if folder:
            folder_named(f"--{name}", folder)


def save_evidence(options: Options, runs: Sequence[tuple[RunRecord, Video | str]]) -> None:
    """Write what the options ask for.

    Args:
        runs: each with its video, or with why there is none any more.

    Raises:
        SageError, OSError: it cannot be written.
    """
    from sage_cli.output import folded

    if not runs:
        return
    if options.report:
        from sage_cli.report import write_report

        write_report(Path(options.report), runs)
    gone = "; ".join(dict.fromkeys(video for _, video in runs if isinstance(video, str)))
    if gone and options.report:
        console.note(f"{gone}: the report has no frames of it")
    videos = list(dict.fromkeys(video for _, video in runs if not isinstance(video, str)))
    if options.stills:
        for video in (video for video in videos if not video.has_video):
            console.note(f"{video.label} has no picture: there are no stills of it")
    stems = Counter(folded(video.stem) for video in videos)
    for video in videos:
        # Two videos of one name in different folders.
        stem = video.stem if stems[folded(video.stem)] == 1 else f"{video.stem}_{video.id[:8]}"
        spans = _spans(run for run, asked in runs if asked is video)
        wanted = [name for name, folder in (("clips", options.clips), ("stills", options.stills)) if folder]
        if wanted and not spans:
            console.note(f"{video.label}: no evidence, so no {' or '.join(wanted)} were saved")
        save_spans(options, video, spans, stem)
    if gone and (options.clips or options.stills):
        raise VideoError(gone)


def save_spans(options: Options, video: Video, spans: Sequence[tuple[float, float]], stem: str = "") -> None:
    """Save spans of a video as clips and as pictures, if the options ask for them.

    Args:
        stem: how the names of the files begin; by default that of the video.

    Raises:
        SageError, OSError: it cannot be done.
    """
    from sage_cli.output import output_folder

    parts = [span for span in spans if span[1] - span[0] < _WHOLE * video.duration]
    for span in spans if options.clips else ():
        if span not in parts:
            console.note(f"{video.label}: {format_span(*span)} is nearly all of it, which is not copied to {options.clips}")
    for folder, chosen, save in ((options.clips, parts, _save_clip), (options.stills, spans if video.has_video else (), _save_stills)):
        if folder and chosen:
            with output_folder(Path(folder)) as path:
                for start, end in chosen:
                    save(video, start, end, path, stem or video.stem)


def _spans(runs: Iterable[RunRecord]) -> list[tuple[float, float]]:
    """The spans of time that the answers of some runs rest on, each once, in order."""
    return sorted({(one["span"]["start"], one["span"]["end"]) for run in runs for one in run["evidence"]})


def _save_clip(video: Video, start: float, end: float, folder: Path, stem: str) -> None:
    from sage_cli.output import file_name, telling_replaced

    first = max(0.0, min(start, video.duration - 1.0))
    target = folder / file_name(stem, f"_{format_stamp(start)}-{format_stamp(end)}.mp4")
    with telling_replaced(target):
        video.clip(first, max(end, first + 1.0), target)


def _save_stills(video: Video, start: float, end: float, folder: Path, stem: str) -> None:
    from sage_cli.output import file_name, open_binary, telling_replaced
    from sage_cli.report.page import still_times, stills

    for still in stills(video, still_times(start, end), video.height):
        target = folder / file_name(stem, f"_{format_stamp(start)}-{format_stamp(end)}_{format_stamp(still.time)}.jpg")
        with telling_replaced(target), open_binary(target, [video.path]) as file:
            file.write(still.data)

"""``sage frames VIDEO``: frames at times, as pictures or as one contact sheet."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sage_cli.cli import console
from sage_cli.cli.options import argument, takes
from sage_cli.errors import UsageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sage_cli.session import Session
    from sage_cli.video import Frame, Video

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")

EXAMPLES = """[bold]Examples[/]
  sage frames talk.mp4 --at 1:23 --at 2:40 --width 640
  sage frames talk.mp4 --every 30s -o frames/ --start 10:00
  sage frames talk.mp4 --every 1m --sheet talk.jpg"""

_MOST: Final = 10_000
_TILE: Final = 320  # pixels across a frame of a contact sheet
_LABEL: Final = 24  # pixels of the line with its time


@takes("frames")
def frames(
    video: Annotated[str, argument("VIDEO", "Video file.")],
    at: Annotated[list[str] | None, typer.Option("--at", metavar="TIME", help="Time of a frame; repeatable.")] = None,
    every: Annotated[str | None, typer.Option("--every", metavar="TIME", help="A frame every so often.")] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", metavar="FILE", help="One picture with all frames.")] = None,
    width: Annotated[
        int | None, typer.Option("--width", metavar="N", help="Width in pixels. Default: the video's.", min=16, max=16384)
    ] = None,
    *,
    options: Options,
) -> int:
    """Save frames of a video.

    Each is the frame on screen at that time, named by its own time, and saved once if several times show it. The names go to stdout.
    """
    from sage_cli.cli.opening import damage_told, opened
    from sage_cli.output import file_name, folder_named, open_binary, output_folder, telling_replaced
    from sage_cli.session import Session
    from sage_cli.text import user_path

    if not at and not every:
        raise UsageError("which frames? Use --at 1:23, or --every 30s")
    if not every and (options.start is not None or options.end is not None):
        raise UsageError("--start and --end limit --every: add it")
    if sheet and options.output:
        raise UsageError("--sheet and --output exclude each other: choose one")
    target = user_path(sheet) if sheet else None
    if target and target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--sheet {target}: use one of {', '.join(SUFFIXES)}")
    folder = folder_named("--output", options.output or ".")
    with Session(options) as session:
        source = opened(session, video)
        times = _times(session, source, at or [], every)
        size = source.size_within(_TILE if sheet and width is None else width or math.inf)
        told = damage_told(source)
        if target:
            with told, open_binary(target, [source.path]) as file, closing(source.frames(times, size)) as found:
                shown = list(_distinct(found))
                file.write(_encoded(contact_sheet(shown), target.suffix))
            _write(options, video, target, times=[round(frame.time, 3) for frame in shown])
            _tell(len(times), len(shown), "in the sheet")
            return 0
        saved: dict[str, float] = {}
        with told, output_folder(folder), closing(source.frames(times, size)) as found:
            for frame in _distinct(found):
                target = folder / file_name(source.stem, f"_{_stamp(frame.time, saved)}.jpg")
                with telling_replaced(target), open_binary(target, [source.path]) as file:
                    file.write(_encoded(frame.image, target.suffix))
                _write(options, video, target, time=round(frame.time, 3))
        _tell(len(times), len(saved), "saved")
    return 0


def _write(options: Options, video: str, target: Path, **times: float | list[float]) -> None:
    """Print the name of a picture, with --json as an object with its times."""
    if options.json:
        console.write(console.dumps({"video": video, "path": str(target), **times}))
    else:
        console.write_path(target)


def _distinct(found: Iterable[Frame]) -> Iterator[Frame]:
    """Each frame once: several times show the same one where frames are long, and where the picture ends before the sound."""
    before: float | None = None
    for frame in found:
        if frame.time != before:
            yield frame
        before = frame.time


def _stamp(time: float, taken: dict[str, float]) -> str:
    """A frame's time as in its name: to the millisecond, or with as many decimals as distinguish it from those before, which it joins."""
    from sage_cli.timecode import format_stamp

    for decimals in range(3, 13):
        if taken.setdefault(stamp := format_stamp(time, decimals), time) == time:
            break
    return stamp


def _tell(asked: int, shown: int, once: str) -> None:
    if shown < asked:
        console.note(f"{asked} times show {'the same frame; it' if shown == 1 else f'{shown} different frames; each'} is {once} once")


def _times(session: Session, video: Video, at: list[str], every: str | None) -> list[float]:
    from sage_cli.timecode import parse, parse_within

    times = [parse_within(text, video.duration) for text in at]
    if every:
        limited = session.options.start is not None or session.options.end is not None
        start, end = session.span(video) if limited else (0.0, video.duration)
        step = parse(every)
        if step <= 0 or (end - start) / step > _MOST:
            raise UsageError(f"--every {every}: give a time that makes at most {_MOST} frames, such as 30s")
        times += [start + number * step for number in range(int((end - start) / step) + 1)]
    return sorted(set(times))


def _encoded(image: NDArray[np.uint8], suffix: str) -> bytes:
    """The picture as a file of the suffix's format."""
    import cv2

    done, data = cv2.imencode(suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        high, wide = image.shape[:2]
        raise UsageError(f"{wide}x{high} pixels are too many for a {suffix} file: take fewer frames, a smaller --width, or .png")
    return data.tobytes()


def contact_sheet(found: Sequence[Frame], columns: int | None = None) -> NDArray[np.uint8]:
    """All frames in rows, each with its time below, as RGB; about as wide as high if the number of columns is not given."""
    import cv2
    import numpy as np

    from sage_cli.timecode import format_clock

    columns = columns or max(1, round((len(found) * found[0].height / found[0].width) ** 0.5))
    rows = -(-len(found) // columns)
    high, wide = found[0].height + _LABEL, found[0].width
    canvas = np.full((rows * high, columns * wide, 3), 16, np.uint8)
    for number, frame in enumerate(found):
        top, left = number // columns * high, number % columns * wide
        canvas[top : top + frame.height, left : left + wide] = frame.image
        place = (left + 6, top + high - 7)
        cv2.putText(canvas, format_clock(frame.time), place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 220, 220), 1, cv2.LINE_AA)
    return canvas

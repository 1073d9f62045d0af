"""Text tracks of a file: subtitles as FFmpeg decodes them, on the clock of its pictures and sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import av
from av.stream import Disposition

from sage_cli.errors import VideoError
from sage_cli.video.probe import Media
from sage_cli.video.source import packet_time, time_base

# Bitmap subtitles (DVD, Blu-ray, DVB) hold no text.
_TEXT_CODECS: Final = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text", "ttml"})


@dataclass(frozen=True, slots=True)
class TextTrack:
    """A subtitle track.

    Attributes:
        index: of the stream in the file.
        language: ISO 639-2 code as the file has it, ``""`` if none.
        default: players show it unasked.
        forced: holds only what is foreign in the film's own language.
    """

    index: int
    language: str
    default: bool
    forced: bool


def text_tracks(media: Media) -> list[TextTrack]:
    """The tracks that hold text, in the file's order; none where the file's times start again, since theirs cannot be told apart.

    Raises:
        VideoError: the file cannot be opened.
    """
    if media.shifts:
        return []
    with media.open() as file:
        return [
            TextTrack(
                stream.index,
                stream.language or "",
                bool(stream.disposition & Disposition.default),
                bool(stream.disposition & Disposition.forced),
            )
            for stream in file.container.streams.subtitles
            if stream.codec_context is not None and stream.codec_context.name in _TEXT_CODECS
        ]


def text_cues(media: Media, index: int) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of a track's cues in file order; the text is ASS markup, as FFmpeg makes of every format.

    Raises:
        VideoError: there is no such track, or it cannot be read.
    """
    with media.open() as file:
        if index >= len(file.container.streams) or file.stream(index).type != "subtitle":
            raise VideoError(f"{media.path} has no subtitle track {index}")
        try:
            for packet in file.packets(index):
                time = packet_time(packet)
                if time is None:
                    continue
                start = float(time - media.origin)
                end = start + float((packet.duration or 0) * time_base(packet))
                for part in packet.decode():
                    dialogue = getattr(part, "dialogue", None)
                    if dialogue:
                        yield start, end, dialogue.decode("utf-8", "replace")
        except av.FFmpegError as error:
            raise VideoError(f"{media.path}: its subtitle track {index} cannot be read; use --no-subtitles to pass over it") from error

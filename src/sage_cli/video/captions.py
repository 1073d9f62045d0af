"""Subtitles as FFmpeg reads them, without their markup: tracks of a file, on the clock of its pictures and sound, and subtitle files."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from io import BytesIO
from itertools import islice
from typing import Any, Final

import av
from av.packet import Packet
from av.stream import Disposition

from sage_cli.errors import VideoError
from sage_cli.video.probe import Media
from sage_cli.video.source import packet_time, time_base
from sage_cli.video.ttml import is_ttml, ttml_cues

# Bitmap subtitles (DVD, Blu-ray, DVB) hold no text.
_TEXT_CODECS: Final = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"})
# Their packets hold the text as it was written. FFmpeg's decoders lose text after "<"; of the other codecs they make ASS markup.
_TAGGED_CODECS: Final = frozenset({"subrip", "srt", "webvtt"})

# A cue may have any length, and these expressions take time in proportion to it: no part begins with what the one before repeats, and no
# search for an end passes another beginning.
_TAG: Final = re.compile(
    r"</?(?:[ibus](?:\.[^<>\s]*)?\s*|(?:font|c|v|lang|ruby|rt|span|p)(?:[\s.][^<>]*)?)>"  # their tags
    r"|<\d[\d:.]*>"  # times inside a cue of WebVTT
    r"|\{\\[^{}]*\}",  # ASS markup in SubRip: {\an8}
    re.IGNORECASE,
)
_EXAMINED: Final = 16  # packets of an unknown codec
_SLACK: Final = 0.1  # seconds by which a cue may begin outside its packet
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&#?\w{1,32};")
_BRACE: Final = "\\{{}"  # as FFmpeg writes one of the text
_OVERRIDE: Final = re.compile(rf"({re.escape(_BRACE)}|\{{[^}}]*(?:\}}|\Z))")  # without its end it is text
_SCALE: Final = re.compile(r"\\p(\d)")  # above 0, what follows are shapes, not words


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
            if (stream.codec_context.name in _TEXT_CODECS if stream.codec_context is not None else _is_ttml(media, stream.index))
        ]


def _is_ttml(media: Media, index: int) -> bool:
    """Whether a stream for which FFmpeg has no decoder is TTML (in MP4)."""
    with media.open() as file:
        return any(is_ttml(bytes(packet)) for packet in islice(file.packets(index), _EXAMINED))


def text_cues(media: Media, index: int) -> Iterator[tuple[float, float, str]]:
    """Start and end in seconds, and the text without markup, of a track's cues in time order.

    A cue without a duration ends where the next one begins, as in players; a cue without text ends it, too.

    Raises:
        VideoError: there is no such track, or it cannot be read.
    """
    cues: list[tuple[float, float, str]] = []
    with media.open() as file:
        if index >= len(file.container.streams) or file.stream(index).type != "subtitle":
            raise VideoError(f"{media.name} has no subtitle track {index}")
        try:
            packets = file.packets(index)
            cues += (
                _documents(packets) if file.stream(index).codec_context is None else (cue for packet in packets for cue in _cues(packet))
            )
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"subtitle track {index} cannot be read") from error
    origin = float(media.origin)
    for start, end, text in _ended(cues, media.duration + origin):
        yield start - origin, end - origin, text


def written_cues(text: str, format: str, duration: float) -> Iterator[tuple[float, float, str]]:
    """The same of the text of a subtitle file, as far as it can be read; none if it is no such file.

    Args:
        format: FFmpeg's name: ``srt``, ``webvtt`` or ``ass``.
        duration: of the media in seconds.
    """
    cues: list[tuple[float, float, str]] = []
    try:
        with av.open(BytesIO(text.encode("utf-8", "replace")), format=format) as container:
            for packet in container.demux():
                if format != "ass" or (packet.duration or 0) > 0:  # players show no event without a duration; FFmpeg 9 gives none
                    cues += _cues(packet)
    except av.FFmpegError:
        pass
    yield from _ended(cues, duration)


def _ended(cues: list[tuple[float, float, str]], latest: float) -> Iterator[tuple[float, float, str]]:
    """Cues in time order; those without a duration end where the next one begins, or at the latest time."""
    cues = sorted(cues, key=lambda cue: cue[0])
    starts = [start for start, *_ in cues]
    following = [*starts, math.inf]
    for start, end, text in cues:
        yield start, end if end > start else min(following[bisect_right(starts, start)], latest), text


def _cues(packet: Any) -> Iterator[tuple[float, float, str]]:
    start = packet_time(packet)
    if start is None:
        return
    end = start + (packet.duration or 0) * time_base(packet)
    if not packet.size:
        yield float(start), float(end), ""
        return
    if packet.stream.codec_context.name in _TAGGED_CODECS:
        yield float(start), float(end), _untagged(bytes(packet).decode("utf-8", "replace"))
        return
    for part in packet.decode():
        yield float(start), float(end), _without_overrides(part.ass.decode("utf-8", "replace").split(",", 8)[-1])


def _documents(packets: Iterator[Packet[Any]]) -> Iterator[tuple[float, float, str]]:
    """The cues of packets that are documents of TTML, each shown until the next one.

    Their times count from the beginning of the track (ISO/IEC 14496-30), of the file, or of their packet: what fits a packet is taken.

    Raises:
        ValueError: see :func:`~sage_cli.video.ttml.ttml_cues`.
    """
    first: float | None = None
    for packet in packets:
        if (time := packet_time(packet)) is None or not is_ttml(bytes(packet)):
            continue
        start, end = float(time), float(time + (packet.duration or 0) * time_base(packet))
        first = start if first is None else first
        cues = ttml_cues(bytes(packet).decode("utf-8-sig", "replace"))

        def fits(shift: float, cues: list[tuple[float, float, str]] = cues, start: float = start, end: float = end) -> bool:
            return all(start - _SLACK <= begin + shift <= end + _SLACK for begin, *_ in cues)

        shift = next((shift for shift in (first, 0.0, start) if fits(shift)), first)
        yield from ((begin + shift, until + shift, text) for begin, until, text in cues)


def _untagged(text: str) -> str:
    """The text of SubRip or WebVTT. A ``<`` that begins no known tag is text."""
    return _ENTITY.sub(lambda entity: unescape(entity[0]), _TAG.sub("", _BREAK.sub("\n", text)))


def _without_overrides(text: str) -> str:
    """The text of an ASS event."""
    said, drawing = [], False
    for place, piece in enumerate(_OVERRIDE.split(text)):
        override = place % 2 and piece != _BRACE and piece.endswith("}")
        if override and (scales := _SCALE.findall(piece)):
            drawing = scales[-1] != "0"
        if not (override or drawing):
            said.append("{" if piece == _BRACE else piece)
    return "".join(said).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").replace("\u2060", "")

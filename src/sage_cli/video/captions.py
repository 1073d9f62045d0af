"""Subtitles without their markup: tracks of a file, on the clock of its pictures and sound, and subtitle files.

FFmpeg divides files into packets; what is in a packet is read here. Its decoders make ASS of all formats, lose the names of speakers, and
text after "<".
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from io import BytesIO
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

import av
from av.packet import Packet
from av.stream import Disposition

from sage_cli.errors import VideoError
from sage_cli.text import decode
from sage_cli.video import matroska
from sage_cli.video.media import Media
from sage_cli.video.source import MediaFile, packet_time, time_base
from sage_cli.video.ttml import is_ttml, ttml_cues

# Bitmap subtitles (DVD, Blu-ray, DVB) hold no text.
_TEXT_CODECS: Final = frozenset({"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text", "ttml", "wvtt"})
_ASS_CODECS: Final = frozenset({"ass", "ssa"})
_TAGGED_CODECS: Final = frozenset({"subrip", "srt", "webvtt", "wvtt"})

# A cue may have any length, and these expressions take time in proportion to it: no part begins with what the one before repeats, and no
# search for an end passes another beginning.
_TAG: Final = re.compile(
    r"</?(?:[ibus](?:\.[^<>\s]*)?\s*|(?:font|c|lang|ruby|rt|span|p)(?:[\s.][^<>]*)?)>"  # their tags
    r"|<\d[\d:.]*>"  # times inside a cue of WebVTT
    r"|\{\\[^{}]*\}",  # ASS markup in SubRip: {\an8}
    re.IGNORECASE,
)
_VOICE: Final = re.compile(r"<v(?:\.[^<>\s]*)?(?:\s([^<>]*))?>|</v\s*>", re.IGNORECASE)
_EXAMINED: Final = 16  # packets of an unknown codec
_FLV_METADATA: Final = b"\x02\x00\x0aonMetaData"  # a live FLV repeats its header, which FFmpeg gives as a packet of text
_SLACK: Final = 0.1  # seconds by which a cue may begin outside its packet
_BREAK: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&#?\w{1,32};")
_BRACE: Final = "\\{{}"  # as FFmpeg writes one of the text to a file
_OVERRIDE: Final = re.compile(rf"({re.escape(_BRACE)}|\{{[^}}]*(?:\}}|\Z))")  # without its end it is text
_SCALE: Final = re.compile(r"\\p(\d)")  # above 0, what follows are shapes, not words
_NAME: Final = 3  # the field of an ASS event, of those before its text
_NOBODY: Final = "NTP"  # SubStation Alpha's name for no name


class Line(NamedTuple):
    """A line of a cue.

    Attributes:
        speaker: the name of who says it, ``""`` if the subtitles do not tell it apart from the text.
    """

    text: str
    speaker: str = ""


Cue: TypeAlias = tuple[float, float, list[Line]]  # start and end in seconds


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
            for stream in file.container.streams
            if stream.type in ("subtitle", "data") and _codec(file, stream) in _TEXT_CODECS
        ]


def _codec(file: MediaFile, stream: Any) -> str:
    """FFmpeg's name of the codec, or that of a text format for which it has no decoder; ``""`` for what is no text.

    It does not know WebVTT as mkvmerge writes it, TTML and WebVTT in MP4 (``"ttml"``, ``"wvtt"``), and takes the metadata of FLV for text.
    """
    name = "" if stream.codec_context is None else str(stream.codec_context.name)
    container = file.container.format.name
    if not name and "matroska" in container and stream.type == "subtitle":
        number = [other.index for other in file.container.streams.subtitles].index(stream.index)
        formats = matroska.subtitle_formats(file.source)
        return "webvtt" if formats[number : number + 1] == ["S_TEXT/WEBVTT"] else ""
    if name != "text" and (name or "mp4" not in container):
        return name
    with file.again() as other:
        packets = [bytes(packet) for packet in islice(other.packets(stream.index), _EXAMINED) if packet.size]
    if name:
        return name if any(not packet.startswith(_FLV_METADATA) for packet in packets) else ""
    if any(packet[4:8] in (b"vttc", b"vtte") for packet in packets):
        return "wvtt"
    return "ttml" if any(is_ttml(packet) for packet in packets) else ""


def text_cues(media: Media, index: int) -> Iterator[Cue]:
    """The cues of a track in time order.

    A cue without a duration ends where the next one begins, as in players; a cue without text ends it, too.

    Raises:
        VideoError: there is no such track, or it cannot be read.
    """
    cues: list[Cue] = []
    with media.open() as file:
        if index >= len(file.container.streams) or not (codec := _codec(file, file.stream(index))):
            raise VideoError(f"{media.name} has no subtitle track {index}")
        try:
            packets = file.packets(index)
            cues += _documents(packets) if codec == "ttml" else (cue for packet in packets for cue in _cues(packet, codec))
        except ValueError as error:
            raise VideoError(f"subtitle track {index} cannot be read") from error
    origin = float(media.origin)
    for start, end, lines in _ended(_joined(cues) if codec == "wvtt" else cues, media.duration + origin):
        yield start - origin, end - origin, lines


def written_cues(text: str, format: str, duration: float) -> Iterator[Cue]:
    """The same of the text of a subtitle file, as far as it can be read; none if it is no such file.

    Args:
        format: FFmpeg's name: ``srt``, ``webvtt`` or ``ass``.
        duration: of the media in seconds.
    """
    cues: list[Cue] = []
    try:
        with av.open(BytesIO(text.encode("utf-8", "replace")), format=format) as container:
            for packet in container.demux():
                if format != "ass" or (packet.duration or 0) > 0:  # players show no event without a duration; FFmpeg 9 gives none
                    cues += _cues(packet, packet.stream.codec_context.name)
    except av.FFmpegError:
        pass
    yield from _ended(cues, duration)


def _ended(cues: list[Cue], latest: float) -> Iterator[Cue]:
    """Cues in time order; those without a duration end where the next one begins, or at the latest time."""
    cues = sorted(cues, key=lambda cue: cue[0])
    starts = [start for start, *_ in cues]
    following = [*starts, math.inf]
    for start, end, lines in cues:
        yield start, end if end > start else min(following[bisect_right(starts, start)], latest), lines


def _joined(cues: list[Cue]) -> list[Cue]:
    """Cues of MP4, which are divided where others begin or end."""
    joined: list[Cue] = []
    ending: dict[tuple[float, tuple[Line, ...]], int] = {}
    for start, end, lines in cues:
        at = ending.pop((start, tuple(lines)), len(joined))
        if at == len(joined):
            joined.append((start, end, lines))
        else:
            joined[at] = (joined[at][0], end, lines)
        ending[end, tuple(lines)] = at
    return joined


def _cues(packet: Any, codec: str) -> Iterator[Cue]:
    start = packet_time(packet)
    if start is not None and not bytes(packet).startswith(_FLV_METADATA):
        end = start + (packet.duration or 0) * time_base(packet)
        for text in _texts(bytes(packet)) if codec == "wvtt" else [bytes(packet)]:
            yield float(start), float(end), _content(text, codec) if packet.size else []


def _texts(packet: bytes) -> Iterator[bytes]:
    """Of the cues of WebVTT in MP4, which are shown together."""
    for kind, content in _boxes(packet):
        yield from (text for inner, text in _boxes(content) if inner == b"payl") if kind == b"vttc" else ()


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while len(data) >= 8:
        size = max(8, int.from_bytes(data[:4], "big"))
        yield data[4:8], data[8:size]
        data = data[size:]


def _content(packet: bytes, codec: str) -> list[Line]:
    if codec in _TAGGED_CODECS:
        return _voices(packet.decode("utf-8", "replace"))
    if codec in _ASS_CODECS:
        *fields, text = packet.decode("utf-8", "replace").split(",", 8)
        speaker = fields[_NAME].strip() if len(fields) > _NAME else ""
        return plain_lines(_without_overrides(text), "" if speaker == _NOBODY else speaker)
    if codec == "mov_text":
        packet = packet[2 : 2 + int.from_bytes(packet[:2], "big")]  # of text, after its length; then come styles
    return plain_lines(decode(packet))


def plain_lines(text: str, speaker: str = "") -> list[Line]:
    return [Line(line, speaker) for line in text.splitlines()]


def _documents(packets: Iterator[Packet[Any]]) -> Iterator[Cue]:
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
        shifts = (first, 0.0, start)
        fitting = (shift for shift in shifts if all(start - _SLACK <= begin + shift <= end + _SLACK for begin, *_ in cues))
        shift = next(fitting, first)
        yield from ((begin + shift, until + shift, plain_lines(text)) for begin, until, text in cues)


def _voices(text: str) -> list[Line]:
    """The lines of SubRip or WebVTT; ``<v NAME>`` says whose the text is up to its end, or to the next name."""
    said, *voices = _VOICE.split(text)
    lines = plain_lines(_untagged(said))
    for name, said in zip(voices[::2], voices[1::2], strict=True):
        lines += plain_lines(_untagged(said), " ".join(_untagged(name or "").split()))
    return lines


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

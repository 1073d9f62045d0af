"""Whether a file holds as much as its header says."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import Final

import av

from sage_cli.video.matroska import is_whole
from sage_cli.video.source import MediaFile, packet_time, time_base
from sage_cli.video.timeline import Survey

# The smallest share of packets, or of the duration in the header, whose loss is reported.
WORTH_SAYING: Final = Fraction(1, 50)

_SAME: Final = Fraction(1)  # seconds by which a stream may miss the duration that the header has of it
_MOSTLY_SOUND, _ROUNDING = Fraction(9, 10), Fraction(1, 1000)  # of the bytes of a file


def falls_short(seen: Survey, origin: Fraction) -> bool:
    """Whether picture and sound end before the header says that the file does. Where times start again, it says nothing."""
    return (
        seen.claimed is not None and not seen.shifts and seen.claimed - seen.end > max(Fraction(2), (seen.claimed - origin) * WORTH_SAYING)
    )


def outlasts(file: MediaFile, streams: Collection[int], seen: Survey) -> bool:
    """Whether a file just opened is longer than the chosen streams because another one is, such as subtitles that end late.

    That stream must end where the header says, and go on after the others: subtitles that are shown until the end begin before a cut, too,
    so where they begin early, the file must have its full size.

    Raises:
        MediaReadError: the file could not be read to its end.
    """
    others = [
        stream.index for stream in file.container.streams if stream.index not in streams and stream.type in ("subtitle", "audio", "video")
    ]
    begin = end = Fraction(0)
    for packet in file.packets(*others) if others else ():
        if (time := packet_time(packet)) is not None:
            begin, end = max(begin, time), max(end, time + (packet.duration or 0) * time_base(packet))
    reaches = seen.claimed is not None and seen.claimed - end < _SAME
    return reaches and (begin >= seen.end or is_whole(file.source))


def is_estimated(file: MediaFile, streams: Collection[int]) -> bool:
    """Whether the duration is no claim of the header, but the size of the file by a bit rate: a whole file of sound may be shorter.

    The rate is that of the beginning where it varies (AAC, MP3), and not the real one of ADPCM in AVI.
    """
    chosen = [file.stream(index) for index in streams]
    rate = sum(stream.codec_context.bit_rate or 0 for stream in chosen)
    if not rate or not file.container.duration or any(stream.type != "audio" for stream in chosen):
        return False
    share = Fraction(file.container.duration, av.time_base) * rate / (8 * file.source.size)
    return bool(_MOSTLY_SOUND <= share <= 1 + _ROUNDING)

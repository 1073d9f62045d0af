"""The contents of a media file, found by reading it: headers can be wrong.

**The clock.** Zero is the start of the first video frame or of the first sound, whichever is earlier. A container's own start offset
(MPEG-TS starts anywhere) is removed; the delay between the streams is kept. Encoder priming before the container's zero, which players
skip, does not count. Edit lists are applied: frames they cut do not exist. :mod:`sage_cli.video.timeline` handles timestamps that cannot
be used as they are.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeAlias, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame

from sage_cli.errors import MediaReadError, VideoError, reading
from sage_cli.hardware.waiting import in_background
from sage_cli.store.content import identify
from sage_cli.text import SUBTITLES
from sage_cli.video import matroska, mp4
from sage_cli.video.encryption import is_encrypted
from sage_cli.video.media import LOST, AudioTrack, Media, MediaNotice, Orientation, Part, VideoTrack
from sage_cli.video.order import retiming
from sage_cli.video.source import MediaFile, frame_time, packet_time, time_base
from sage_cli.video.timeline import Keyframe, Survey, survey

# Audio that starts less than this many seconds before a container's zero is encoder priming.
_MAX_PRIMING: Final = 1

# Packets that are tried before a stream counts as undecodable.
_TRIED: Final = 2000

# Largest decoded picture in pixels: 12K video and 108-megapixel photographs. More takes gigabytes.
_MOST_PIXELS: Final = 128_000_000

# The largest plausible pixel aspect ratio (or its inverse) and frame rate. More comes from damage, or is the rate of a clock.
_MOST_ASPECT: Final = 10
_MOST_FPS: Final = 10_000
_NO_TIMESTAMPS: Final = 0x80  # AVFMT_NOTIMESTAMPS

# The smallest share of packets, or of the duration in the header, whose loss is reported.
_WORTH_SAYING: Final = Fraction(1, 50)

_CLOCK: Final = Fraction(5, 4)  # times the real frame rate; up to that a guessed one is taken for the usual one

_SAME: Final = Fraction(1)  # seconds by which a stream may miss the duration that the header has of it
_MOSTLY_SOUND, _ROUNDING = Fraction(9, 10), Fraction(1, 1000)  # of the bytes of a file

_NAMES: Final = {"video": "picture", "audio": "sound"}

Opened: TypeAlias = Callable[..., MediaFile]  # opens the file that is probed


def probe(path: Path, *, remember: bool = True, spoken: Callable[[str], bool] | None = None) -> Media:
    """Examine a media file: hash it, decode its first frame and read all its packets. Ctrl-C interrupts this.

    Args:
        remember: its fingerprint; see :func:`sage_cli.store.content.fingerprint`.
        spoken: whether a stream in this language, as the file names it, is to be heard; by default, or without one, the best is.

    Raises:
        VideoError: the file does not exist, or contains nothing that can be decoded.
        MediaReadError: it could not be read to its end.
    """
    _check_file(path)
    try:
        return in_background(lambda stop: _probe(path, stop, remember, spoken))
    except VideoError as error:
        if path.suffix.lower() not in SUBTITLES or isinstance(error, MediaReadError):
            raise
        told = "give the video or recording it belongs to; 'sage transcribe VIDEO --from subtitles' converts it"
        raise VideoError(f"{path} is a subtitle file: {told}") from error


def _probe(path: Path, stop: Event, remember: bool, spoken: Callable[[str], bool] | None) -> Media:
    with reading(path, VideoError):
        content = identify(path, stop, remember=remember)
    opened: Opened = partial(MediaFile, path, content=content, stop=stop)
    notices: list[MediaNotice] = []
    with opened() as file:
        candidates: dict[Part, list[int]] = {"video": _candidates(file, "video"), "audio": _candidates(file, "audio")}
    found = {part: begun for part, indices in candidates.items() if (begun := _first(opened, indices, notices)) is not None}
    if not found:
        lost = [notice for notice in notices if notice.kind in LOST]
        if lost:
            first = min(lost, key=lambda notice: notice.kind not in ("encrypted", "missing"))
            raise VideoError(
                f"nothing of {path} can be decoded: {' and '.join(notice.text for notice in lost)}; {first.remedy('H.264 and AAC')}"
            )
        raise VideoError(f"{path} has not a single frame or sound in it; record, download or export it again")
    video, audio = (found[part][0] if part in found else None for part in ("video", "audio"))
    assert video is None or isinstance(video, VideoTrack)
    assert audio is None or isinstance(audio, AudioTrack)
    with opened(retimings=video.retimings if video else {}) as file:
        seen = survey(file, video.index if video else None, audio.index if audio else None, 1 / video.rate if video else Fraction(0))
        if video is not None and not file.stream(video.index).average_rate:
            video = _counted(video, seen)
        if audio is not None and seen.miscounted:
            codec = file.stream(audio.index).codec_context
            audio = replace(audio, frame=Fraction(codec.frame_size, codec.sample_rate))
    origin = min(begin + seen.first[track.index] for track, begin in found.values())
    duration = float(max(seen.end - origin, Fraction(1, 1000)))
    keyframes = seen.keyframes or [Keyframe(origin, 0, exact=False)]
    parts = {track.index: part for part, (track, _) in found.items()}
    cut = _falls_short(seen, origin)
    if cut:
        with opened() as file:
            cut = not _is_estimated(file, parts) and not _outlasts(file, parts, seen)
    notices += _wrong(seen, parts, origin, cut=cut)
    if spoken is not None and audio is not None and len(candidates["audio"]) > 1:  # last, so that the clock is the same whatever is heard
        audio = _in_language(opened, audio, candidates["audio"], spoken)
    return Media(path, str(path), content, origin, duration, video, audio, keyframes if video else [], seen.shifts, seen.places, notices)


# ---- streams -------------------------------------------------------------------------------------------------------


def _first(opened: Opened, indices: Sequence[int], notices: list[MediaNotice]) -> tuple[VideoTrack | AudioTrack, Fraction] | None:
    """The first of these streams that can be decoded, with its start time. Adds notices for those before it."""
    for index in indices:
        with opened() as file:
            begun = _track(file, index)
        if isinstance(begun, MediaNotice):
            notices.append(begun)
        elif begun is not None:
            return begun
    return None


def _counted(video: VideoTrack, seen: Survey) -> VideoTrack:
    """The track with its rate by the packets, if the one that FFmpeg guesses is that of its clock. (Browsers write none.)"""
    packets, length = seen.packets[video.index], seen.lengths[video.index]
    if video.fps is None or packets < 2 or not 0 < packets * _CLOCK < length * Fraction(video.fps):
        return video
    return replace(video, fps=float(packets / length))


def _in_language(opened: Opened, best: AudioTrack, candidates: Sequence[int], spoken: Callable[[str], bool]) -> AudioTrack:
    """The first audio stream in the language asked for that can be decoded; the best one if that is in it, or none is."""
    with opened() as file:
        indices = [index for index in candidates if spoken(file.stream(index).language or "")]
    begun = None if best.index in indices else _first(opened, indices, [])
    return replace(begun[0], best=False) if begun is not None and isinstance(begun[0], AudioTrack) else best


def _candidates(file: MediaFile, part: str) -> list[int]:
    """Indices of the streams of a kind, best first, without cover art."""
    streams = file.container.streams
    chosen = [s for s in (streams.video if part == "video" else streams.audio) if not int(s.disposition) & int(Disposition.attached_pic)]
    # If there are several programmes (MPEG-TS), the audio must belong to the video.
    picture = streams.best("video")
    best = picture if part == "video" else streams.best("audio", related=picture)
    return sorted((stream.index for stream in chosen), key=lambda index: (best is None or index != best.index, index))


def _track(file: MediaFile, index: int) -> tuple[VideoTrack | AudioTrack, Fraction] | MediaNotice | None:
    """The track and the time of its first frame, or the reason why it cannot be decoded, or None for an empty stream.

    Raises:
        VideoError: its pictures are too large.
    """
    stream = file.stream(index)
    part: Part = "video" if stream.type == "video" else "audio"
    if stream.codec_context is None:
        return MediaNotice(part, "no decoder", f"the {_NAMES[part]} cannot be decoded (unknown codec)")
    codec = str(stream.codec_context.codec.canonical_name)
    if file.container.format.name == "webp_pipe" and _is_animated(file.source.peek(0, 32)):  # of which that demuxer shows one picture
        return MediaNotice(part, "no decoder", "the picture cannot be decoded (animated WebP)")
    if part == "video" and (pixels := stream.codec_context.width * stream.codec_context.height) > _MOST_PIXELS:
        raise VideoError(
            f"{file.source.path} has pictures of {stream.codec_context.width}x{stream.codec_context.height} pixels; "
            f"the most that is decoded is {_MOST_PIXELS // 10**6} million, not {pixels // 10**6}: scale it down"
        )
    packets = file.packets(index)
    begun: list[Packet[Any]] = []
    frame, failed, encrypted = _first_decoded(file, index, packets, begun)
    if encrypted:
        return MediaNotice(part, "encrypted", f"the {_NAMES[part]} cannot be decoded ({codec}, encrypted)")
    if frame is None:
        if failed:
            return MediaNotice(part, "undecodable", f"the {_NAMES[part]} cannot be decoded ({codec}: damaged, or unknown to this FFmpeg)")
        if stream.frames or len(stream.index_entries):
            return MediaNotice(part, "missing", f"the {_NAMES[part]} is missing: the file ends before its data")
        return None
    begin = frame_time(frame)
    if isinstance(frame, AudioFrame):
        track = AudioTrack(index, codec, frame.sample_rate, frame.layout.nb_channels, stream.language or "")
        return track, Fraction(0) if -_MAX_PRIMING < begin < 0 else begin
    orientation = replace(_orientation(frame), crop=(crop := _crop(file, index, frame)))
    visible = (frame.width - crop[0] - crop[2], frame.height - crop[1] - crop[3])
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        aspect = 1.0
    # Widen or heighten, never flatten: no line of the picture is lost.
    width, height = (round(visible[0] * aspect), visible[1]) if aspect >= 1 else (visible[0], round(visible[1] / aspect))
    if orientation.transpose:
        width, height = height, width
    rate, guessed = stream.average_rate, stream.guessed_rate
    if file.container.format.flags & _NO_TIMESTAMPS:  # the average is FFmpeg's default; others may be of fields, or a clock
        rate = min(filter(None, (guessed, stream.codec_context.framerate)), default=rate)
    if not rate or rate > _MOST_FPS:
        rate = guessed
    timing = retiming(file, begun, packets, frame) if begun else None
    if timing is not None:
        timing.apply(begun[0])
        begin = packet_time(begun[0]) or Fraction(0)
    return VideoTrack(index, codec, width, height, orientation, float(rate) if rate else None, _timecode(file, index), timing), begin


def _is_animated(head: bytes) -> bool:
    """Whether a WebP file, of which these are the first bytes, is animated."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)


def _timecode(file: MediaFile, index: int) -> str:
    """The start timecode, which is a tag of the video, of a timecode track, or of the whole file; Matroska writes its name in capitals."""
    holders = (file.stream(index), *file.container.streams, file.container)
    tags = ((name, value) for holder in holders for name, value in holder.metadata.items())
    return next((value for name, value in tags if name.lower() == "timecode"), "")


def _first_decoded(
    file: MediaFile, index: int, packets: Iterator[Packet[Any]], begun: list[Packet[Any]]
) -> tuple[VideoFrame | AudioFrame | None, int, bool]:
    """The first frame, the number of packets that could not be decoded before it, and whether the stream is encrypted.

    Args:
        begun: takes the packets that were decoded.
    """
    failed = 0
    if is_encrypted(file, index):
        return None, failed, True
    for packet in packets:
        if packet.has_sidedata("encryption_info"):
            return None, failed, True
        try:
            frames = cast("list[VideoFrame | AudioFrame]", packet.decode())
        except (av.FFmpegError, ValueError):
            failed += 1
            if failed > _TRIED:
                break
            continue
        if packet.size:
            begun.append(packet)
        if frames:
            frame = frames[0]
            frame.pts = frame.pts if frame.pts is not None else frame.dts or 0
            return frame, failed, False
    return None, failed, False


def _orientation(frame: VideoFrame) -> Orientation:
    """From the display matrix ((a, b), (c, d)), which maps a stored (x, y) to (a x + c y, b x + d y) on screen."""
    try:
        matrix = cast(Any, frame.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # there is side data that PyAV has no name for, such as EXIF
        matrix = None
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix)[:20], np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, flip_x=a < 0, flip_y=d < 0)
    return Orientation(True, flip_x=c < 0, flip_y=b < 0)


def _crop(file: MediaFile, index: int, frame: VideoFrame) -> tuple[int, int, int, int]:
    """See :attr:`Orientation.crop`. The shape of pixels is that of a cropped picture."""
    number = [stream.index for stream in file.container.streams.video].index(index)
    kind, found = file.container.format.name, list[tuple[int, int, int, int]]()
    if "matroska" in kind:
        found = matroska.crops(file.source)
    elif "mp4" in kind:
        found = mp4.crops(file.source.peek, frame.width, frame.height)
    left, top, right, bottom = crop = found[number] if number < len(found) else (0, 0, 0, 0)
    return crop if left + right < frame.width and top + bottom < frame.height else (0, 0, 0, 0)


# ---- what is wrong -------------------------------------------------------------------------------------------------


def _wrong(seen: Survey, parts: dict[int, Part], origin: Fraction, *, cut: bool) -> Iterator[MediaNotice]:
    for index, part in parts.items():
        count, zeros = seen.packets[index], seen.zeros[index]
        if zeros > count * _WORTH_SAYING:
            yield MediaNotice(part, "damaged", f"about {100 * zeros // count} % of the {_NAMES[part]} is blank: the file is damaged")
    length = f"{float(seen.end - origin):.0f} s"
    if seen.gave_up:
        yield MediaNotice("file", "unreadable", "the rest of the file holds nothing that can be read")
    elif seen.followed:
        text = f"only the first {length} are read: another recording follows in the file; give the parts one by one"
        yield MediaNotice("file", "unreadable", text)
    elif seen.missing > (sum(seen.packets.values()) + seen.missing) * _WORTH_SAYING or seen.short or cut:
        whole = f"{float(seen.claimed - origin):.0f} s" if seen.claimed is not None and seen.claimed > seen.end else length
        claimed = "" if whole == length else f" of {whole}"
        yield MediaNotice("file", "cut short", f"the file is cut short: {length}{claimed} are there")
    elif seen.blank:
        yield MediaNotice("file", "damaged", f"the file is damaged: {seen.blank:,} bytes of it are blank")
    elif seen.errors:
        yield MediaNotice("file", "damaged", f"the file is damaged: {seen.errors} places could not be read")
    if seen.shifts and not seen.followed:
        yield MediaNotice("file", "joined", "the file's times start again or jump: its parts are taken one after the other")


def _falls_short(seen: Survey, origin: Fraction) -> bool:
    """Whether picture and sound end before the header says that the file does. Where times start again, it says nothing."""
    return (
        seen.claimed is not None and not seen.shifts and seen.claimed - seen.end > max(Fraction(2), (seen.claimed - origin) * _WORTH_SAYING)
    )


def _outlasts(file: MediaFile, streams: Collection[int], seen: Survey) -> bool:
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
    return reaches and (begin >= seen.end or matroska.is_whole(file.source))


def _is_estimated(file: MediaFile, streams: Collection[int]) -> bool:
    """Whether the duration is no claim of the header, but the size of the file by a bit rate: a whole file of sound may be shorter.

    The rate is that of the beginning where it varies (AAC, MP3), and not the real one of ADPCM in AVI.
    """
    chosen = [file.stream(index) for index in streams]
    rate = sum(stream.codec_context.bit_rate or 0 for stream in chosen)
    if not rate or not file.container.duration or any(stream.type != "audio" for stream in chosen):
        return False
    share = Fraction(file.container.duration, av.time_base) * rate / (8 * file.source.size)
    return bool(_MOSTLY_SOUND <= share <= 1 + _ROUNDING)


def _check_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise VideoError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise VideoError(f"{path} is a directory; give a video file")
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{path} is not a regular file; copy it to one first")
    if found.st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); download or export it again")

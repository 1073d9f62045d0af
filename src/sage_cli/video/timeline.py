"""The timeline of a file: decides which of its timestamps are used, for video and audio alike.

Every packet is read once, without decoding; for MP4, the index is enough. Continuous timestamps are used as they are. Discontinuities are
handled much as ``ffmpeg`` handles them in playback:

* Timestamps that restart (files joined end to end, a restarted encoder) continue where the stream left off.
* So do timestamps that jump ahead in formats whose clock may be reset at any point (MPEG-TS, MPEG-PS, Ogg). In other formats a gap is
  kept, unless it goes beyond the duration in the file's header.
* A few packets whose timestamps differ from those before and after them are damaged: they are placed in between.

A shift applied to one stream is applied to the other as well.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import av
from av.packet import Packet

from sage_cli.video.entry import HEAD, entry_points
from sage_cli.video.places import Places
from sage_cli.video.runs import AHEAD, BACK, DISCONTINUITY, Run, decide
from sage_cli.video.source import MediaFile, Shifts, time_base

_REORDERED: Final = 17  # packets by which presentation times go back

# The longest plausible packet, unless the header's duration allows more: longer ones come from counters that wrapped around.
_LONGEST_PACKET: Final = Fraction(10)

_TS_DISCONT: Final = 0x200  # AVFMT_TS_DISCONT

# Codecs whose packets never begin with this many zeros. (Uncompressed audio and video may.)
_NEVER_ZEROS: Final = {
    *("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "vp8", "vp9", "av1"),
    *("aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "flac"),
}
_ZEROS: Final = bytes(64)
_HOLE: Final = 4096  # bytes between packets that are examined
_PADDING: Final = re.compile(rb"\0?(?:JUNK|LIST|RIFF|idx1|ix\d\d|....(?:free|skip))|\xec", re.DOTALL)  # intended padding

# The first bytes of containers whose demuxers stop after the first of several files joined end to end.
_BEGINNINGS: Final = re.compile(
    rb"\0\0\0.ftyp[\w ]{4}|FLV\x01[\x01\x04\x05]\0\0\0\x09|RIFF....(?:WAVE|AVI )|RF64....WAVE|FORM....AIF[FC]|riff\x2e\x91\xcf\x11"
    rb"|caff\0\x01\0\0desc|TTA1|DKIF\0\0 \0",
    re.DOTALL,
)
_MARK: Final = 16  # bytes with which a file begins, and another one of its format by the same program
_BEHIND: Final = 32 << 20  # bytes after the last packet that are searched for another file
_SAMPLES: Final = 512  # packets of an index that are examined
_FRAMES: Final = {"mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "ac3"}  # codecs whose packets in AVI are single frames
_MISCOUNTED: Final = Fraction(1, 20)  # seconds by which a time is wrong


class Keyframe(NamedTuple):
    """Where decoding can begin: presentation time (container seconds; exact or estimated), and the stream's timestamp to seek to.

    In a file that can only be read from its beginning, ``stamp`` is the number of the packet in its stream.
    """

    time: Fraction
    stamp: int
    exact: bool

    def landed(self, time: Fraction, target: Fraction) -> bool:
        """Whether a seek here that found a packet of this time is good for the target.

        Some demuxers guess different timestamps after a seek (MPEG-PS), so a known time must be found again.
        """
        return time == self.time if self.exact else time <= target


@dataclass(frozen=True)
class Survey:
    """The contents of a file, by its packets.

    Attributes:
        shifts: seconds to add to times; empty if they are continuous.
        first: by stream, the seconds added to the times of its first packets.
        end: where the last packet ends, in the container's (shifted) seconds.
        claimed: the earliest end that the header implies; None if it gives no duration.
        keyframes: of the video, in time order.
        places: by stream, where its packets are; of one that was not read to its end, nothing.
        packets, zeros: by stream, the number of packets, and of those that begin with zeros (estimated for an index).
        lengths: by stream, the seconds that its packets cover.
        miscounted: whether the times of the sound are not to be used; see :class:`_Bytes`.
        missing: indexed packets beyond the end of the file.
        blank: bytes between packets that are all zeros.
        short: whether the file is shorter than its header says.
        followed: whether another file begins after the last packet.
        errors: of the demuxer.
        gave_up: whether reading stopped early because no packets were found.
    """

    shifts: Shifts
    first: Mapping[int, Fraction]
    end: Fraction
    claimed: Fraction | None
    keyframes: Sequence[Keyframe]
    places: Mapping[int, Places]
    packets: Mapping[int, int]
    zeros: Mapping[int, int]
    lengths: Mapping[int, Fraction]
    miscounted: bool
    missing: int
    blank: int
    short: bool
    followed: bool
    errors: int
    gave_up: bool


@dataclass
class _Ticks:
    """A run under construction: see :class:`Run`. Times are in ticks of the stream's clock."""

    first: int
    place: int
    start: int
    begin: int
    next: int
    end: int
    latest: int  # presentation time of the packet that ends last: in MP4, lengths are those until the next packet in decoding order


class _Bytes:
    """Finds out whether the times of sound are counts of bytes that its frames, which are all of one length, contradict.

    AVI has a byte rate and no times. Where the sound has a variable rate, or the rate in the header is wrong or was never written, these
    times are wrong by a different amount for each packet, and only the frames can be counted.

    Args:
        frame: seconds in a frame; 0 if that varies.
    """

    def __init__(self, base: Fraction, frame: Fraction) -> None:
        self._frame = frame / base
        self._slack = _MISCOUNTED / base
        self._first = self._bytes = self._frames = 0
        self._counted, self._contradicted = frame > 0, False

    def add(self, time: int, size: int) -> None:
        """Note a packet, which is one frame."""
        if self._counted:
            self._first = self._first if self._frames else time
            self._counted = time - self._first == self._bytes
            self._contradicted |= abs(self._bytes - self._frames * self._frame) > self._slack
            self._bytes, self._frames = self._bytes + size, self._frames + 1

    @property
    def miscounted(self) -> bool:
        return self._counted and self._contradicted


class _Track:
    """Collects the packets of one stream. It counts in ticks for speed: an hour has hundreds of thousands of packets.

    Args:
        claimed: the end of the file by its header, in seconds.
        by_pts: whether seeks use presentation times.
        usual: duration of a packet in seconds, if unknown.
        is_entry: see :mod:`sage_cli.video.entry`; None for sound.
        frame: see :class:`_Bytes`.
    """

    def __init__(
        self,
        stream: Any,
        claimed: Fraction | None,
        by_pts: bool,
        usual: Fraction = Fraction(0),
        is_entry: Callable[[bytes], bool] | None = None,
        frame: Fraction = Fraction(0),
    ) -> None:
        self.base = base = time_base(stream)
        self.by_pts, self.is_entry = by_pts, is_entry
        self.never_zeros = stream.codec_context.name in _NEVER_ZEROS
        self.palette = is_entry is not None and stream.codec_context.pix_fmt == "pal8"  # it may change
        self.usual, self._back, self._ahead, self._leap, self._longest = (
            round(seconds / base) for seconds in (usual, BACK, AHEAD, DISCONTINUITY, _LONGEST_PACKET)
        )
        self._claimed = None if claimed is None else round((claimed + 1) / base)
        self.ticks: list[_Ticks] = []
        self.runs: list[Run] = []  # the same in seconds, once all are known
        self.keys: list[tuple[int, int, int]] = []  # number, time, timestamp to seek to
        self.places = Places(base)
        self.bytes = _Bytes(base, frame)
        self._frame = frame
        self.packets = self.untimed = self.zeros = 0
        self.behind = 0  # where the last packet of an index ends in the file
        self.run = _Ticks(0, 0, 0, 0, 0, 0, 0)
        self._latest = 0  # decoding time, or something earlier
        self._recent: deque[int] = deque(maxlen=_REORDERED)

    def add(self, packet: Packet[Any], place: int) -> None:
        number, self.packets = self.packets, self.packets + 1
        if self.never_zeros and packet.size >= len(_ZEROS):
            self.zeros += bytes(memoryview(packet)[: len(_ZEROS)]) == _ZEROS
        pts, dts = packet.pts, packet.dts
        time = dts if pts is None else pts
        if time is None:
            self.untimed += 1
            return
        self.places.add(packet.pos, time)
        self.bytes.add(time, packet.size)
        length = self.length(packet.duration or 0, time)
        self.place(number, place, time if dts is None else dts, time, length, reordered=dts is None)
        if time >= self.run.latest and not packet.is_discard:
            self.run.latest, self.run.end = time, time + length
        if self.is_entry is not None and packet.is_keyframe and self.is_entry(bytes(memoryview(packet)[:HEAD])):
            self.keys.append((number, time, time if dts is None or self.by_pts else dts))
        if self.palette and packet.has_sidedata("palette"):
            del self.keys[1:]  # it comes once: after a seek, it would not be there
            self.is_entry = None

    def place(self, number: int, place: int, decoded: int, presented: int, length: int, *, reordered: bool = False) -> None:
        """Add a packet to the run it belongs to, or begin another.

        Args:
            reordered: it has a presentation time alone, which stands in for its decoding time. Of the last few ones, in whatever order,
                the earliest is no later than the decoding time.
        """
        run = self.run
        if not self.ticks or decoded < self._latest - self._back or decoded > run.next + (self._leap if reordered else self._ahead):
            self.run = run = _Ticks(number, place, decoded, presented, decoded, presented, presented)
            self.ticks.append(run)
            self._recent.clear()
        if reordered:
            self._recent.append(decoded)
            self._latest = min(self._recent)
            run.next = max(run.next, decoded + length)
        else:
            self._latest = decoded
            run.next = decoded + length

    def length(self, told: int, time: int) -> int:
        """The duration of the packet at a time: its own if that is plausible."""
        if 0 < told <= self._longest or (told > 0 and self._claimed is not None and time + told <= self._claimed):
            return told
        return self.usual

    def to_seconds(self) -> None:
        for run in self.ticks:
            start, begin, after, end = (ticks * self.base for ticks in (run.start, run.begin, run.next, run.end))
            self.runs.append(Run(run.first, run.place, start, begin, after, end))
        if self.bytes.miscounted:
            first = self.runs[0]
            end = first.begin + self.packets * self._frame
            self.runs = [Run(first.first, first.place, first.start, first.begin, end, end)]


def survey(file: MediaFile, video: int | None, audio: int | None, frame_length: Fraction) -> Survey:
    """Read all packets of the chosen streams of a file just opened.

    Args:
        frame_length: duration of a frame in seconds, if the file does not give it.

    Raises:
        MediaReadError: the file could not be read to its end.
    """
    container = file.container
    by_pts = "matroska" in container.format.name
    claimed = promised = None
    if container.duration and container.duration > 0:
        claimed = promised = Fraction(container.duration + (container.start_time or 0), av.time_base)
        if by_pts or "mp4" in container.format.name:  # counted from zero, and by some writers of Matroska from the first time
            promised = Fraction(container.duration, av.time_base)

    def fresh(index: int) -> _Track:
        stream = file.stream(index)
        if index != video:
            codec = stream.codec_context
            counts = container.format.name == "avi" and codec.name in _FRAMES and codec.frame_size and codec.sample_rate
            return _Track(stream, claimed, by_pts, frame=Fraction(codec.frame_size, codec.sample_rate) if counts else Fraction(0))
        return _Track(stream, claimed, by_pts, frame_length, entry_points(stream, closed=index in file.retimings))

    tracks = {index: fresh(index) for index in (video, audio) if index is not None}
    indexed, blank = _is_indexed(file, tracks), 0
    missing = sum(_by_index(file, index, track) for index, track in tracks.items()) if indexed else 0
    if not indexed:
        blank = _read(file, tracks)
        missing = sum(_missing(file, index) for index in tracks) if "mp4" in container.format.name else 0
        if missing:  # what is missing of one stream ended the reading of both
            for index in tracks:
                tracks[index] = fresh(index)
                with file.again() as single:
                    _read(single, {index: tracks[index]}, apart=True)
    behind = max((track.behind for track in tracks.values()), default=0)  # where the packets end in the file
    last = _last(file, tracks) if indexed and not missing else None
    for track in tracks.values():
        track.to_seconds()
    decide([track.runs for track in tracks.values()], bool(int(container.format.flags) & _TS_DISCONT), claimed)
    shifts: Shifts = {index: [(run.first, run.shift) for run in track.runs] for index, track in tracks.items()}
    if not any(shift for shifted in shifts.values() for _, shift in shifted):
        shifts = {}
    end = max((run.end + run.shift for track in tracks.values() for run in track.runs), default=Fraction(0))
    if last is not None and not shifts:
        end = last
    untimed = tracks[video].untimed * frame_length if video is not None else Fraction(0)  # bare streams (.h264) have no clock: count
    return Survey(
        shifts=shifts,
        first={index: track.runs[0].shift if track.runs else Fraction(0) for index, track in tracks.items()},
        end=end or untimed,
        claimed=promised,
        keyframes=_keyframes(tracks[video], restarts=bool(shifts), exact=not indexed) if video is not None else [],
        places={index: track.places for index, track in tracks.items()},
        packets={index: track.packets for index, track in tracks.items()},
        zeros={index: track.zeros for index, track in tracks.items()},
        lengths={index: sum((run.end - run.begin for run in track.runs), Fraction(0)) for index, track in tracks.items()},
        miscounted=audio is not None and tracks[audio].bytes.miscounted,
        missing=missing,
        blank=blank,
        short=_is_short(file),
        followed=_is_followed(file, behind),
        errors=file.errors,
        gave_up=file.source.gave_up,
    )


def _read(file: MediaFile, tracks: Mapping[int, _Track], *, apart: bool = False) -> int:
    """Add the packets of a file just opened; return how many bytes between them are blank.

    Args:
        apart: other streams are read apart from these: the order of packets is that of their bytes.
    """
    behind = blank = place = 0
    for packet in file.packets(*tracks):
        if not packet.size:
            continue
        track, position = tracks[packet.stream_index], packet.pos
        track.add(packet, position if apart and position is not None else place)
        place += 1
        if position is not None and position >= 0:
            if position - behind > _HOLE and behind > 0 and _is_blank(file, behind, position):
                blank += position - behind
            behind = max(behind, position + packet.size)
            track.behind = behind
    return blank


def _keyframes(track: _Track, *, restarts: bool, exact: bool) -> list[Keyframe]:
    """In time order. If times restart, packets are identified by number."""
    found, runs, at = [], track.runs, 0
    for number, time, stamp in track.keys:
        while at + 1 < len(runs) and runs[at + 1].first <= number:
            at += 1
        found.append(Keyframe(time * track.base + runs[at].shift, number if restarts else stamp, exact))
    return sorted(found)


def _is_blank(file: MediaFile, begin: int, end: int) -> bool:
    middle = (begin + end - _HOLE // 4) // 2
    return file.source.peek(middle, _HOLE // 4) == bytes(_HOLE // 4) and not _PADDING.match(file.source.peek(begin, 9))


def _is_short(file: MediaFile) -> bool:
    """Whether a RIFF (WAV, AVI) or IFF (AIFF) file is shorter than the size in its header."""
    mark, size = file.source.peek(0, 4), file.source.peek(4, 4)
    if mark not in (b"RIFF", b"FORM") or size in (bytes(4), b"\xff" * 4):
        return False
    return int.from_bytes(size, "little" if mark == b"RIFF" else "big") > file.source.size + _HOLE


def _is_followed(file: MediaFile, behind: int) -> bool:
    """Whether another file begins after the last packet: where demuxers read on, there are packets of it."""
    if not behind:
        return False
    head, rest = file.source.peek(0, 64), file.source.peek(behind, _BEHIND)
    if _BEGINNINGS.match(head):
        return _BEGINNINGS.search(rest) is not None
    repeats = bool(int(file.container.format.flags) & _TS_DISCONT)  # of itself: formats that are made to be joined
    return not repeats and any(head[:4]) and head[:_MARK] in rest


# ---- MP4's index ---------------------------------------------------------------------------------------------------


def _is_indexed(file: MediaFile, tracks: Iterable[int]) -> bool:
    """Whether the file has an index of every packet: fragmented MP4 and others without a count of frames do not."""
    if "mp4" not in file.container.format.name:
        return False
    return all(0 < file.stream(index).frames <= len(file.stream(index).index_entries) for index in tracks)


def _missing(file: MediaFile, index: int) -> int:
    """How many packets that the fragments read so far tell of lie beyond the end of the file."""
    size = file.source.size
    return sum(entry.pos + entry.size > size for entry in file.stream(index).index_entries)


def _by_index(file: MediaFile, index: int, track: _Track) -> int:
    """Add a stream's packets from the index; return the number of those beyond the end of the file.

    The index has decoding times, but seeks use presentation times, which are later by the reordering delay: the first packet's is used.
    """
    stream, size = file.stream(index), file.source.size
    first = next((packet for packet in file.packets(index) if packet.pts is not None and packet.dts is not None), None)
    delay = (first.pts - first.dts) if first is not None and first.pts is not None and first.dts is not None else 0
    missing, entries = 0, list(stream.index_entries)
    step = max(1, len(entries) // _SAMPLES)
    afters = [entry.timestamp for entry in entries[1:]]
    for number, (entry, after) in enumerate(zip_longest(entries, afters)):
        decoded, position, length = entry.timestamp, entry.pos, entry.size
        if position + length > size:
            missing += 1
            continue
        track.packets += 1
        track.behind = max(track.behind, position + length)
        lasts = after - decoded if after is not None and after > decoded else track.usual
        track.place(number, number, decoded, decoded + delay, lasts)
        if not entry.is_discard:
            track.run.end = max(track.run.end, decoded + delay + lasts)
        if track.never_zeros and number % step == 0 and length >= len(_ZEROS) and file.source.peek(position, len(_ZEROS)) == _ZEROS:
            track.zeros += step
        if track.is_entry is not None and entry.is_keyframe and track.is_entry(file.source.peek(position, min(length, HEAD))):
            track.keys.append((number, decoded + delay, decoded + delay))
    return missing


def _last(file: MediaFile, tracks: Mapping[int, _Track]) -> Fraction | None:
    """The end of the last packets, by reading them: the index has no presentation times."""
    end = Fraction(0)
    try:
        for index, track in tracks.items():
            file.seek(track.run.end, index)
            latest = after = 0
            for packet in file.packets(index):
                time = packet.pts if packet.pts is not None else packet.dts
                if packet.size and not packet.is_discard and time is not None and time >= latest:
                    latest, after = time, time + track.length(packet.duration or 0, time)
            end = max(end, after * track.base)
    except av.FFmpegError:
        return None
    return end or None

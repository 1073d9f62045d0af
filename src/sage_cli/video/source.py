"""Opens and reads media files; nothing else in sage does.

FFmpeg reads through :class:`Source` instead of opening files itself. So a read error does not look like the end of the file, a file that is
truncated or replaced during a run is detected, no other file or address is ever opened, special names have no effect, and another thread
can stop a read.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, Final, NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from sage_cli.errors import MediaReadError, VideoError, is_memory_short
from sage_cli.hardware.waiting import Stopped
from sage_cli.store.content import Content, FileState
from sage_cli.video.joined import misread_from

# Consecutive errors of a demuxer after which the rest of a file is given up.
_MAX_ERRORS: Final = 32

# Most bytes read without finding a packet. More than the largest frame (8K, uncompressed), but few enough for demuxers that keep
# everything in memory while they search, or that search byte by byte.
_MAX_WITHOUT_PACKET: Final = 128 << 20

# Bytes that FFmpeg reads at most to find streams, and some more. Beyond them, zeros up to the end tell nothing, but take seconds to go
# through: the demuxer of CAF takes each twelve of them for an empty chunk.
_SEARCHED: Final = 8 << 20
_BLOCK: Final = 1 << 20  # bytes that are looked at together

# Bytes that a seek counts for: among zeros, the demuxer of WAV does not read on for long, but seeks four times for every eight of them.
_SEEK: Final = 2 << 10

_PREFIX: Final = 64  # bytes between a packet's place and its content, and some more

_PADDING: Final = 1 << 16  # larger packets are checked for being nothing but zeros,
_RAW: Final = {"rawvideo", "v210", "v308", "v408", "v410", "r210", "r10k", "yuv4", "ayuv"}  # unless zeros are black

_BUFFER: Final = 256 << 10

# Microseconds of a file searched for streams, where the container does not list them (MPEG-PS). FFmpeg also stops after 5 MB.
_ANALYZED: Final = 90_000_000

# Titles in some other encoding are no reason to fail; from PyAV 19 on they never are.
_LENIENT: Final[dict[str, Any]] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

# Formats that refer to other files or addresses, and text files that FFmpeg would render.
_REFUSED: Final = {"hls", "concat", "dash", "sdp", "rtsp", "rtp", "imf", "webm_dash_manifest", "tty", "ffmetadata"}
_START: Final = 1000  # bytes that tell a playlist
_PLAYLISTS: Final = (
    (rb"#EXTM3U", "HLS"),
    (rb"ffconcat version", "FFmpeg concat"),
    (rb"(<\?xml.*?)?<MPD\b", "DASH"),
    (rb"v=0\r?\no=", "SDP"),
)

# For each stream: from which packet on (by number) how many seconds are added to its times.
Shifts = Mapping[int, Sequence[tuple[int, Fraction]]]


class Retiming(NamedTuple):
    """The times of packets without presentation times of their own; see :mod:`sage_cli.video.order`.

    Attributes:
        decoded: they have decoding times alone; what FFmpeg gives beside them is a guess.
        delay: seconds from their times to those at which they are shown.
        held: seconds for which the decoder holds pictures back at most.
    """

    decoded: bool
    delay: Fraction
    held: Fraction

    def apply(self, packet: Packet[Any]) -> None:
        """Give a packet its time."""
        stamp = packet.dts if self.decoded or packet.pts is None else packet.pts
        packet.pts = None if stamp is None else stamp + round(self.delay / time_base(packet))


class Source:
    """A file for FFmpeg to read. Errors are kept for :meth:`check`: FFmpeg would take them for the end of the file.

    Args:
        content: expected content; by default any.
        stop: set by another thread to stop reading.

    Raises:
        VideoError: the file cannot be opened.
        MediaReadError: its content is not the expected one.
    """

    def __init__(self, path: Path, content: Content | None = None, stop: Event | None = None) -> None:
        self.path, self._content, self._stop = path, content, stop
        # FFmpeg sees only the suffix of the name, which it needs to tell similar formats apart.
        self.name = "media" + (path.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", path.suffix) else "")
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            # It could be opened before: this is a failure of the machine, not a property of the video.
            kind = VideoError if content is None else MediaReadError
            raise kind(f"cannot open {path}: {error.strerror or error}") from error
        self._state = FileState.of(self._file.fileno())
        self._error: MediaReadError | None = None
        self._since_packet = 0
        self._opening, self._zeros_end = True, 0.0
        if content is not None and self._state != content.state and not content.still_in(path):
            self._file.close()
            raise MediaReadError(f"{path} was changed while it was in use; run the command again")
        self._limit = misread_from(self.peek)  # bytes from here on are never read,
        self._end = self._limit  # and from here on not now

    def close(self) -> None:
        self._file.close()

    # ---- for FFmpeg ------------------------------------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        if self._error is not None or (self._stop is not None and self._stop.is_set()):
            return b""
        if self._since_packet > _MAX_WITHOUT_PACKET:
            self._end, self._since_packet = min(self._end, self._file.tell()), 0
        left = self._end - self._file.tell()
        if left <= 0:
            return b""
        try:
            data = self._file.read(size if size <= left else int(left)) or b""
        except OSError as error:
            where = f"at byte {self._file.tell()} of {self._state.size}"
            self._error = MediaReadError(f"cannot read {self.path}: {error.strerror or error} ({where})")
            return b""
        self._since_packet += len(data)
        if self._opening and self._since_packet > _SEARCHED and self._ends_blank(self._file.tell() - len(data)):
            self._end = min(self._end, self._file.tell())
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._since_packet += _SEEK
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # an invalid position, computed from damaged data
            return -(error.errno or errno.EINVAL)

    def tell(self) -> int:
        return self._file.tell()

    # ---- for us ----------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self._state.size

    def peek(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes at an offset. FFmpeg's own position does not move."""
        here = self._file.tell()
        try:
            self._file.seek(offset)
            return self._file.read(size) or b""
        except OSError:
            return b""
        finally:
            self._file.seek(here)

    def _ends_blank(self, offset: int) -> bool:
        """Whether there are only zeros from an offset on, as far as would be read in search of packets."""
        if offset >= self._zeros_end:
            places = range(offset, min(self.size, offset + _MAX_WITHOUT_PACKET), _BLOCK)
            self._zeros_end = next((at for at in places if (block := self.peek(at, _BLOCK)) != bytes(len(block))), math.inf)
        return self._zeros_end == math.inf

    @property
    def gave_up(self) -> bool:
        """Whether so much was read without finding a packet that the rest counts as empty."""
        return self._end < self._limit

    def found_packet(self) -> None:
        """Note that a packet was found."""
        self._since_packet = 0

    def search_again(self, known: int = 0) -> None:
        """Read the rest again, too.

        Args:
            known: bytes to read besides without finding a packet.
        """
        self._since_packet, self._end, self._opening = -known, self._limit, False

    def check(self) -> None:
        """Raise the error that kept the file from being read to its end, if any.

        Raises:
            MediaReadError: a read failed, or the file was changed meanwhile.
            Stopped: another thread asked for it.
        """
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        if self._error is not None:
            raise self._error
        try:
            state = FileState.of(self._file.fileno())
        except OSError as error:
            raise MediaReadError(f"cannot read {self.path}: {error.strerror or error}") from error
        if state.size < self._state.size:
            raise MediaReadError(
                f"{self.path} was cut from {self._state.size} to {state.size} bytes while it was read; run the command again"
            )
        if self._content is not None and state != self._state and not self._content.still_in(self.path):
            raise MediaReadError(f"{self.path} was changed while it was read; run the command again")


class MediaFile:
    """An open media file: a context manager.

    Args:
        shifts: seconds to add to times, for files whose clock restarts. Such files can only be read from the start.
        retimings: of streams without presentation times.
        known: bytes of the file that are known to hold packets. Where there is no index, a seek reads them.
        content, stop: see :class:`Source`.

    Raises:
        VideoError: it cannot be opened, or is no media file.
        MediaReadError: it cannot be read, or its content is not the expected one.
        MemoryError: out of memory.
    """

    def __init__(
        self,
        path: Path,
        *,
        shifts: Shifts | None = None,
        retimings: Mapping[int, Retiming] | None = None,
        known: int = 0,
        content: Content | None = None,
        stop: Event | None = None,
    ) -> None:
        self._content, self._stop, self._known = content, stop, known
        self._shifts, self.retimings = shifts or {}, retimings or {}
        self._counts = dict.fromkeys(self._shifts, 0)
        self.source = Source(path, content, stop)
        self.errors = 0  # of the demuxer
        try:
            self.container = self._open()
            if refused := _REFUSED & set(self.container.format.name.split(",")):
                self.container.close()
                raise VideoError(f"{path} is not a media file ({min(refused)}); give the video itself")
        except BaseException:
            self.source.close()
            raise

    def _open(self) -> InputContainer:
        path = self.source.path
        if kind := _playlist(self.source.peek(0, _START)):  # FFmpeg would wait for what it names
            raise VideoError(f"{path} is a playlist ({kind}), not media; give one of the files it names")
        try:
            # No protocols: files and addresses that a file refers to are not opened.
            options = {"protocol_whitelist": "none", "analyzeduration": str(_ANALYZED)}
            container: InputContainer = av.open(self.source, "r", options=options, buffer_size=_BUFFER, **_LENIENT)
            self.source.search_again()  # what was searched for streams in vain ends none that was found
            return container
        except (av.FFmpegError, ValueError, MemoryError) as error:
            self.source.check()
            _check_memory(error, path)
            raise VideoError(f"{path} cannot be read as video: damaged, cut short, or not a media file; try it in a player") from error

    def again(self) -> MediaFile:
        """The same file, opened once more, to be read from its start."""
        return MediaFile(self.source.path, shifts=self._shifts, retimings=self.retimings, content=self._content, stop=self._stop)

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()
        self.source.close()

    def stream(self, index: int) -> Any:
        """A stream by its number: a ``VideoStream`` or an ``AudioStream``."""
        streams = self.container.streams
        if index >= len(streams):
            raise MediaReadError(f"{self.source.path} was changed while it was in use; run the command again")
        return streams[index]

    def seek(self, stamp: int, index: int) -> None:
        """Seek to a stream's timestamp.

        Raises:
            av.FFmpegError: the demuxer cannot.
        """
        self.source.search_again(self._known)
        self.container.seek(stamp, stream=self.stream(index))

    def packets(self, *indices: int) -> Iterator[Packet[Any]]:
        """Packets of the given streams from the current position on, skipping errors; then the empty packets that flush decoders.

        The packet that the end of the file cuts is left out, unless it is the only one: a decoder with threads would lose whole pictures
        that come before it, and others would show it damaged.

        Other streams are not read at all: what is missing of them ends nothing. Only subtitles are searched for among them, where there may
        be more between two of them than is read without finding a packet; MP4 has an index for that.

        Raises:
            MediaReadError: the file could not be read to its end; all packets before that were yielded.
            MemoryError: out of memory.
            Stopped: another thread asked for it.
        """
        streams = [self.stream(index) for index in indices]
        if "mp4" not in self.container.format.name and any(stream.type == "subtitle" for stream in streams):
            streams = list(self.container.streams)
        needed = {stream.index for stream in streams}
        for stream in self.container.streams:
            stream.discard = Discard.default if stream.index in needed else Discard.all
        raw = {stream.index for stream in streams if stream.codec_context is not None and stream.codec_context.name in _RAW}
        errors, begun = 0, set[int]()
        while errors < _MAX_ERRORS:
            try:
                for packet in self.container.demux(streams):
                    index = packet.stream.index  # the empty packets that flush decoders have a stream_index of 0
                    if 0 < packet.size < _PADDING or (packet.size and (index in raw or not _is_padding(packet))):
                        self.source.found_packet()
                    if index not in indices or (index in begun and self._is_cut(packet)):
                        continue
                    begun.add(index)
                    if index in self.retimings:
                        self.retimings[index].apply(packet)
                    if self._shifts and packet.size:
                        self._shift(packet)
                    errors = 0
                    yield packet
                break
            except IndexError:  # PyAV flushes all decoders at the end, but has none for streams that appeared late
                break
            except (av.FFmpegError, MemoryError) as error:
                self.source.check()
                _check_memory(error, self.source.path)
                errors += 1
                self.errors += 1
        self.source.check()

    def _is_cut(self, packet: Packet[Any]) -> bool:
        """Whether the file ends inside the packet. Of plain samples all are good that are there."""
        if not packet.is_corrupt or packet.pos is None or packet.pos + packet.size + _PREFIX < self.source.size:
            return False
        codec = packet.stream.codec_context
        return codec is None or not codec.name.startswith("pcm_")

    def _shift(self, packet: Packet[Any]) -> None:
        index = packet.stream_index
        shifts = self._shifts.get(index)
        if not shifts:
            return
        number = self._counts[index]
        self._counts[index] += 1
        seconds = Fraction(0)
        for first, shift in shifts:
            if first > number:
                break
            seconds = shift
        ticks = round(seconds / time_base(packet))
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def time_base(timed: Any) -> Fraction:
    """Seconds per tick of a stream, packet, frame or codec; PyAV 19 has rational numbers of its own, earlier ones have None for unknown."""
    base = timed.time_base
    return Fraction(base.numerator, base.denominator) if base else Fraction(1, 1_000_000)


def packet_time(packet: Packet[Any]) -> Fraction | None:
    """Presentation time in the container's own seconds; the decoding time if there is none (AVI)."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else stamp * time_base(packet)


def frame_time(frame: Any) -> Fraction:
    """Presentation time of a video or audio frame in the container's own seconds; only for frames that have a ``pts``."""
    stamp: int = frame.pts
    return stamp * time_base(frame)


def _is_padding(packet: Packet[Any]) -> bool:
    """Whether the packet is zeros, as parsers make of the zeros at the end of a file."""
    return memoryview(packet)[-4096:].tobytes() == bytes(4096)


def _check_memory(error: BaseException, path: Path) -> None:
    """Raise a MemoryError if FFmpeg failed for lack of memory. It says the same of impossible sizes in damaged files."""
    if (isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM) and is_memory_short():
        raise MemoryError(f"not enough memory to read {path}") from error


def _playlist(start: bytes) -> str | None:
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for mark, kind in _PLAYLISTS if re.match(mark, start, re.DOTALL)), None)

"""A video file: its properties, and its frames, audio and clips by time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path, PurePath
from threading import Event

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import UsageError, VideoError
from sage_cli.hardware.waiting import iterate_in_background
from sage_cli.output import check_targets, open_binary
from sage_cli.text import media_label, media_name
from sage_cli.timecode import format_span
from sage_cli.video.cached import DamageCache, FrameTimeCache
from sage_cli.video.captions import Cue, TextTrack, text_cues, text_tracks
from sage_cli.video.clip import CONTAINERS, cut
from sage_cli.video.media import MediaNotice, VideoTrack
from sage_cli.video.prefetch import FrameReader, read_frames
from sage_cli.video.probe import probe
from sage_cli.video.sampling import Sampling
from sage_cli.video.sound import blocks, sound

SAMPLE_RATE = 16_000  # what speech models listen at


class NoAudioError(VideoError):
    """Audio was requested of a file without any."""


class SilentError(VideoError):
    """A file without a picture in which, or in the part of it that is asked about, nobody speaks. Ends the run: there is nothing else."""

    def __init__(self, video: Video) -> None:
        name = media_name(video.name)
        super().__init__(f"{name}: there is no picture, and nothing is said; ask about another part, or give a video")


def no_speech(video: Video, start: float, end: float) -> str:
    """What a part of it lacks in which nobody speaks: its sound, or speech, there or everywhere."""
    if not video.has_audio:
        return "no sound"
    return "no speech" if start <= 0 and end >= video.duration else f"no speech at {format_span(start, end)}"


class Video:
    """A video file (or an audio file: then there are no frames).

    Opening it reads the whole file and decodes the first frame, so these properties are correct even if the header is wrong. No file
    stays open between calls: there is nothing to close, and threads may share one.

    All times are seconds on one clock, whose zero is the earlier of the first frame and the first sound; see :mod:`sage_cli.video.probe`.

    Attributes:
        path: the file.
        name: what the user calls it: the path as given, a link, or ``-`` for stdin.
        id: fingerprint of its content: the same under another name, different after an edit.
        sound_id: the same of what is heard, if there are several audio streams.
        sound_language: of what is heard, as the file has it, such as ``"eng"``; ``""`` if it names none.
        duration: seconds until the last frame or sound is over, whichever ends later.
        width, height: display size in pixels: upright, pixels square. 0 without video.
        rotation: degrees clockwise (0, 90, 180, 270) by which stored frames are turned for display.
        fps: average frames per second; None if unknown.
        timecode: of the first frame, as the file gives it (``"10:00:00:00"``; a semicolon for drop-frame time); ``""`` if it gives none.
        video_codec, audio_codec: FFmpeg's names, such as ``"h264"`` and ``"aac"``; None when there is no such stream.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        cache: FrameTimeCache | None = None,
        damage: DamageCache | None = None,
        remember: bool = True,
        spoken: Callable[[str], bool] | None = None,
    ) -> None:
        """Open a file.

        Args:
            name: what the user calls it; by default its path.
            cache: of frame times, so that frames read by an earlier run need not be decoded again.
            damage: met by earlier runs, which is then told by this one, too.
            remember: its fingerprint on disk, so that an unchanged file is not hashed again.
            spoken: tells of an audio stream's language, as the file has it, whether it is the one to hear.

        Raises:
            VideoError: the file does not exist, or contains nothing that can be decoded.
        """
        self.path = Path(path)
        self.name = name or str(path)
        self._media = replace(probe(self.path, remember=remember, spoken=spoken), name=media_name(self.name))
        self._cache = cache
        if damage is not None:
            for part in damage.parts(self._media.content.fingerprint):
                self._media.damaged(part)
            self._media = replace(self._media, keep_damage=partial(damage.keep, self._media.content.fingerprint))
        video, audio = self._media.video, self._media.audio
        self.id = self._media.content.fingerprint
        self.sound_id = self.id if audio is None or audio.best else f"{self.id}-{audio.index}"
        self.sound_language = audio.language if audio else ""
        self.duration = self._media.duration
        self.has_video, self.has_audio = video is not None, audio is not None
        self.width, self.height = (video.width, video.height) if video else (0, 0)
        self.rotation = video.orientation.rotation if video else 0
        self.fps = video.fps if video else None
        self.timecode = video.timecode if video else ""
        self.video_codec = video.codec if video else None
        self.audio_codec = audio.codec if audio else None

    @property
    def changed(self) -> bool:
        """Whether the file was edited, replaced or removed since it was opened."""
        return not self._media.content.still_in(self.path)

    @property
    def notices(self) -> tuple[MediaNotice, ...]:
        """Parts of the file that cannot be decoded, or only with errors. Damage that is met while frames and audio are read is added."""
        return tuple(self._media.notices)

    @property
    def damage(self) -> str:
        """The notices as one line for people; ``""`` if there are none."""
        return "; ".join(notice.text for notice in self.notices)

    @property
    def label(self) -> str:
        """Its name without folders: ``talk.mp4``, or ``stdin``."""
        return media_label(self.name)

    @property
    def stem(self) -> str:
        """The same without suffix, to name files made from it."""
        return PurePath(self.label).stem

    @property
    def copied(self) -> bool:
        """Whether the file is a copy made by sage, of a pipe or a link."""
        return Path(self.name) != self.path

    def __repr__(self) -> str:
        return f"Video({str(self.path)!r}, {self.duration:.3f} s, {self.width}x{self.height})"

    def size_within(self, width: float = math.inf, height: float = math.inf) -> tuple[int, int]:
        """The size of its frames, made smaller where it exceeds these; never enlarged."""
        scale = min(1.0, width / max(self.width, 1), height / max(self.height, 1))
        return max(2, round(self.width * scale)), max(2, round(self.height * scale))

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        sampling: Sampling = "exact",
    ) -> FrameReader:
        """The frame on screen at each of the times: the last one that begins at or before it (to half a millisecond).

        Before the first frame it is the first one, past the end the last one. Decoding starts when the first frame is taken, on all cores,
        and stays a little ahead. Ascending times are fastest; any order and repetitions are allowed. Damaged packets are skipped, with
        a warning in the log.

        Args:
            times: seconds.
            size: ``(width, height)`` to resize to; None for the display size.
            sampling: ``"keyframe"`` takes the keyframe nearest to each time instead, which is quicker, since nothing else is decoded; none
                comes twice, so there may be fewer frames than times. ``"auto"`` does so where it hardly moves the samples; see
                :func:`sage_cli.video.sampling.keyframes_near`.

        Returns:
            An iterator of :class:`Frame`, each with the time at which it was really presented.

        Raises:
            VideoError: the file has no video (here), or nothing of it can be decoded (while iterating).
        """
        track = self._video_track()
        size = size or (self.width, self.height)

        def read(times: Sequence[float], sampling: Sampling) -> FrameReader:
            return read_frames(self._media, track, times, size, sampling)

        return self._cache.frames(self.id, times, size, sampling, read) if self._cache else read(times, sampling)

    def audio(self, start: float = 0.0, end: float | None = None) -> NDArray[np.float32]:
        """The sound of ``[start, end)``, to the sample: 16 kHz mono, shape ``(samples,)``, between -1 and 1.

        Where the file has no audio (before a late start, in gaps, past the end), it is silence.

        Args:
            end: None for the end of the video.

        Raises:
            NoAudioError: the file has no audio; check ``has_audio`` first.
            VideoError: the audio cannot be decoded.
        """
        return np.concatenate([np.zeros(0, np.float32), *self.audio_blocks(start, end, 60.0)])

    def audio_blocks(self, start: float = 0.0, end: float | None = None, seconds: float = 30.0) -> Iterator[NDArray[np.float32]]:
        """The same as :meth:`audio` in blocks of ``seconds``, the last one shorter: memory does not grow with the video."""
        track = self._media.audio
        if track is None:
            self.check_audio()
            raise NoAudioError(f"{self._media.name} has no sound; give a file with an audio track")
        media, last = self._media, self.duration if end is None else end

        def read(stop: Event) -> Iterator[NDArray[np.float32]]:
            pieces = sound(media, track, max(0.0, start), last, rate=SAMPLE_RATE, layout="mono", stop=stop)
            return blocks((piece[0] for piece in pieces), max(1, round(seconds * SAMPLE_RATE)))

        return iterate_in_background(read, ahead=1)

    def check_audio(self) -> None:
        """Check that the audio can be decoded; a file without audio is fine.

        Raises:
            VideoError: it cannot.
        """
        if lost := self._media.lost("audio"):
            raise VideoError(f"{self._media.name}: {lost.text}; {lost.remedy('AAC')}")

    def clip(
        self, start: float, end: float, target: str | os.PathLike[str], *, progress: Callable[[float, float], None] | None = None
    ) -> Path:
        """Cut ``[start, end)`` to a new file, frame-accurate, and return its path. Ctrl-C interrupts this at once.

        Re-encodes: H.264 (MPEG-4 where FFmpeg was built without x264) and AAC; upright, with square pixels, at most as many as 1920x1080.
        It starts with the frame on screen at ``start``. The file appears complete or not at all, and never replaces this video.

        Args:
            target: the file to write; its suffix chooses the container (``.mp4``).
            progress: called with ``(done, total)`` in seconds. What it raises ends the cut.

        Raises:
            VideoError: the window is empty or outside the video, or the file cannot be read or cut.
            UsageError: no container for clips has this suffix, or the target is this video.
            OSError: the target cannot be written; ``filename`` names it.
        """
        target = Path(target)
        start, end = max(0.0, start), min(end, self.duration)
        if end <= start:
            raise VideoError(f"cannot cut an empty clip ({start:.3f}-{end:.3f} s of {self.duration:.3f} s); give a start before the end")
        container = CONTAINERS.get(target.suffix.lower())
        if container is None:
            raise UsageError(f"cannot write the clip {target}: give it a suffix that is one of {', '.join(CONTAINERS)}")
        check_targets([target], [self.path], text=False)
        buffer = BytesIO()
        with closing(iterate_in_background(lambda stop: cut(self._media, start, end, container, buffer, stop), ahead=1)) as steps:
            for done in steps:
                if progress is not None:
                    progress(min(done, end - start), end - start)
        with open_binary(target, [self.path]) as file:
            file.write(buffer.getbuffer())
        return target

    def text_tracks(self) -> list[TextTrack]:
        """Its subtitle tracks that hold text; see :func:`sage_cli.video.captions.text_tracks`."""
        return text_tracks(self._media)

    def text_cues(self, index: int) -> Iterator[Cue]:
        """The cues of one of them; see :func:`sage_cli.video.captions.text_cues`."""
        return text_cues(self._media, index)

    def require_picture(self) -> None:
        """Call before work that looks at the video.

        Raises:
            VideoError: there is only sound, or the picture cannot be decoded.
        """
        self._video_track()

    def check_picture(self) -> None:
        """Check that the picture can be decoded; a file without one is fine.

        Raises:
            VideoError: it cannot.
        """
        if lost := self._media.lost("video"):
            raise VideoError(f"{self._media.name}: {lost.text}; {lost.remedy('H.264')}")

    def _video_track(self) -> VideoTrack:
        if self._media.video is None:
            self.check_picture()
            raise VideoError(f"{self._media.name} has sound but no picture, and this needs one: give a video file")
        return self._media.video

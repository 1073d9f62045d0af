"""What is known of a media file once it was read; see :mod:`sage_cli.video.probe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sage_cli.store.content import Content
from sage_cli.video.places import Places
from sage_cli.video.source import MediaFile, Retiming, Shifts
from sage_cli.video.timeline import Keyframe

Part = Literal["video", "audio", "file"]


@dataclass(frozen=True, slots=True)
class MediaNotice:
    """A part of a file that cannot be decoded, or only with errors.

    Attributes:
        part: the stream it is about, or ``"file"``.
        kind: ``"no decoder"``, ``"encrypted"``, ``"undecodable"``, ``"missing"`` (the stream is left out); ``"damaged"`` (some of it is);
            ``"cut short"``, ``"unreadable"`` (some of the file); ``"joined"`` (timestamps restarted and were made continuous).
        text: for people, without the file's name: ``"the sound cannot be decoded (aac, encrypted)"``.
    """

    part: Part
    kind: Literal["no decoder", "encrypted", "undecodable", "missing", "damaged", "cut short", "unreadable", "joined"]
    text: str

    def remedy(self, codec: str) -> str:
        """What to do where the stream is needed.

        Args:
            codec: to convert it to, if that may help.
        """
        remedies = {"encrypted": "use a copy without protection", "missing": "download, record or export it again"}
        return remedies.get(self.kind, f"convert it to {codec}")


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned before display: cropped first, then transposed, then flipped.

    Attributes:
        crop: pixels cut off on the left, at the top, on the right and at the bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def rotation(self) -> Literal[0, 90, 180, 270]:
        """Degrees clockwise; a mirrored picture counts as its rotation alone."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The video stream; sizes are for display: upright, square pixels.

    Attributes:
        timecode: of the first frame, as the file gives it: ``"10:00:00;00"``; ``""`` if it gives none.
        retiming: if its packets have no presentation times of their own.
    """

    index: int
    codec: str
    width: int
    height: int
    orientation: Orientation
    fps: float | None
    timecode: str = ""
    retiming: Retiming | None = None

    @property
    def rate(self) -> Fraction:
        """Frames per second, a usual number if it is unknown."""
        return Fraction(self.fps or 25)

    @property
    def retimings(self) -> dict[int, Retiming]:
        """For :class:`~sage_cli.video.source.MediaFile`."""
        return {} if self.retiming is None else {self.index: self.retiming}


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """The audio stream.

    Attributes:
        language: as the file has it; ``""`` if it names none.
        best: of several streams the one that players choose, and not one in a language that was asked for.
        frame: seconds in each packet, if times are to be counted by it: those of the file are wrong. 0 if they are right.
    """

    index: int
    codec: str
    rate: int
    channels: int
    language: str = ""
    best: bool = True
    frame: Fraction = Fraction(0)


@dataclass(frozen=True)
class Media:
    """A probed file.

    Attributes:
        name: in messages.
        content: of the file; reading fails if it has changed.
        origin: the container's time at which the clock reads zero, in seconds.
        duration: the last moment on the clock, in seconds.
        keyframes: of the video, in container seconds; at least one where there is a video.
        shifts: see :class:`~sage_cli.video.source.MediaFile`.
        places: by stream, where its packets are.
        notices: grows while damage is met.
        mixes: by the index of a stream of sound that was listened to and a number of channels, their weights in mono.
        keep_damage: called when damage of a stream is met for the first time.
    """

    path: Path
    name: str
    content: Content
    origin: Fraction
    duration: float
    video: VideoTrack | None
    audio: AudioTrack | None
    keyframes: Sequence[Keyframe]
    shifts: Shifts
    places: Mapping[int, Places] = field(default_factory=dict)
    notices: list[MediaNotice] = field(default_factory=list)
    mixes: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)
    keep_damage: Callable[[Part], object] = field(default=lambda _part: None)

    def open(self, stop: Event | None = None) -> MediaFile:
        """Open the file on its timeline; see :class:`~sage_cli.video.source.MediaFile`."""
        retimings = self.video.retimings if self.video is not None else {}
        known = max((places.last for places in self.places.values()), default=0)
        return MediaFile(self.path, shifts=self.shifts, retimings=retimings, known=known, content=self.content, stop=stop)

    def damaged(self, part: Part) -> None:
        """Note that packets of a stream could not be decoded."""
        notice = MediaNotice(part, "damaged", _DAMAGED[part])
        if notice not in self.notices:
            self.notices.append(notice)
            self.keep_damage(part)

    def lost(self, part: Part) -> MediaNotice | None:
        """Why the video or audio of the file cannot be used, if so."""
        return next((notice for notice in self.notices if notice.part == part and notice.kind in LOST), None)


LOST: Final = ("no decoder", "encrypted", "undecodable", "missing")
_DAMAGED: Final[dict[Part, str]] = {
    "video": "some of the picture is damaged: frames there are missing or wrong",
    "audio": "some of the sound is damaged: what could not be decoded is silent",
}

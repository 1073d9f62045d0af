"""Transcripts that exist already: subtitle files beside a video, and text tracks in it.

Files are read by pysubs2, tracks by FFmpeg's decoders. Bitmap subtitles (DVD, Blu-ray) hold no text and do not count.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from sage_cli.errors import VideoError
from sage_cli.speech.segment import Segment

if TYPE_CHECKING:
    from sage_cli.video import Video

logger = logging.getLogger(__name__)

# What pysubs2 calls the formats; the suffix tells more surely than the text.
_FORMATS: Final = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa", ".ttml": "ttml"}
SUFFIXES: Final = tuple(_FORMATS)

_LARGEST: Final = 32 << 20  # bytes of a subtitle file; a day of speech has one
_ROLLING_S: Final = 0.25  # cues this close follow each other without a pause
# Words in a file's name that are no language: talk.en.forced.srt
_KINDS: Final = frozenset({"forced", "sdh", "cc", "hi", "default", "full", "auto", "orig"})
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,4})?", re.IGNORECASE)
_SOUND: Final = re.compile(r"^[\[(♪][^\])]*[\])♪]?$")
_SPEAKER: Final = re.compile(r"^\s*(?:>>+|-)\s*")
# ISO 639-2 codes of tracks, where they differ from their first two letters.
_SHORT: Final = {
    "ger": "de",
    "deu": "de",
    "spa": "es",
    "por": "pt",
    "jpn": "ja",
    "chi": "zh",
    "zho": "zh",
    "swe": "sv",
    "dut": "nl",
    "nld": "nl",
    "cze": "cs",
    "ces": "cs",
    "gre": "el",
    "ell": "el",
    "pol": "pl",
    "tur": "tr",
    "ukr": "uk",
    "slo": "sk",
    "slk": "sk",
    "slv": "sl",
    "ice": "is",
    "isl": "is",
    "est": "et",
    "gle": "ga",
    "kat": "ka",
    "mal": "ml",
    "may": "ms",
    "msa": "ms",
    "dan": "da",
    "wel": "cy",
}

_Cue: TypeAlias = tuple[float, float, list[str]]


@dataclass(frozen=True)
class Subtitles:
    """One source of subtitles, read when they are first needed.

    Attributes:
        source: for people: the file's name, or the track's number and language.
        language: ISO 639-1 code; ``""`` if nothing says.
        forced: only what is foreign in the film's own language: no transcript.
        read: gives the cues: start and end in seconds, and the lines.
    """

    source: str
    language: str
    forced: bool
    read: Callable[[], Iterator[_Cue]]

    @cached_property
    def cues(self) -> tuple[Segment, ...]:
        """All cues in time order, without sounds in brackets; times exact to the cue.

        Raises:
            VideoError: the file or track cannot be read.
        """
        return tuple(
            Segment(start, end, " ".join(lines), 1.0, language=self.language)
            for start, end, lines in _unrolled(sorted(self.read(), key=lambda cue: cue[:2]))
        )

    def segments(self, start: float, end: float) -> Iterator[Segment]:
        """The cues that are on screen at some time between two times, in seconds."""
        return (cue for cue in self.cues if cue.end > start and cue.start < end)


def find_subtitles(video: Video, language: str = "") -> Subtitles | None:
    """The best subtitles of a video: a file beside it, else a text track, in the language asked for.

    Args:
        language: ISO 639-1 code; ``""`` or ``"auto"`` takes the first that is not forced.
    """
    found = [one for one in (*beside(video.path), *tracks(video)) if not one.forced]
    if language and language != "auto":
        found = [one for one in found if one.language in (language, "")]
    for one in found:
        try:
            if one.cues:
                return one
        except VideoError as error:
            logger.warning("%s", error)
    return None


def beside(path: Path) -> list[Subtitles]:
    """Subtitle files that belong to a video by their names: ``talk.srt``, ``talk.en.vtt``; the plainest name first."""
    try:
        names = [file for file in path.parent.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    except OSError:
        return []
    found = []
    for file in names:
        rest = file.name[len(path.stem) : -len(file.suffix)].lower() if file.name.startswith(path.stem) else None
        words = rest.strip(".").split(".") if rest else []
        if rest is None or (rest and not rest.startswith(".")) or not all(word in _KINDS or _LANGUAGE.fullmatch(word) for word in words):
            continue
        language = next((short(word) for word in words if word not in _KINDS), "")
        found.append(
            (
                len(words),
                SUFFIXES.index(file.suffix.lower()),
                file.name,
                Subtitles(file.name, language, "forced" in words, partial(_file_cues, file)),
            )
        )
    return [one for *_, one in sorted(found, key=lambda item: item[:3])]


def tracks(video: Video) -> list[Subtitles]:
    """Text tracks in the video, the default one first.

    Raises:
        VideoError: the video cannot be opened any more.
    """
    found = []
    for track in sorted(video.text_tracks(), key=lambda track: not track.default):
        language = short(track.language)
        source = f"subtitle track {track.index}{f' ({language})' if language else ''}"
        found.append(Subtitles(source, language, track.forced, partial(_track_cues, video, track.index)))
    return found


def short(language: str) -> str:
    """The two-letter code of a language: ``"en"`` of ``"eng"`` or ``"en-US"``; ``""`` of ``"und"``."""
    code = re.split(r"[-_]", language.lower())[0]
    return "" if code in ("", "und", "mul", "zxx") else _SHORT.get(code, code[:2])


# ---- reading -------------------------------------------------------------------------------------------------------


def _file_cues(path: Path) -> Iterator[_Cue]:
    import pysubs2
    from charset_normalizer import from_bytes

    unreadable = f"{path} holds no subtitles that can be read; use --no-subtitles to pass over it"
    try:
        if path.stat().st_size > _LARGEST:
            raise VideoError(f"{path} is too large for subtitles")
        data = path.read_bytes()
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        best = from_bytes(data).best()
        text = str(best) if best else data.decode("utf-8", "replace")
    try:
        events = pysubs2.SSAFile.from_string(text, format_=_FORMATS[path.suffix.lower()])
    except (pysubs2.Pysubs2Error, ValueError, KeyError, IndexError) as error:
        raise VideoError(unreadable) from error
    if not events:
        raise VideoError(unreadable)
    for event in events:
        if not event.is_comment and not event.is_drawing:
            yield event.start / 1000, event.end / 1000, _lines(event.plaintext)


def _track_cues(video: Video, index: int) -> Iterator[_Cue]:
    from pysubs2 import SSAEvent

    for start, end, text in video.text_cues(index):
        yield start, end, _lines(SSAEvent(text=text).plaintext)


def _lines(text: str) -> list[str]:
    """The spoken lines of a cue: markup and sounds in brackets left out."""
    lines = (_SPEAKER.sub("", re.sub(r"<[^>]*>", "", line)).strip() for line in text.replace("\\N", "\n").splitlines())
    return [line for line in lines if line and not _SOUND.match(line)]


def _unrolled(cues: Sequence[_Cue]) -> Iterator[_Cue]:
    """Cues without what rolling captions repeat: there each cue begins with the last lines of the one before."""
    before: list[str] = []
    ended = 0.0
    for start, end, lines in cues:
        fresh = lines
        if start - ended < _ROLLING_S:
            overlap = next((n for n in range(min(len(before), len(lines)), 0, -1) if before[-n:] == lines[:n]), 0)
            fresh = lines[overlap:]
        before, ended = lines or before, max(ended, end)
        if fresh and end > start >= 0:
            yield start, end, fresh

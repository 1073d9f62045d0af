"""Transcripts that exist already: subtitle files beside a video, and text tracks in it.

Bitmap subtitles (DVD, Blu-ray) hold no text and do not count.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sage_cli.errors import VideoError, reading
from sage_cli.output import folded
from sage_cli.speech.codes import short
from sage_cli.speech.lines import joined
from sage_cli.speech.segment import Progress, Segment
from sage_cli.store.content import FileState, fingerprint
from sage_cli.text import OTHER_SUBTITLES, SUBTITLES, Note, decode_prose, without_controls
from sage_cli.timecode import format_clock

if TYPE_CHECKING:
    from sage_cli.video import Video
    from sage_cli.video.captions import Cue, Line

logger = logging.getLogger(__name__)

# What FFmpeg calls the formats that it reads.
_FORMATS: Final = {".srt": "srt", ".vtt": "webvtt", ".ass": "ass", ".ssa": "ass"}

_LARGEST: Final = 32 << 20  # bytes of a subtitle file; a day of speech has one
_CLOSE_S: Final = 0.25  # cues this close follow each other without a pause
_BLINK_S: Final = 0.1  # shorter than anything that is said
# Words in a file's name that are no language: talk.en.forced.srt
_KINDS: Final = frozenset({"forced", "sdh", "cc", "hi", "default", "full", "auto", "orig"})
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,4})?", re.IGNORECASE)
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\uff08([^\uff08\uff09]*)\uff09|\u3010([^\u3010\u3011]*)\u3011")
_FIGURE: Final = re.compile(r"\d")
_WORDLESS: Final = re.compile(r"[\W_]*")
_TURN: Final = re.compile(r"^(?:>>+|[-\u2010-\u2015]+(?![.,]?\d|[$€£¥₹]))\s*")  # a dash before a figure is a minus
_ROLLED: Final = 50  # lines at most that a rolling caption repeats
_LATE_S: Final = 1.0  # after the end of a video, where its subtitles have no business


@dataclass(frozen=True)
class Subtitles:
    """One source of subtitles, read when they are first needed.

    Attributes:
        source: for people: the file's name, or the track's number and language.
        language: ISO 639-1 code; ``""`` if nothing says.
        forced: only what is foreign in the film's own language: no transcript.
        read: gives the cues as they are; what has read them once keeps them.
        file: they are in; ``None`` for a track of the video.
        sounds: whether cues that only name sounds, such as ``[Music]``, are cues: viewers need them, and a transcript does not.
        choice: a note that there are subtitles in other languages, if no language was asked for; ``None`` if there are none.
    """

    source: str
    language: str
    forced: bool
    read: Callable[[], Sequence[Cue]]
    file: Path | None = None
    sounds: bool = False
    choice: Note | None = None

    @cached_property
    def cues(self) -> tuple[Segment, ...]:
        """All cues in time order; times exact to the cue.

        Raises:
            VideoError: the file or track cannot be read.
        """
        found = sorted(((start, end, _legible(lines)) for start, end, lines in self.read()), key=lambda cue: cue[:2])
        shown = [cue for cue in _unrolled(found) if self.sounds or _is_spoken(cue[2])]
        said = [(start, end, *_dialogue(lines)) for start, end, lines in _in_turn(shown)]
        return tuple(Segment(start, end, text, 1.0, language=self.language, speaker=speaker) for start, end, text, speaker in said)

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        """The cues that are on screen at some time between two times, in seconds; all at once."""
        yield Progress(tuple(cue for cue in self.cues if cue.end > start and cue.start < end), end)


def find_subtitles(video: Video, language: str = "", tell: Callable[[str], None] = logger.warning) -> Subtitles | None:
    """The best subtitles of a video: a file beside it, else a text track, in the language asked for.

    Args:
        language: ISO 639-1 code; ``""`` or ``"auto"`` takes the first that is not forced.
        tell: called with the reason if one cannot be read (the next one is taken), or if its times are another video's; and with the choice
            that there was, if no language was asked for.
    """
    wanted = "" if language == "auto" else short(language)
    found = [one for one in (*beside(video.path, wanted, video.duration), *tracks(video)) if not one.forced]
    if wanted:
        found = sorted((one for one in found if one.language in (wanted, "")), key=lambda one: not one.language)  # named ones first
    for number, one in enumerate(found):
        try:
            if not one.cues:
                continue
        except VideoError as error:
            tell(str(error))
            continue
        if late := sum(cue.start > video.duration + _LATE_S for cue in one.cues):
            end, left_out = format_clock(video.duration), f"{late} of {len(one.cues)} subtitles are left out"
            tell(f"{one.source} goes on after the end of the video, at {end}: it may belong to another version of it ({left_out})")
        return one if wanted else replace(one, choice=_choice(one, found[number + 1 :]))
    return None


def _is_readable(subtitles: Subtitles) -> bool:
    with suppress(VideoError):
        return bool(subtitles.cues)
    return False


def _choice(used: Subtitles, others: Iterable[Subtitles]) -> Note | None:
    """What to say of subtitles in other languages than the ones used; ``None`` if there are none. Tracks are not read for it, as the
    video is then."""
    foreign = [one for one in others if one.language not in ("", used.language) and (one.file is None or _is_readable(one))]
    by_language = {one.language: one.source for one in reversed(foreign)}
    if len(by_language) == 1:
        ((language, source),) = by_language.items()
        return Note(f"{used.source} is used, not {source}", f"to change that, set SAGE_LANGUAGE={language}")
    if not by_language:
        return None
    return Note(f"{used.source} is used; there are others in {', '.join(sorted(by_language))}", "to choose one, set SAGE_LANGUAGE")


def lacking(video: Video, language: str = "") -> str:
    """What completes "has no subtitles" for people: the languages that there are instead of the one asked for, only forced ones, or
    only files of other formats.

    Args:
        language: ISO 639-1 code; ``""`` or ``"auto"`` for any.
    """
    there = [*beside(video.path, duration=video.duration), *tracks(video)]
    others = dict.fromkeys(one.language for one in there if not one.forced and one.language)
    if language not in ("", "auto") and others and short(language) not in others:
        return f" in {language}; it has {', '.join(sorted(others))}"
    if there and all(one.forced for one in there):
        return " but forced ones"
    if unread := sorted(file.name for file, added, _ in _named_alike(video.path, OTHER_SUBTITLES) if not added or added.startswith(".")):
        return f" that can be read ({', '.join(unread)}; sage reads {', '.join(SUBTITLES)})"
    return ", beside it or in it"


def files_beside(path: Path) -> dict[Path, FileState]:
    """Subtitle files whose names begin as a video's does. While their states are the same, so are its subtitles."""
    return {file: state for file, _, state in _named_alike(path)}


def contents_beside(path: Path, *, remember: bool = True) -> list[tuple[str, str]]:
    """The files of :func:`files_beside` by content: what each name adds to the video's, and a fingerprint, ``""`` of one that cannot be
    read. Renamed with the video, they are the same.

    Args:
        remember: see :func:`sage_cli.store.content.fingerprint`.
    """
    found = []
    for file, added, _ in _named_alike(path):
        content = ""
        with suppress(OSError):
            content = fingerprint(file, remember=remember)
        found.append((f"{added}{file.suffix}", content))
    return sorted(found)


def _named_alike(path: Path, suffixes: Sequence[str] = SUBTITLES) -> list[tuple[Path, str, FileState]]:
    """The files of :func:`files_beside`, or others, each with what its name adds to the video's, less the suffix."""
    try:
        entries = [*path.parent.iterdir()]
        stem = _composed(_entry(path, entries).stem)
        found = [(file, _added(file, stem, entries)) for file in entries if file.suffix.lower() in suffixes]
        return [(file, added, FileState.of(file)) for file, added in found if added is not None and file.is_file()]
    except OSError:
        return []


def _added(file: Path, stem: str, entries: Sequence[Path]) -> str | None:
    """What a file's name adds to a video's, less the suffix; ``None`` if it begins with another name."""
    name = _composed(file.name)
    begin, added = name[: len(stem)], name[len(stem) :]
    if begin != stem and not (folded(begin) == folded(stem) and _entry(file.with_name(stem + added), entries) == file):
        return None
    return added[: -len(file.suffix)]


def _entry(path: Path, entries: Sequence[Path]) -> Path:
    """The path as its folder lists it: file systems of macOS and Windows find a file in other letter case, too."""
    if any(entry.name == path.name for entry in entries) or not path.exists():
        return path
    return next((entry for entry in entries if folded(entry.name) == folded(path.name)), path)


def _composed(name: str) -> str:
    """One form of letters with accents, which a file and its subtitles may spell in two."""
    return unicodedata.normalize("NFC", name)


def beside(path: Path, expected: str = "", duration: float = math.inf) -> list[Subtitles]:
    """Subtitle files that belong to a video by their names: ``talk.srt``, ``talk.en.vtt``; the plainest name first.

    Args:
        expected: ISO 639-1 code of the language of files whose names say none; it helps to tell their encoding.
        duration: of the video in seconds, at which a cue without an end has ended.
    """
    found = []
    for file, added, _ in _named_alike(path):
        rest = added.lower()
        words = rest.strip(".").split(".") if rest else []
        if (rest and not rest.startswith(".")) or not all(word in _KINDS or _LANGUAGE.fullmatch(word) for word in words):
            continue
        language = next((short(word) for word in words if word not in _KINDS), "")
        found.append(
            (
                len(words),
                SUBTITLES.index(file.suffix.lower()),
                file.name,
                Subtitles(file.name, language, "forced" in words, cache(partial(_file_cues, file, language or expected, duration)), file),
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
        found.append(Subtitles(source, language, track.forced, cache(partial(_track_cues, video, track.index))))
    return found


# ---- reading -------------------------------------------------------------------------------------------------------


def _track_cues(video: Video, index: int) -> Sequence[Cue]:
    return tuple(video.text_cues(index))


def _file_cues(path: Path, language: str, duration: float) -> Sequence[Cue]:
    from sage_cli.video.captions import plain_lines, written_cues
    from sage_cli.video.ttml import ttml_cues

    with reading(path.name, VideoError):
        if path.stat().st_size > _LARGEST:
            raise VideoError(f"{path.name} is too large for subtitles")
        data = path.read_bytes()
    text = decode_prose(data, language)
    format = _FORMATS.get(path.suffix.lower())
    try:
        if format:
            cues = tuple(written_cues(text, format, duration))
        else:
            cues = tuple((start, end, plain_lines(said)) for start, end, said in ttml_cues(text))
    except ValueError as error:
        raise VideoError(f"{path.name} cannot be read as subtitles: {error}") from error
    if not cues:
        raise VideoError(f"{path.name} holds no subtitles that can be read")
    return cues


def _legible(lines: Iterable[Line]) -> list[Line]:
    """The lines of a cue that hold text, without control characters: a transcript is printed, and written to files."""
    clean = (line._replace(text=_clean(line.text), speaker=_clean(line.speaker)) for line in lines)
    return [line for line in clean if _TURN.sub("", line.text)]


def _clean(text: str) -> str:
    return without_controls(" ".join(text.split()))


def _dialogue(lines: Iterable[Line]) -> tuple[str, str]:
    """The text of a cue, and its speaker if it is one with a name. The turns of several are lines of their own, with marks."""
    turns: list[tuple[str, list[str]]] = []
    for text, speaker in lines:
        if turns and speaker == turns[-1][0] and not _TURN.match(text):
            turns[-1][1].append(text)
        else:
            turns.append((speaker, [text]))
    if len(turns) == 1:
        ((speaker, said),) = turns
        return _named(speaker, joined(said)), speaker
    if any(speaker for speaker, _ in turns):
        return "\n".join(f"- {_named(speaker, joined(said))}" for speaker, said in turns), ""
    return "\n".join(joined(said) for _, said in turns), ""


def _named(speaker: str, text: str) -> str:
    """What somebody says, after the name, which the text may have itself, instead of the mark of a turn."""
    text = _TURN.sub("", text)
    return text if not speaker or text.startswith(f"{speaker}:") else f"{speaker}: {text}"


def _is_spoken(lines: Sequence[Line]) -> bool:
    """Whether a cue has words besides the names of sounds in brackets, which may go over several lines."""

    def sentence(found: re.Match[str]) -> str:
        inner = found[found.lastindex or 0].strip()
        return inner if _is_said(inner) else ""

    return _WORDLESS.fullmatch(_BRACKETED.sub(sentence, " ".join(line.text for line in lines))) is None


def _is_said(text: str) -> bool:
    """Whether this is said, though it is in brackets: a sentence of three words or more, a question, an exclamation, a figure."""
    sentence = text.endswith((".", "\u2026")) and len(text.split()) >= 3
    return sentence or text.endswith(("?", "!", "\uff1f", "\uff01", "\u3002")) or _FIGURE.search(text) is not None


def _unrolled(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Cues without what rolling captions repeat: there each cue begins with the last lines of the one before."""
    repeats = list(_repeats(cues))
    rolling = _are_rolling(cues, repeats)
    for (start, end, lines), (count, close) in zip(cues, repeats, strict=True):
        whole = count == len(lines)
        # After a pause a line is said again, unless it only stays while the next one comes.
        repeated = (close or not whole) if rolling else (close and whole and end - start < _BLINK_S)
        fresh = lines[count if repeated else 0 :]
        if end > max(0.0, start) and fresh:
            yield max(0.0, start), end, fresh


def _repeats(cues: Sequence[Cue]) -> Iterator[tuple[int, bool]]:
    """The number of lines at the beginning of each cue that are the last ones of the cue before, and whether it follows without a pause."""
    before: list[Line] = []
    ended = 0.0
    for start, end, lines in cues:
        most = min(len(before), len(lines), _ROLLED)
        yield next((count for count in range(most, 0, -1) if before[-count:] == lines[:count]), 0), start - ended < _CLOSE_S
        before, ended = lines or before, max(ended, end)


def _are_rolling(cues: Sequence[Cue], repeats: Sequence[tuple[int, bool]]) -> bool:
    """Whether most cues that follow closely repeat a line and some add one. In other captions a repeated line was said twice."""
    grown = sum(close and 0 < count < len(lines) for (*_, lines), (count, close) in zip(cues, repeats, strict=True))
    return grown >= 2 and 2 * sum(close and count > 0 for count, close in repeats) > sum(close for _, close in repeats[1:])


def _in_turn(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Cues that do not overlap: those that begin together become one, and each ends where the next one begins."""
    groups = [list(together) for _, together in groupby(cues, key=lambda cue: cue[0])]
    for group, after in zip_longest(groups, groups[1:]):
        end = max(end for _, end, _ in group)
        yield group[0][0], min(end, after[0][0]) if after else end, list(dict.fromkeys(line for *_, lines in group for line in lines))

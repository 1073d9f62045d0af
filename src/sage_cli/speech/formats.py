"""Transcripts as text: one class per format, listed in :data:`FORMATS`."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from html import escape
from typing import Any, ClassVar

from sage_cli.speech.cues import SHORTEST_S
from sage_cli.speech.lines import DEFAULT, Layout, columns, wrap
from sage_cli.speech.segment import Segment
from sage_cli.text import escape_markdown, lines, without_controls
from sage_cli.timecode import format_clock, format_clock_ms

SPEAKER_TURN = "[SPEAKER_TURN]"


@dataclass(frozen=True, slots=True)
class About:
    """What was transcribed.

    Attributes:
        video: the media as given by the user, for programs.
        media: its name, for people.
        duration: in seconds.
        model: the model's name.
        language, notices: known at the end: the language of most of the speech, and which parts of the file are damaged or missing.
    """

    video: str
    media: str
    duration: float
    model: str
    language: str | None = None
    notices: tuple[str, ...] = ()


class Format(ABC):
    """A way to write a transcript down, piece by piece as it comes: the head, every segment, the foot. Pieces end where a line does.

    Args:
        written: the segments are cues that somebody wrote, whose times stay as they are.
    """

    suffix: ClassVar[str]
    on_screen: ClassVar[bool] = False  # players show a segment while it is said: it must fit

    def __init__(self, layout: Layout = DEFAULT, *, written: bool = False) -> None:
        self.layout, self.written = layout, written

    def head(self, about: About) -> str:
        return ""

    @abstractmethod
    def segment(self, segment: Segment) -> str: ...

    def foot(self, about: About) -> str:
        return ""


def flat(text: str) -> str:
    """Text on one line without control characters: a file's name may hold both, too."""
    return without_controls(" ".join(text.split()))


def one_line(segment: Segment) -> str:
    """The text on one line, a change of speaker marked at its end as whisper.cpp marks it."""
    return _marked(flat(segment.text), segment)


def _marked(text: str, segment: Segment) -> str:
    return f"{text} {SPEAKER_TURN}" if segment.speaker_turn else text


# ---- subtitles -----------------------------------------------------------------------------------------------------


class Subtitles(Format):
    """Cues, each one kept until the next one is known: what was said stays on screen until it can be read, if there is time."""

    on_screen = True
    speed: ClassVar[float] = 20.0  # characters a second that people read with ease
    longer: ClassVar[float] = 1.0  # seconds that a cue may stay after the words
    gap: ClassVar[float] = 0.08  # seconds between two cues, two frames

    _waiting: Segment | None = None

    def segment(self, segment: Segment) -> str:
        written = self._stretched(segment.start - self.gap)
        self._waiting = segment
        return written

    def foot(self, about: About) -> str:
        return self._stretched(about.duration)

    def text(self, segment: Segment) -> str:
        """The cue's lines."""
        return "\n".join(flat(line) for line in wrap(_marked(segment.text, segment), self.layout))

    @abstractmethod
    def cue(self, segment: Segment) -> str:
        """A cue as it is written."""

    def _stretched(self, latest: float) -> str:
        waiting = self._waiting
        if waiting is None:
            return ""
        if self.written:
            return self.cue(waiting)
        enough = waiting.start + min(max(columns(one_line(waiting)) / self.speed, SHORTEST_S), self.layout.seconds)
        end = max(waiting.end, min(enough, waiting.end + self.longer, latest))
        return self.cue(replace(waiting, end=end))


class Srt(Subtitles):
    """SubRip."""

    suffix = "srt"
    _number: int = 0

    def cue(self, segment: Segment) -> str:
        self._number += 1
        text = self.text(segment).replace("-->", "->")  # an arrow in the text is a time line to some players
        begin, end = (format_clock_ms(time).replace(".", ",") for time in (segment.start, segment.end))
        return f"{self._number}\n{begin} --> {end}\n{text}\n\n"


class Vtt(Subtitles):
    """WebVTT: https://www.w3.org/TR/webvtt1/"""

    suffix = "vtt"
    _language: str | None = None

    def head(self, about: About) -> str:
        return "WEBVTT\n\n"

    def cue(self, segment: Segment) -> str:
        """A cue; where another language than the first one is spoken, it says so. A speaker is ``<v NAME>`` in place of the name."""
        self._language = self._language or segment.language
        text = escape(self.text(replace(segment, text=segment.text.removeprefix(f"{segment.speaker}:").lstrip())), quote=False)
        if segment.speaker:
            text = f"<v {escape(segment.speaker, quote=False)}>{text}</v>"
        if segment.language != self._language:
            text = f"<lang {segment.language}>{text}</lang>"
        return f"{format_clock_ms(segment.start)} --> {format_clock_ms(segment.end)}\n{text}\n\n"


class Lrc(Format):
    """LRC lyrics: a line shows from its time until the next one's, so a pause is a line without text."""

    suffix = "lrc"
    on_screen = True
    pause: ClassVar[float] = 1.0  # seconds without speech after which the last line is taken away
    _shown_until: float | None = None

    def head(self, about: About) -> str:
        minutes, seconds = divmod(round(about.duration), 60)
        return f"[ti:{flat(about.media)}]\n[length:{minutes:02d}:{seconds:02d}]\n\n"

    def segment(self, segment: Segment) -> str:
        paused = self._shown_until is not None and segment.start - self._shown_until > self.pause
        gone = self._cleared() if paused else ""
        self._shown_until = segment.end
        return f"{gone}{self._stamp(segment.start)}{one_line(segment)}\n"

    def foot(self, about: About) -> str:
        return self._cleared()

    def _cleared(self) -> str:
        return "" if self._shown_until is None else f"{self._stamp(self._shown_until)}\n"

    @staticmethod
    def _stamp(seconds: float) -> str:
        hundredths = round(seconds * 100)
        return f"[{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}]"


# ---- for people ----------------------------------------------------------------------------------------------------


class Txt(Format):
    """A line for each segment, its times in front: for eyes and for grep."""

    suffix = "txt"

    def segment(self, segment: Segment) -> str:
        return f"[{format_clock_ms(segment.start)} --> {format_clock_ms(segment.end)}]  {one_line(segment)}\n"


class Md(Format):
    """Markdown to read: paragraphs, each with the time at which it begins."""

    suffix = "md"
    pause: ClassVar[float] = 2.0  # seconds without speech that begin a paragraph
    longest: ClassVar[float] = 60.0  # seconds a paragraph may go on
    _began: float | None = None
    _last: float = 0.0

    def head(self, about: About) -> str:
        return f"# {escape_markdown(flat(about.media))}\n"

    def segment(self, segment: Segment) -> str:
        fresh = self._began is None or segment.start - self._last > self.pause or segment.end - self._began > self.longest
        self._last = segment.end
        if not fresh:
            return f"{escape_markdown(one_line(segment))}\n"
        self._began = segment.start
        return f"\n**{format_clock(segment.start)}** {escape_markdown(one_line(segment))}\n"


# ---- for programs --------------------------------------------------------------------------------------------------


class Json(Format):
    """One JSON object with everything that is known; times in seconds."""

    suffix = "json"
    _separator: str = "\n"

    def head(self, about: About) -> str:
        fields = {"video": about.video, "duration": round(about.duration, 3), "model": about.model}
        return json.dumps(fields, ensure_ascii=False)[:-1] + ', "segments": ['

    def segment(self, segment: Segment) -> str:
        separator, self._separator = self._separator, ",\n"
        return separator + json.dumps(_record(segment), ensure_ascii=False)

    def foot(self, about: About) -> str:
        known = json.dumps({"language": about.language, "notices": about.notices}, ensure_ascii=False)
        return f"\n], {known[1:]}\n"


class Jsonl(Format):
    """A JSON object per line, one for each segment, with the name of its media: for programs that read along."""

    suffix = "jsonl"
    _video: str = ""

    def head(self, about: About) -> str:
        self._video = about.video
        return ""

    def segment(self, segment: Segment) -> str:
        return json.dumps({"video": self._video, **_record(segment)}, ensure_ascii=False) + "\n"


def _record(segment: Segment) -> dict[str, Any]:
    """The segment as a JSON-ready object; words and a speaker only where it has them."""
    fields: dict[str, Any] = {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "confidence": round(segment.confidence, 3),
        "speaker_turn": segment.speaker_turn,
        "language": segment.language,
    }
    if segment.speaker:
        fields["speaker"] = segment.speaker
    if segment.words:
        fields["words"] = [
            {"start": round(word.start, 3), "end": round(word.end, 3), "text": word.text, "confidence": round(word.confidence, 3)}
            for word in segment.words
        ]
    return fields


class Csv(Format):
    """Comma-separated values with a header line (RFC 4180 but for the line ends); times in seconds."""

    suffix = "csv"

    def head(self, about: About) -> str:
        return "start,end,confidence,language,text\n"

    def segment(self, segment: Segment) -> str:
        return csv_row(f"{segment.start:.3f}", f"{segment.end:.3f}", f"{segment.confidence:.3f}", segment.language, one_line(segment))


def csv_row(*fields: str) -> str:
    """A line with these fields."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


class Tsv(Format):
    """Tab-separated values with a header line; times in whole milliseconds, as openai-whisper writes them."""

    suffix = "tsv"

    def head(self, about: About) -> str:
        return "start\tend\ttext\n"

    def segment(self, segment: Segment) -> str:
        return f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{one_line(segment)}\n"


FORMATS: dict[str, type[Format]] = {kind.suffix: kind for kind in (Txt, Srt, Vtt, Json, Jsonl, Csv, Tsv, Lrc, Md)}


def has_text(transcript: str, format: str) -> bool:
    """Whether a transcript in a format holds any segment: one without has the fewest lines."""
    empty, about = FORMATS[format](), About("", "", 0.0, "")
    return len(lines(transcript)) > len(lines(empty.head(about) + empty.foot(about)))

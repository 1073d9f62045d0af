"""A summary of a video and of its chapters.

Chapters are found without the model (:mod:`.chapters`). The model then reads one chapter at a time, its words and a few frames, and at
last the chapters' summaries: no prompt grows with the video. What does not fit the context is summarized in pieces first. Every reply is
kept in the cache, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sage_cli.agent.asking import Asker, UnusableReplyError, attempts
from sage_cli.agent.events import Notice
from sage_cli.agent.nonsense import has_words, is_nonsense, without_repetition
from sage_cli.agent.reading import prose
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.errors import ModelError, NoReplyError, UsageError
from sage_cli.model.base import Frames, Message, Prompt, Reply, Text
from sage_cli.session.chapters import find_chapters
from sage_cli.speech.merge import entries
from sage_cli.speech.segment import Segment
from sage_cli.store import cache_dir
from sage_cli.store.diskcache import DiskCache
from sage_cli.text import Note
from sage_cli.timecode import format_clock, format_span
from sage_cli.tools.base import Watched
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import record, text
from sage_cli.tools.workspace import most
from sage_cli.version import __version__
from sage_cli.video import SilentError, uniform_times
from sage_cli.video.frame import pixel_version

if TYPE_CHECKING:
    from sage_cli.session.session import Session
    from sage_cli.video import Video

T = TypeVar("T")

_FRAMES: Final = 8  # of a chapter that the model sees
_REPLY_TOKENS: Final = 1280  # more than title and summary take in any script
_TITLE, _SUMMARY = 90, 900  # characters
_SCHEMA: Final = record(summary=text(_SUMMARY), title=text(_TITLE))
_LIMIT: Final = 64_000_000  # bytes of replies that are kept


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of a video; ``start`` and ``end`` in seconds."""

    start: float
    end: float
    title: str
    summary: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a video is about.

    Attributes:
        chapters: in order, without gaps.
        value: the summary under the user's JSON schema; ``None`` without one.
        notices: what has no summary, and why.
    """

    title: str
    summary: str
    chapters: tuple[Chapter, ...]
    value: Any = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """How far the work has got: speech in seconds, pictures in frames, chapters in chapters."""

    name: str
    done: float
    total: float


Steps = Generator[Stage | None, None, T]  # None now and then, so that whoever iterates can stop


def summarize(session: Session, video: Video, *, start: float | None = None, end: float | None = None) -> Steps[Summary]:
    """Summarize a video or a recording of sound, or a part of it.

    Raises:
        SageError: the media, the model or an option cannot be used, there is neither a picture nor a word, or no reply of the model can be
            used.
    """
    first, last = session.span(video, start, end)
    cache = DiskCache(cache_dir() / "summaries", _LIMIT if session.caching else 0)
    with closing(cache):
        segments = yield from _speech(session, video, first, last)
        if not (video.has_video or segments):
            raise SilentError(video)
        kept = _Kept(cache, video.id, _identity(session, segments, first, last))
        if (whole := kept.get("summary")) is not None:
            return _titled(_summary(whole), video)
        spans = kept.get("chapters")
        if spans is None:
            spans = yield from _spans(video, segments, first, last)
            kept.set("chapters", spans)
        writer = _Writer(session, video, segments, kept, first)
        summary = yield from writer.write(spans)
        if writer.complete:
            kept.set("summary", asdict(summary))
        return _titled(summary, video)


def _speech(session: Session, video: Video, start: float, end: float) -> Steps[list[Segment]]:
    """What is said, by subtitles or the speech model; nothing where there is neither."""
    segments: list[Segment] = []
    subtitles = session.subtitles(video)
    if subtitles is None and (not video.has_audio or (video.has_video and session.speech_file is None)):
        return segments
    with closing(session.parts(video, subtitles, start=start, end=end)) as parts:
        for part in parts:
            segments += part.segments
            yield Stage("speech", part.seconds - start, end - start)
    return segments


def _spans(video: Video, segments: Sequence[Segment], start: float, end: float) -> Steps[list[tuple[float, float]]]:
    with closing(find_chapters(video, segments, start, end)) as steps:
        for done, total in (looked := Watched(steps)):
            yield Stage("pictures", done, total)
        return looked.result


def _identity(session: Session, segments: Sequence[Segment], start: float, end: float) -> str:
    """All that a summary depends on besides the video."""
    if session.remote:
        model = [session.remote.shown, session.served_name]
    else:
        model = [*session.files.fingerprints(remember=session.caching), version("llama-cpp-python")]
    settings = {**asdict(session.settings), "schema": None, "prompts": session.settings.prompts.digest}
    shape = session.schema.text if session.schema else ""
    said = [(segment.start, segment.end, segment.text) for segment in segments]
    return _digest([__version__, pixel_version(), model, settings, session.options.ctx_size, shape, said, start, end])


class _Kept:
    """Replies in the cache, by what was asked."""

    def __init__(self, cache: DiskCache, media: str, identity: str) -> None:
        self._cache, self._media, self._identity = cache, media, identity

    def get(self, asked: str) -> Any:
        """What was kept; ``None`` if nothing, or if it is damaged."""
        data = self._cache.get(self._key(asked))
        return None if data is None else json.loads(bytes(data))

    def set(self, asked: str, value: Any) -> None:
        self._cache.set(self._key(asked), json.dumps(value).encode())

    def _key(self, asked: str) -> str:
        return f"{self._media}@{_digest([self._identity, asked])}"


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _titled(summary: Summary, video: Video) -> Summary:
    """With the file's name for a title that the model did not find; it is no part of what is cached, as files are renamed."""
    return summary if summary.title else replace(summary, title=video.stem)


def _summary(record: dict[str, Any]) -> Summary:
    return Summary(
        **{**record, "chapters": tuple(Chapter(**chapter) for chapter in record["chapters"]), "notices": tuple(record["notices"])}
    )


class _Writer:
    """Has the model write titles and summaries."""

    def __init__(self, session: Session, video: Video, segments: Sequence[Segment], kept: _Kept, first: float) -> None:
        self._session, self._video, self._kept = session, video, kept
        # What is being said when the part begins belongs to its first chapter.
        self._entries = [replace(entry, start=max(entry.start, first)) for entry in entries(segments) if entry.end > first]
        self._media = "video" if video.has_video else "recording"
        self._agent = session.agent(video)
        self._work = self._agent.workspace()
        self._settings = self._agent.settings
        self._reply_tokens = min(_REPLY_TOKENS, self._agent.reply_tokens)
        self._room = session.model.info.context_size - self._reply_tokens
        self._notices: list[str] = []
        self.complete = True  # another run would write nothing else
        self._partial = False  # whether the server read only a part of a prompt: what it then writes is not kept
        self._problem = ""  # with the last reply that could not be used

    def write(self, spans: Sequence[tuple[float, float]]) -> Steps[Summary]:
        chapters: list[Chapter] = []
        for number, (start, end) in enumerate(spans):
            yield Stage("chapters", number, len(spans))
            title, summary = yield from self._chapter(start, end)
            chapters.append(Chapter(start, end, title or f"Part {number + 1}", summary))
        yield Stage("chapters", len(spans), len(spans))
        if not any(chapter.summary for chapter in chapters):
            raise NoReplyError(f"the {self._media} could not be summarized: {self._problem}")
        if len(chapters) == 1:
            title, summary = chapters[0].title, chapters[0].summary
        else:
            title, summary = yield from self._merged([_told(chapter) for chapter in chapters if chapter.summary])
        made = Summary(title, summary, tuple(chapters), notices=tuple(self._notices))
        if self._session.schema is not None:
            made = replace(made, value=(yield from self._in_shape(made)), notices=tuple(self._notices))
        return made

    def _chapter(self, start: float, end: float) -> Steps[tuple[str, str]]:
        lines = [f"[{format_clock(entry.start)}] {entry.text}" for entry in self._entries if start <= entry.start < end]
        asked, part = f"chapter {start:.3f} {end:.3f}", format_span(start, end)
        if (kept := self._recalled(asked, part)) is not None:
            return kept
        frames = Frames(())
        if self._video.has_video:
            times = uniform_times(self._video.duration, min(_FRAMES, self._work.frame_limit), start=start, end=max(start, end - 0.1))
            with closing(self._video.frames(times, self._work.sizes.first)) as reader:
                seen = {frame.key: frame for frame in reader}
            frames = Frames(tuple(seen.values()))

        def build(told: Sequence[str]) -> Prompt:
            said = "What is said:\n" + "\n".join(told) if told else "Nothing is said."
            shown = self._work.prompts.render("chapter", media=self._media, begin=format_clock(start), end=format_clock(end), told=said)
            return self._work.question(frames, Text(shown))

        while not self._fits(build(lines)):
            if not lines:
                raise ModelError("a chapter does not fit the context; raise --ctx-size")
            lines = yield from self._shorter(lines, part)
            if not lines:
                return "", ""
        return (yield from self._ask(build(lines), part, asked))

    def _merged(self, told: list[str]) -> Steps[tuple[str, str]]:
        part = f"the whole {self._media}"
        while told and not self._fits(self._whole(told)):
            told = yield from self._shorter(told, part)
        return (yield from self._ask(self._whole(told), part)) if told else ("", "")

    def _shorter(self, told: list[str], part: str) -> Steps[list[str]]:
        """Summaries of as many lines at a time as fit; at least two, so that there are fewer lines afterwards."""

        def fits(number: int) -> bool:
            return self._fits(self._whole(told[:number]))

        shorter: list[str] = []
        while told:
            count = most(len(told), fits)
            if not fits(count) or count < min(2, len(told)):
                raise ModelError("a summary does not fit the context; raise --ctx-size")
            _, summary = yield from self._ask(self._whole(told[:count]), f"a piece of {part}")
            shorter += [summary] if summary else []
            told = told[count:]
        return shorter

    def _whole(self, told: Sequence[str]) -> Prompt:
        return self._work.question(Text(self._work.prompts.render("summary", media=self._media, told="\n".join(told))))

    def _fits(self, prompt: Prompt) -> bool:
        return self._work.model.count_tokens(prompt) <= self._room

    def _ask(self, prompt: Prompt, part: str, asked: str = "") -> Steps[tuple[str, str]]:
        """Title, which may be empty, and summary. If the model writes none twice, both are empty, and a notice tells it of the part."""
        asked = asked or _digest([part.text for message in prompt for part in message.parts if isinstance(part, Text)])
        if (kept := self._recalled(asked, part)) is not None:
            return kept
        for temperature, seed in attempts(self._settings.temperature, self._settings.seed):
            reply = yield from self._reply(prompt, temperature, seed)
            if reply.partial and not self._partial:
                self._partial = True
                self.complete = False
                self._notices.append(str(Note("the server read only a part of the prompts", reply.advice)))  # which the model gives once
            try:
                found = json_object(reply.text, ("summary", "title"))
            except ValueError:  # a served model that keeps to no schema
                found = {"summary": prose(reply.text)}
            title, summary = (_sense(str(found.get(key) or "")) for key in ("title", "summary"))
            if has_words(summary):
                notice = "" if reply.finish == "stop" else str(Note(reply.notice, reply.advice))
                if notice:
                    self._notices.append(f"{part}: {notice}")
                if reply.finish == "length":
                    self.complete = False
                elif not self._partial:
                    self._kept.set(asked, {"title": title, "summary": summary, "notice": notice})
                return title, summary
            self._problem = f"the model's reply {_problem(reply)}"
        self.complete = False
        self._notices.append(f"{part} has no summary: {self._problem}")
        return "", ""

    def _recalled(self, asked: str, part: str) -> tuple[str, str] | None:
        """Title and summary of an earlier run."""
        if (kept := self._kept.get(asked)) is None:
            return None
        if notice := kept.get("notice"):
            self._notices.append(f"{part}: {notice}")
        return kept["title"], kept["summary"]

    def _reply(self, prompt: Prompt, temperature: float, seed: int) -> Steps[Reply]:
        with closing(self._work.ask(prompt, max_tokens=self._reply_tokens, schema=_SCHEMA, temperature=temperature, seed=seed)) as steps:
            for _ in (read := Watched(steps)):
                yield None
            return read.result

    def _in_shape(self, made: Summary) -> Steps[Any]:
        shape, settings = self._session.schema, self._settings
        assert shape is not None
        told = "\n".join(filter(None, [made.summary, *(_told(chapter) for chapter in made.chapters if chapter.summary)]))
        shown = self._work.prompts.render("structured", question=f"What is this {self._media} about?", answer=told, schema=shape.text)
        asker = Asker(self._work.model, Stopwatch(time.monotonic, None), "", self._agent.reply_tokens, settings.temperature, settings.seed)
        steps = Watched(asker.ask_in_shape(0, [Message("user", (Text(shown),))], shape))
        try:
            for step in steps:
                if isinstance(step, Notice):
                    self.complete = False
                    self._notices.append(step.line)
                yield None
        except UnusableReplyError as error:
            raise UsageError(f"{error}; try another schema, or a larger model") from error
        return steps.result


def _sense(text: str) -> str:
    """A model's text on one line, without repetitions; empty if there is nothing in it."""
    line = " ".join(without_repetition(text).split())
    return "" if is_nonsense(line, "") else line


def _problem(reply: Reply) -> str:
    """What is wrong with a reply that holds no summary, and what to do about it."""
    if reply.finish == "length":
        return "was cut off before its summary; raise --ctx-size, or try another model"
    return f"{'holds no summary' if reply.text.strip() else 'is empty'}; try another model"


def _told(chapter: Chapter) -> str:
    return f"[{format_span(chapter.start, chapter.end)}] {chapter.title}: {chapter.summary}"

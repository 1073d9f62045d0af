"""A session: models, caches and tools, opened on first use and shared by all questions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sage_cli.errors import SageError, UsageError, VideoError
from sage_cli.session.arguments import earlier_argument, media_argument, question_argument
from sage_cli.session.models import NO_SPEECH_MODEL, Models, require_network
from sage_cli.session.options import Options, declared
from sage_cli.session.pipes import Pipes
from sage_cli.session.settings import session_options
from sage_cli.session.turns import Turns
from sage_cli.session.values import check
from sage_cli.store import NotInstalledError, cache_dir
from sage_cli.store.cache import note_media
from sage_cli.text import is_link, media_name

if TYPE_CHECKING:
    from sage_cli.agent import Agent, Event
    from sage_cli.agent.events import WebRequested
    from sage_cli.agent.record import RunRecord
    from sage_cli.speech import Progress, Segment, Transcript
    from sage_cli.speech.subtitles import Subtitles
    from sage_cli.tools.base import AnyTool
    from sage_cli.video import FrameTimeCache, Video

Moment: TypeAlias = float | str | None  # in seconds, or as text; None is by the options

K = TypeVar("K")
V = TypeVar("V")

_MOST_AGENTS: Final = 4  # each holds the frames of a first look
_MOST_VIDEOS: Final = 64  # one that is needed again is opened again


def open_session(
    options: Options | None = None,
    *,
    consent: Callable[[WebRequested], bool] | None = None,
    offer: Callable[[NotInstalledError], str] | None = None,
    model_cache: bool = True,
    **overrides: Any,
) -> Session:
    """Open a session for questions and transcripts; a context manager, for one thread at a time. Models are loaded on first use.

    Args:
        options: by default those of the environment and the settings file.
        consent: called before each web request with ``web="ask"``; without it, every request is denied.
        offer: called when a model is not installed; may install one and returns the name to use. Without it, that is an error.
        model_cache: whether frame embeddings and KV prefixes are kept on disk.
        overrides: options by name, such as ``model="qwen3-vl-4b"``; they override ``options``. ``None`` means not given.

    Raises:
        UsageError: an option does not exist or is not a session's, or a value is invalid.
    """
    return Session(session_options(options, overrides), consent=consent, offer=offer, model_cache=model_cache)


class Session(Models):
    """Answers questions about videos and transcribes media; see :func:`open_session`.

    For one thread at a time; see :class:`~sage_cli.session.turns.Turns`.

    The only place that finds models, plans memory, opens caches, selects tools and enforces ``offline``. Loaded models, opened videos and
    their frames are reused by later questions.

    Attributes:
        options: in effect.
        pipes: that videos were read from.
    """

    def __init__(
        self,
        options: Options,
        *,
        consent: Callable[[WebRequested], bool] | None = None,
        offer: Callable[[NotInstalledError], str] | None = None,
        model_cache: bool = True,
    ) -> None:
        super().__init__(options, offer=offer, model_cache=model_cache)
        self._consent = consent
        self._videos: dict[str, Video] = {}
        self.pipes = Pipes(lambda: self._scratch)
        # After the files beside the video at the time; see _found_subtitles.
        self._subtitles: dict[Video, tuple[object, Subtitles | None, str]] = {}
        self._agents: dict[tuple[Video, Subtitles | None, float, float, bool], Agent] = {}
        self._turns = Turns()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop running work; free models and temporary files. Safe to call again; a later question would load the models anew."""
        self._end_loading()
        self._turns.stop()  # before the models are freed: runs and transcripts hold native state of them
        self._agents.clear()
        self._videos.clear()
        self._subtitles.clear()
        self.pipes.clear()
        super().close()

    # ---- asking ----------------------------------------------------------------------------------------------------

    def ask(
        self,
        video: str | Path,
        question: str,
        *,
        start: Moment = None,
        end: Moment = None,
        earlier: Sequence[tuple[str, str]] = (),
        tools: bool | None = None,
    ) -> Generator[Event]:
        """Answer a question about a video. The last event is an ``Answer`` or a ``NoAnswer``.

        Args:
            video: its path, a link, or ``-`` for stdin; a pipe is read to its end first.
            start, end: the part to ask about, in seconds or as text (``"1:30"``); by default from the options.
            earlier: previous questions and answers of the conversation.
            tools: whether the model may use tools; by default from the options.

        Raises:
            SageError: the video, the model or an option cannot be used, or another thread uses the session.
        """
        question, pairs = question_argument(question), earlier_argument(earlier)
        from sage_cli.agent.events import Notice, RunStarted
        from sage_cli.session.origin import signed
        from sage_cli.session.speeds import estimated

        def run() -> Generator[Event]:
            opened = self.video(video)
            self.check_senses(opened, tools=tools)
            agent = self.agent(opened, start=start, end=end, tools=tools)
            missing = self.subtitle_trouble(opened, choice=False) if self.options.subtitles and agent.tools and not pairs else ""
            with closing(agent.run(question, pairs)) as events:
                for event in estimated(events) if self.caching else events:
                    yield signed(event, self, opened, {"tools": tools, "earlier": len(pairs)}) if isinstance(event, RunStarted) else event
                    if missing and isinstance(event, RunStarted):
                        yield Notice(event.elapsed, missing, media=True)

        return self._turns.run(run())

    def agent(self, video: Video, *, start: Moment = None, end: Moment = None, tools: bool | None = None) -> Agent:
        """The agent for a part of a video. It is reused for the same part, with its frames.

        Raises:
            SageError: the model or an option cannot be used.
        """
        span = self.span(video, start, end)
        tools = bool(self._in_effect("tools", tools))
        # By the video and not by its content, which two files may share: their names and subtitles differ.
        key = (video, self.subtitles(video), *span, tools)
        agent = self._agents.get(key) or self._new_agent(video, span, tools)
        return _keep(self._agents, key, agent, _MOST_AGENTS)

    def check(self, video: Video) -> None:
        """Run all checks that need no loaded model, cheapest first.

        Raises:
            SageError: what :meth:`ask` would raise.
        """
        self.span(video)
        _ = self.settings
        self.tools(video)

    def video(self, path: str | Path, downloading: Callable[[int, int], None] | None = None) -> Video:
        """Open a video; again only if it has changed. A pipe is first copied to a temporary file, because it is read more than once.

        Args:
            downloading: called with bytes and total bytes during the download of a link.

        Raises:
            VideoError: it cannot be read.
        """
        key = path = media_argument(path)
        video = self._videos.get(key)
        if video is None or video.changed:
            video = self._opened(path, downloading)
        return _keep(self._videos, key, video, _MOST_VIDEOS)

    def as_asked(self, run: RunRecord, name: str) -> Video | str:
        """The video of that name, if it still is what a run was about; else a line that says why it is not."""
        try:
            video = self.video(name)
        except SageError as error:
            return str(error)
        return video if video.id == run["fingerprint"] else f"{media_name(name)} has changed since it was asked about"

    def _opened(self, path: str | Path, downloading: Callable[[int, int], None] | None) -> Video:
        from sage_cli.video import DamageCache, Video

        name, local = str(path), self._local(path, downloading)
        damage = DamageCache(cache_dir() / "damage") if self.caching else None
        try:
            video = Video(local, name=name, cache=self._frame_times, damage=damage, remember=self.caching, spoken=self.is_spoken)
        except VideoError as error:
            if local == Path(path):
                raise
            raise VideoError(str(error).replace(str(local), media_name(name))) from error
        if self.caching and local == Path(path):
            note_media(video.id, local)
        return video

    def span(self, video: Video, start: Moment = None, end: Moment = None) -> tuple[float, float]:
        """The part of a video to ask about, in seconds; the end is limited to the video's.

        Raises:
            UsageError: the part is empty, or a time is negative or no number.
        """
        from sage_cli.timecode import format_clock

        begin, until = self._in_effect("start", start), self._in_effect("end", end)
        first, last = begin or 0.0, video.duration if until is None else min(until, video.duration)
        if not 0 <= first < last:
            raise UsageError(
                f"the start is not before the end, or outside the media: it goes from 00:00:00 to {format_clock(video.duration)}"
            )
        return first, last

    def tools(self, video: Video) -> list[AnyTool]:
        """The tools for questions about a video: the enabled ones; the one for speech only if there is something to transcribe.

        Raises:
            UsageError: as :attr:`allowed_tools`.
        """
        from sage_cli.tools import TranscribeSpeech

        heard = bool((video.has_audio and self.speech_file) or self.subtitles(video))
        return [tool for tool in self.allowed_tools if tool.name != TranscribeSpeech.name or heard]

    def check_senses(self, video: Video, *, tools: bool | None = None) -> None:
        """Check that a question can be answered from something: from a picture, or else from speech.

        Args:
            tools: as in :meth:`ask`.

        Raises:
            VideoError: there is neither, or the picture cannot be decoded.
            UsageError: an option forbids to listen.
        """
        from sage_cli.tools import TranscribeSpeech

        if video.has_video:
            return
        video.check_picture()
        alone = f"{media_name(video.name)} has sound but no picture"
        if not self._in_effect("tools", tools) or TranscribeSpeech.name not in [tool.name for tool in self.allowed_tools]:
            forbidden = tools is False and self.options.tools  # by the caller, as /tools off
            needed = "turn tools on" if forbidden else f"leave out --no-tools and --no-tool {TranscribeSpeech.name}"
            raise UsageError(f"{alone}: what is said has to be transcribed; {needed}")
        if TranscribeSpeech.name not in [tool.name for tool in self.tools(video)]:
            raise VideoError(f"{alone}, and there is {NO_SPEECH_MODEL}")

    # ---- transcribing ----------------------------------------------------------------------------------------------

    def transcribe(self, media: str | Path, *, start: Moment = None, end: Moment = None) -> Generator[Segment]:
        """Transcribe a video or recording; yields segments as they are decoded. After an interruption the next call resumes.

        Args:
            media: its path, or ``-`` for stdin; a pipe is read to its end first.
            start, end: the part to transcribe, in seconds or as text; by default from the options.

        Raises:
            SageError: the media, the speech model or an option cannot be used, or another thread uses the session.
        """

        def run() -> Generator[Segment]:
            video = self.video(media)
            with closing(self._parts(video, self.converted(video), start, end)) as parts:
                for part in parts:
                    yield from part.segments

        return self._turns.run(run())

    def parts(self, video: Video, subtitles: Subtitles | None, *, start: Moment = None, end: Moment = None) -> Generator[Progress]:
        """The same, window by window, with progress. Yields nothing for media without sound.

        Args:
            subtitles: to use in place of a transcript: those that are :meth:`converted`, or those that questions are answered from
                (:meth:`subtitles`).
        """
        return self._turns.run(self._parts(video, subtitles, start, end))

    def _parts(self, video: Video, subtitles: Subtitles | None, start: Moment, end: Moment) -> Generator[Progress]:
        first, last = self.span(video, start, end)
        if subtitles:
            yield from subtitles.parts(first, last)
            return
        if not video.has_audio:
            video.check_audio()
            return
        yield from self.transcript(video).parts(first, last)

    def transcript(self, video: Video) -> Transcript:
        """The transcript of a video, decoded on demand."""
        from sage_cli.speech import Transcript, TranscriptCache

        cache = TranscriptCache(cache_dir() / "transcripts") if self.caching else None
        return Transcript(self.transcriber, video, video.sound_id, cache)

    def converted(self, video: Video, source: str | None = None) -> Subtitles | None:
        """Subtitles to use in place of a transcript, if ``source`` allows them; with ``translate`` only English ones.

        Raises:
            VideoError: ``source`` requires subtitles, and there are none.
            UsageError: they would have to be translated.
        """
        if (source := source or self.options.source) == "speech":
            return None
        if self.options.translate and source == "subtitles":
            raise UsageError("--translate is for speech, and subtitles stay as they are: leave out --from subtitles or --translate")
        from sage_cli.speech.subtitles import lacking

        found, reason = self._found_subtitles(video)  # asked for, whatever questions are answered from
        if found is None and source == "subtitles":
            none = f" that can be read ({reason})" if reason else lacking(video, self.options.language)
            raise VideoError(f"{media_name(video.name)} has no subtitles{none}: transcribe its speech instead")
        if found is None or (self.options.translate and found.language != "en"):
            return None
        return replace(found, sounds=True)

    def subtitles(self, video: Video) -> Subtitles | None:
        """Subtitles to use as the transcript: a file beside the video or a track in it; ``None`` if there are none or they are disabled."""
        return self._found_subtitles(video)[0] if self.options.subtitles else None

    def language_trouble(self, video: Video) -> str:
        """One line for people if the file says that its sound is in a language that the speech model does not know; else ``""``."""
        from sage_cli.speech.codes import short

        marked = short(video.sound_language)
        if not marked or marked == "en" or self.options.language != "auto" or self.spoken_language != "en":
            return ""  # who names the language knows better than the file
        return f"the sound is marked {marked}, and {self.transcriber_name} knows English only: use a multilingual model"

    def subtitle_trouble(self, video: Video, *, choice: bool = True) -> str:
        """One line for people if some of a video's subtitles cannot be read or do not fit it; else ``""``.

        Args:
            choice: or if there are others in other languages.
        """
        found, reason = self._found_subtitles(video)
        if found is None:
            return f"{reason}: going on without subtitles" if reason else ""
        return "; ".join(filter(None, [reason, str(found.choice) if choice and found.choice else ""]))

    def _found_subtitles(self, video: Video) -> tuple[Subtitles | None, str]:
        """The subtitles, and what is wrong with some."""
        from sage_cli.speech.subtitles import files_beside, find_subtitles

        files, found = files_beside(video.path), self._subtitles.get(video)
        if found is None or found[0] != files:
            reasons: list[str] = []
            language = "en" if self.options.translate else self.options.language
            found = files, find_subtitles(video, language, reasons.append), "; ".join(reasons)
        return _keep(self._subtitles, video, found, _MOST_VIDEOS)[1:]

    def forget(self) -> None:
        """Drop all videos, frames and prompts, so that the next answer does not depend on earlier ones. Loaded models stay."""
        self._videos.clear()
        self._subtitles.clear()
        self._agents.clear()
        if "model" in vars(self):
            self.model.forget()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _in_effect(self, name: str, given: Any) -> Any:
        """The value of an option that a call may give, too; ``None`` is not given."""
        return getattr(self.options, name) if given is None else check(declared()[name], given, name)

    @cached_property
    def _frame_times(self) -> FrameTimeCache | None:
        if not self.caching:
            return None
        from sage_cli.video import FrameTimeCache

        return self._resources.enter_context(closing(FrameTimeCache(cache_dir() / "times")))

    def _new_agent(self, video: Video, span: tuple[float, float], tools: bool) -> Agent:
        from sage_cli.agent import Agent

        # The context size of a server is unknown until the first request; the agent then uses fewer frames if needed.
        settings = self.settings if self.remote else replace(self.settings, frames=self.plan.frames)
        consent = (self._consent or (lambda _request: False)) if self.options.web == "ask" else None
        return Agent(
            self.model,
            video,
            tools=self.tools(video) if tools else [],
            settings=settings,
            span=span,
            transcriber=(lambda: self.transcript(video)) if self.speech_file else None,
            subtitles=self.subtitles(video),
            consent=consent,
        )

    def _local(self, given: str | Path, downloading: Callable[[int, int], None] | None) -> Path:
        """The media as a file that can be read more than once. Typing a link is consent to its download."""
        link = str(given)
        if not is_link(link):
            return self.pipes.local(given)
        from sage_cli.web.links import download, host_of

        require_network(self.options, f"the link to {host_of(link)}")
        languages = () if self.options.language == "auto" else (self.options.language,)
        folder = cache_dir() / "links" if self.caching else self._scratch / "links"
        return download(link, folder, downloading, languages=languages)


def _keep(store: dict[K, V], key: K, value: V, most: int) -> V:
    """The value, now the latest in a store, which keeps its latest ones only."""
    store.pop(key, None)
    store[key] = value
    while len(store) > most:
        del store[next(iter(store))]
    return value

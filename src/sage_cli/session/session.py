"""A session: the models, caches and tools that options choose, opened when they are first needed and shared by all questions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from sage_cli.errors import ModelError, UsageError, VideoError
from sage_cli.session.options import Options, declared
from sage_cli.session.settings import check, load_options
from sage_cli.store import (
    ModelFiles,
    NotInstalledError,
    cache_dir,
    check_scratch,
    find_model,
    find_speech_model,
)
from sage_cli.store.cache import note_media
from sage_cli.store.content import remember_fingerprints

if TYPE_CHECKING:
    from sage_cli.agent import Agent, Event, Settings
    from sage_cli.agent.events import WebRequested
    from sage_cli.assets import Nano
    from sage_cli.model.base import ChatModel
    from sage_cli.model.remote import RemoteAddress
    from sage_cli.speech import Progress, Segment, Transcriber, Transcript
    from sage_cli.store.fit import Fit
    from sage_cli.tools.base import AnyTool
    from sage_cli.video import Video

STDIN: Final = "-"
SPEECH_TOOL: Final = "transcribe-speech"
WEB_TOOLS: Final = ("web-search", "parse-website")

# Parts of the cache limit. Transcripts, frame times and web pages are small and have limits of their own.
_EMBEDDINGS, _PREFIXES = 1 / 3, 2 / 3
_SERVED_FRAMES = 128  # of the first look of a served model: the reference's number


def open_session(
    options: Options | None = None,
    *,
    consent: Callable[[WebRequested], bool] | None = None,
    offer: Callable[[NotInstalledError], str] | None = None,
    model_cache: bool = True,
    **overrides: Any,
) -> Session:
    """A session to ask and transcribe with; a context manager. Nothing is loaded before it is needed.

    Args:
        options: all that is chosen; by default what the environment and the settings file say.
        consent: asked before anything is sent to the web with ``web="ask"``; without it, nothing is sent.
        offer: asked for the name of another model when one is not installed; it may install one. Without it that is an error.
        model_cache: whether frame embeddings and KV prefixes are kept on disk.
        overrides: options by name, such as ``model="qwen3-vl-4b"``; they win over ``options``.

    Raises:
        UsageError: there is no such option, or a value cannot be.
    """
    if options is None:
        return Session(load_options(**overrides), consent=consent, offer=offer, model_cache=model_cache)
    checked: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in declared():
            raise UsageError(f"no such option: {name}")
        checked[name] = check(declared()[name], value, name) if value is not None else None
    return Session(replace(options, **checked), consent=consent, offer=offer, model_cache=model_cache)


class Session:
    """Answers questions about videos and transcribes media; see :func:`open_session`.

    The one place that finds models, plans memory, opens caches, decides tools and keeps to ``offline``. What one question cost serves the
    next ones: the loaded models, the opened videos and their frames.

    Attributes:
        options: in effect.
    """

    def __init__(
        self,
        options: Options,
        *,
        consent: Callable[[WebRequested], bool] | None = None,
        offer: Callable[[NotInstalledError], str] | None = None,
        model_cache: bool = True,
    ) -> None:
        self.options = options
        self._consent, self._offer, self._model_cache = consent, offer, model_cache
        self._videos: dict[str, Video] = {}
        self._agents: dict[tuple[str, float, float], Agent] = {}
        self._resources = ExitStack()
        remember_fingerprints(self.caching)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.__exit__(kind, error, trace)

    def close(self) -> None:
        """Free models and temporary files. Safe to call again."""
        self._resources.close()

    # ---- asking ----------------------------------------------------------------------------------------------------

    def ask(self, video: str | Path, question: str, *, start: float | None = None, end: float | None = None) -> Iterator[Event]:
        """Answer a question about a video. The last event is an ``Answer`` or a ``NoAnswer``.

        Args:
            video: its path, or ``-`` for stdin; a pipe is read to its end first.
            start, end: the part asked about, in seconds; by default what the options say.

        Raises:
            SageError: the video, the model or an option cannot be used.
        """
        if not question.strip():
            raise UsageError("the question is empty: write what you want to know about the video")
        with closing(_generator(self.agent(self.video(video), start=start, end=end).run(question))) as events:
            yield from events

    def agent(self, video: Video, *, start: float | None = None, end: float | None = None) -> Agent:
        """What answers questions about a part of a video. The same one for the same part: it keeps the frames.

        Raises:
            SageError: as :meth:`ask`.
        """
        if not video.has_video:
            raise VideoError(f"{video.path} has sound but no picture: give a video file")
        span = self.span(video, start, end)
        key = (video.id, *span)
        if key not in self._agents:
            self._agents[key] = self._new_agent(video, span)
        return self._agents[key]

    def check(self, video: Video) -> None:
        """Do all that can fail without loading a model, cheapest first: models are found, options and folders are looked at.

        Raises:
            SageError: what :meth:`ask` would raise.
        """
        self.span(video)
        _ = self.settings
        if self.options.tools:
            check_scratch()
        self.tools(video)

    def video(self, path: str | Path) -> Video:
        """A video, opened once. What comes through a pipe is put into a temporary file, since it has to be read more than once.

        Raises:
            VideoError: it cannot be read.
        """
        key = str(path)
        if key not in self._videos:
            from sage_cli.video import FrameTimeCache, Video

            local = self._local(path)
            times = FrameTimeCache(cache_dir() / "times") if self.caching else None
            try:
                self._videos[key] = Video(local, cache=times)
            except VideoError as error:
                raise VideoError(str(error).replace(str(local), "stdin" if key == STDIN else key)) from error
            if self.caching and local == Path(path):
                note_media(self._videos[key].id, local)
        return self._videos[key]

    def span(self, video: Video, start: float | None = None, end: float | None = None) -> tuple[float, float]:
        """The part of a video asked about, in seconds; an end past the video's is the video's.

        Raises:
            UsageError: there is nothing in it.
        """
        from sage_cli.timecode import format_clock

        start = self.options.start if start is None else start
        end = self.options.end if end is None else end
        first, last = start or 0.0, video.duration if end is None else min(end, video.duration)
        if first >= last:
            raise UsageError(f"nothing lies between --start and --end: the media goes from 00:00:00 to {format_clock(video.duration)}")
        return first, last

    def tools(self, video: Video) -> list[AnyTool]:
        """The tools for questions about a video: those that the options allow and that it, this machine and ``offline`` leave of use.

        Raises:
            UsageError: a tool that does not exist is disabled, or the web cannot be used as asked.
        """
        return [tool for tool in self.allowed_tools if tool.name != SPEECH_TOOL or video.has_audio]

    @cached_property
    def allowed_tools(self) -> list[AnyTool]:
        """The tools for questions about any video.

        Raises:
            UsageError: as :meth:`tools`.
        """
        from sage_cli.tools import TOOLS, web_tools

        known = [tool.name for tool in TOOLS]
        for name in self.options.no_tool:
            if name not in (*known, *WEB_TOOLS):
                raise UsageError(f"--no-tool {name}: there is no such tool; there are {', '.join((*known, *WEB_TOOLS))}")
        if not self.options.tools or self.options.direct:
            return []
        found = [tool for tool in TOOLS if tool.name != SPEECH_TOOL or self.speech_file]
        if self.options.web != "off":
            from sage_cli.web import Web, WebSettings

            settings = WebSettings.from_environment(
                provider=self.options.search_provider, searxng_url=self.options.searxng_url, offline=self.options.offline
            )
            found += web_tools(Web(settings, cache_dir() / "web" if self.caching else self._scratch / "web"))
        return [tool for tool in found if tool.name not in self.options.no_tool]

    # ---- models ----------------------------------------------------------------------------------------------------

    @cached_property
    def remote(self) -> RemoteAddress | None:
        """Where the model is served; ``None`` for a model on this machine.

        Raises:
            UsageError: the address cannot be used, or ``offline`` is set and it is another machine's.
        """
        from sage_cli.model.remote import RemoteAddress

        address = RemoteAddress.parse(self.options.model) if self.options.model else None
        if address is not None and not address.loopback:
            self.require_network(f"the model at {address.host}")
        return address

    @cached_property
    def bundled(self) -> Nano | None:
        """The nano model that comes with the package, if it is the one in use."""
        return None if self.remote else self.files.bundled

    @cached_property
    def files(self) -> ModelFiles:
        """The model's files.

        Raises:
            ModelError: there are none, or they cannot be used.
        """
        try:
            return find_model(self.options.model, self.options.mmproj)
        except NotInstalledError as missing:
            if self._offer is None or self.options.offline:
                raise
            return find_model(self._offer(missing), self.options.mmproj)

    @cached_property
    def settings(self) -> Settings:
        """How the agent asks, before the plan says how many frames fit; the bundled nano model answers under its own settings alone.

        Raises:
            UsageError: the prompts cannot be used.
        """
        from sage_cli.agent import Settings
        from sage_cli.prompts import Prompts

        given, nano = self.options, self.bundled
        pack = self.pack
        settings = Settings(
            frames=given.frames or (nano.frames if nano else _SERVED_FRAMES if self.remote else 0),
            sampling=given.sampling,
            frame_size=given.frame_size,
            frame_tokens=given.frame_tokens or (nano.frame_tokens if nano else None),
            max_steps=given.max_steps,
            timeout_s=given.timeout or None,
            temperature=given.temperature,
            seed=given.seed,
            prompts=given.prompts or pack,
            pack=pack,
        )
        Prompts(settings.prompts, settings.pack)
        return settings

    @property
    def pack(self) -> str:
        """The prompt pack of the model's family, by what its file says."""
        from sage_cli.prompts import pack_for
        from sage_cli.store.gguf import read_metadata

        if self.bundled:
            return self.bundled.name
        if self.remote:
            return pack_for({}, str(self.options.model))
        return pack_for(read_metadata(self.files.text), self.files.text.stem)

    @cached_property
    def plan(self) -> Fit:
        """The memory plan: what the options leave open, chosen by what this machine can carry as many times as there are jobs."""
        from sage_cli.model.devices import this_machine
        from sage_cli.store.fit import Needs, fit

        given, here = self.options, this_machine()
        share = replace(here, memory=here.memory // given.jobs, gpu=here.gpu // given.jobs, cores=max(1, here.cores // given.jobs))
        return fit(
            Needs.of(self.files),
            share,
            frames=self.settings.frames or None,
            context=given.ctx_size,
            kv_type=given.kv_type,
            gpu_layers=given.gpu_layers,
        )

    @cached_property
    def model(self) -> ChatModel:
        """The model, loaded.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self.remote:
            from sage_cli.model.remote import RemoteModel, api_key

            served = RemoteModel(self.remote, key=api_key(self.remote), context_size=self.options.ctx_size)
            return self._resources.enter_context(served)
        from sage_cli.model.disk import ModelCache
        from sage_cli.model.llama import LlamaModel

        cache = None
        if self.caching and self._model_cache:
            limit = self.options.cache_limit
            prefixes = 0 if self.options.kv_cache == "off" else int(limit * _PREFIXES)
            every = self.options.kv_cache == "on"
            cache = ModelCache(cache_dir(), embeddings=int(limit * _EMBEDDINGS), prefixes=prefixes, everything=every)
            self._resources.enter_context(closing(cache))
        return self._resources.enter_context(
            LlamaModel(
                self.files.text,
                self.files.mmproj,
                context_size=self.plan.context,
                gpu_layers=self.plan.gpu_layers,
                threads=self.options.threads,
                kv_type=self.plan.kv_type,
                cache=cache,
            )
        )

    @cached_property
    def speech_file(self) -> Path | None:
        """The Whisper model; ``None`` if none is installed.

        Raises:
            ModelError: the one that is named cannot be used.
        """
        named = self.options.speech_model
        if named is None and self.options.model is not None and self.bundled:
            named = self.bundled.name
        return find_speech_model(named)

    @cached_property
    def transcriber(self) -> Transcriber:
        """The speech model, loaded.

        Raises:
            ModelError: there is none, or it cannot be used.
            UsageError: an option cannot be used with it.
        """
        from sage_cli.speech import SpeechOptions, Transcriber

        if self.speech_file is None:
            raise ModelError(
                "no speech model: run 'sage models pull whisper-base', or give the path of a Whisper model (ggml-*.bin) to --speech-model"
            )
        given = self.options
        return Transcriber(
            self.speech_file,
            SpeechOptions(
                language=given.language,
                translate=given.translate,
                prompt=given.prompt,
                beam_size=given.beam_size,
                temperature=given.speech_temperature,
                vad=given.vad,
            ),
            threads=given.threads,
        )

    @property
    def model_name(self) -> str:
        """The model's, for people and for names of files."""
        return (self.remote.name or self.remote.host) if self.remote else self.files.text.stem

    @property
    def transcriber_name(self) -> str:
        """The speech model's, for people."""
        return self.speech_file.name if self.speech_file else ""

    # ---- transcribing ----------------------------------------------------------------------------------------------

    def transcribe(self, media: str | Path, *, start: float | None = None, end: float | None = None) -> Iterator[Segment]:
        """What is said in a video or recording, as it is decoded. Stopped half-way, the next call continues there.

        Args:
            media: its path, or ``-`` for stdin; a pipe is read to its end first.
            start, end: the part to transcribe, in seconds; by default what the options say.

        Raises:
            SageError: the media, the speech model or an option cannot be used.
        """
        opened = self.video(media)
        for part in self.parts(opened, start=start, end=end):
            yield from part.segments

    def parts(self, video: Video, *, start: float | None = None, end: float | None = None) -> Generator[Progress]:
        """The same window by window, with how far it has got. Nothing where there is no sound."""
        first, last = self.span(video, start, end)
        if not video.has_audio:
            return
        with closing(_generator(self.transcript(video).parts(first, last))) as parts:
            yield from parts

    def transcript(self, video: Video) -> Transcript:
        """What is said in a video, decoded when a part of it is asked for."""
        from sage_cli.speech import Transcript, TranscriptCache

        cache = TranscriptCache(cache_dir() / "transcripts") if self.caching else None
        return Transcript(self.transcriber, video, video.id, cache)

    def forget(self) -> None:
        """Hold no video, frame and prompt any more, so that the next answer does not depend on earlier ones; loaded models stay."""
        self._videos.clear()
        self._agents.clear()
        if "model" in vars(self):
            self.model.forget()

    def resolved(self) -> Options:
        """The options with what was left open filled in, for processes that share this machine.

        Raises:
            ModelError: there is no model.
        """
        if self.remote:
            return self.options
        files, plan, jobs = self.files, self.plan, self.options.jobs
        return replace(
            self.options,
            model=files.bundled.name if files.bundled else str(files.text),
            mmproj=files.mmproj,
            frames=plan.frames,
            ctx_size=plan.context,
            kv_type=plan.kv_type,
            gpu_layers=plan.gpu_layers,
            threads=self.options.threads or (plan.machine.cores if jobs > 1 else None),
        )

    # ---- limits ----------------------------------------------------------------------------------------------------

    @property
    def caching(self) -> bool:
        """Whether anything may be kept on disk: a cache limit of 0 keeps nothing at all."""
        return self.options.cache_limit > 0

    def require_network(self, purpose: str) -> None:
        """Called before a connection is made for something that the user did not ask the web tools for.

        Args:
            purpose: what needs it, for the message.

        Raises:
            UsageError: ``offline`` is set.
        """
        require_network(self.options, purpose)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _new_agent(self, video: Video, span: tuple[float, float]) -> Agent:
        from sage_cli.agent import Agent

        # How much a server's context holds is known once it is reached; the agent then takes fewer frames.
        settings = self.settings if self.remote else replace(self.settings, frames=self.plan.frames)
        consent = None
        if self.options.web == "ask":
            consent = self._consent or (lambda _request: False)
        return Agent(
            self.model,
            video,
            tools=self.tools(video),
            settings=settings,
            span=span,
            transcriber=(lambda: self.transcript(video)) if self.speech_file else None,
            consent=consent,
        )

    def _local(self, given: str | Path) -> Path:
        """The media as a file that can be read more than once."""
        path = Path(given)
        try:
            if str(given) == STDIN:
                if os.isatty(0):
                    raise UsageError("stdin is a terminal: pipe media into it, or name a file")
                pipe = open(0, "rb", closefd=False)  # noqa: SIM115
            elif path.is_fifo() or path.is_char_device() or path.is_socket():
                pipe = path.open("rb")
            else:
                return path
            copy = self._scratch / f"media-{len(self._videos)}"
            with pipe, copy.open("wb") as file:
                shutil.copyfileobj(pipe, file, 1 << 20)
        except PermissionError as error:
            raise VideoError(f"cannot read {path}: {error.strerror}") from error
        return copy

    @cached_property
    def _scratch(self) -> Path:
        check_scratch()
        return Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="sage-")))


def require_network(options: Options, purpose: str) -> None:
    """Called before a connection is made; see :meth:`Session.require_network`.

    Raises:
        UsageError: ``offline`` is set.
    """
    if options.offline:
        raise UsageError(f"{purpose} needs a connection, and --offline (or the setting offline) allows none")


def _generator(events: Iterator[Any]) -> Generator[Any]:
    """Agents and caches give generators, which hold files and native state until they are closed."""
    assert isinstance(events, Generator)
    return events

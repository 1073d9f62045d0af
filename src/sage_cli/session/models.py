"""The models selected by the options: finds, plans and loads each one on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final
from weakref import finalize

from sage_cli.errors import NOTICES, ModelError, UsageError
from sage_cli.session.options import Options
from sage_cli.signals import interrupted_by, signals_held
from sage_cli.store import ModelFiles, NotInstalledError, cache_dir, check_scratch, find_model, find_speech_model
from sage_cli.store.scratch import scratch_folder

if TYPE_CHECKING:
    from sage_cli.agent import Settings
    from sage_cli.agent.structured import AnswerSchema
    from sage_cli.assets import Nano
    from sage_cli.hardware.plan import MemoryPlan
    from sage_cli.model.address import RemoteAddress
    from sage_cli.model.base import ChatModel
    from sage_cli.speech import Transcriber
    from sage_cli.tools.base import AnyTool

NO_SPEECH_MODEL: Final = (
    "no speech model: run 'sage models pull whisper-base', or give the path of a Whisper model (ggml-*.bin) to --speech-model"
)

# Parts of the cache limit. Transcripts, frame times and web pages are small and have limits of their own.
_EMBEDDINGS: Final = 1 / 3
_PREFIXES: Final = 2 / 3
_SERVED_FRAMES: Final = 128  # frames of the first look of a served model, as in the reference

_inherited: list[ExitStack] = []  # of sessions of the process that this one was forked from: kept, as collecting them removes its files


class Models:
    """The models of a session, loaded on first use.

    Args:
        options: in effect.
        offer: called when a model is not installed; may install one and returns the name to use.
        model_cache: whether frame embeddings and KV prefixes are kept on disk.

    Attributes:
        given: the options as the user gave them: those of a worker process have automatic values filled in.
    """

    def __init__(self, options: Options, *, offer: Callable[[NotInstalledError], str] | None = None, model_cache: bool = True) -> None:
        self.options = self.given = options
        self._offer, self._model_cache = offer, model_cache
        self._resources = ExitStack()
        finalize(self, _release, self._resources, os.getpid()).atexit = False  # one that is dropped and not closed
        self._loading: Future[ChatModel] | None = None
        self._unwanted = Event()  # ends the loading

    def close(self) -> None:
        """Free models and temporary files. Safe to call again; later use loads them again."""
        self._end_loading()
        self._resources.close()
        for name in ("model", "transcriber", "allowed_tools", "_scratch", "_frame_times"):
            vars(self).pop(name, None)

    def interrupt(self) -> None:
        """Stop the work of a loaded model, from any thread; its caller gets a KeyboardInterrupt. See :meth:`ChatModel.interrupt`."""
        for name in ("model", "transcriber"):
            if (loaded := vars(self).get(name)) is not None:
                loaded.interrupt()

    def load(self) -> Future[ChatModel]:
        """Load :attr:`model` in the background. Who waits for it may give up: the loading goes on, and the next call gets the same future.

        Until it is done, the session may be used for anything that needs no model.
        """
        from sage_cli.hardware.threads import background

        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            with signals_held():  # :meth:`close` waits for the thread if and only if there is one
                loading: Future[ChatModel] = Future()
                background(partial(self._load, loading), "sage-model")
                self._loading = loading
        return self._loading

    def _load(self, loading: Future[ChatModel]) -> None:
        try:
            with interrupted_by(self._unwanted):
                loading.set_result(self.model)
        except BaseException as error:  # noqa: BLE001  (passed to whoever waits)
            loading.set_exception(error)

    def _end_loading(self) -> None:
        """The thread must not outlive the session, nor the process."""
        if self._loading is not None:
            self._unwanted.set()
            wait([self._loading])
            self._unwanted.clear()
            self._loading = None

    @cached_property
    def caching(self) -> bool:
        """Whether anything may be cached on disk. A cache limit of 0 turns all caches off; a cache that only another user may open, as
        after a run by root, is none."""
        if not self.options.cache_limit:
            return False
        try:
            os.scandir(cache_dir()).close()
        except PermissionError:
            NOTICES.warning("nothing is cached: %s belongs to another user; set SAGE_CACHE_DIR", cache_dir())
            return False
        except OSError:  # it will be made, or tell what is wrong
            pass
        return True

    # ---- the model that answers ----------------------------------------------------------------------------------------

    @cached_property
    def remote(self) -> RemoteAddress | None:
        """Address of the server of the model; ``None`` for a local model.

        Raises:
            UsageError: the address cannot be used, or ``offline`` is set and the server is another machine.
        """
        from sage_cli.model.address import RemoteAddress

        address = RemoteAddress.parse(self.options.model) if self.options.model else None
        if address is not None and not address.loopback:
            require_network(self.options, f"the model at {address.host}")
        return address

    @cached_property
    def bundled(self) -> Nano | None:
        """The nano model if it is in use: the bundled one, or one made by its recipe."""
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
        """Settings of the agent, before the memory plan limits the frames. The bundled nano model requires its own settings.

        Raises:
            UsageError: the prompts cannot be used.
            ModelError: a server that has to be asked for the model's name cannot be reached.
        """
        from sage_cli.agent import Settings
        from sage_cli.prompts import Prompts

        given, nano = self.options, self.bundled
        pack = self.pack
        return Settings(
            frames=self._frames,
            sampling=given.sampling,
            frame_size=given.frame_size,
            frame_tokens=given.frame_tokens or (nano.frame_tokens if nano else None),
            max_steps=given.max_steps,
            timeout_s=given.timeout or None,
            temperature=given.temperature,
            seed=given.seed,
            schema=self.schema,
            direct_prompt=given.direct_prompt,
            prompts=Prompts(given.prompts or pack, pack),
        )

    @cached_property
    def schema(self) -> AnswerSchema | None:
        """The JSON schema of answers.

        Raises:
            UsageError: it cannot be used.
        """
        if self.options.schema is None:
            return None
        from sage_cli.session.schema import read_schema

        return read_schema(self.options.schema)

    @cached_property
    def allowed_tools(self) -> list[AnyTool]:
        """The enabled tools, for any video.

        Raises:
            UsageError: an option disables an unknown tool, or the web options are invalid.
        """
        from sage_cli.tools import TOOLS, WEB_TOOLS, web_tools

        known = [tool.name for tool in TOOLS]
        for name in self.options.no_tool:
            if name not in (*known, *WEB_TOOLS):
                raise UsageError(f"--no-tool {name}: there is no such tool; there are {', '.join((*known, *WEB_TOOLS))}")
        if self.options.direct:
            return []
        found = list(TOOLS)
        if self.options.web != "off":
            from sage_cli.web import Web, WebSettings

            settings = WebSettings.from_environment(
                provider=self.options.search_provider, searxng_url=self.options.searxng_url, offline=self.options.offline
            )
            found += web_tools(Web(settings, cache_dir() / "web" if self.caching else self._scratch / "web"))
        return [tool for tool in found if tool.name not in self.options.no_tool]

    @property
    def pack(self) -> str:
        """The prompt pack of the model's family, according to its file or to the name by which it is served."""
        from sage_cli.prompts import pack_for
        from sage_cli.store.gguf import read_metadata

        if self.bundled:
            return self.bundled.name
        if self.remote:
            return pack_for({}, self.remote.name or self.served_name)  # runs of the log need no server
        return pack_for(read_metadata(self.files.text), self.files.text.stem)

    @property
    def _frames(self) -> int:
        """Maximum frames of the first look, before the memory plan; 0 leaves them to it."""
        return self.options.frames or (self.bundled.frames if self.bundled else _SERVED_FRAMES if self.remote else 0)

    @cached_property
    def plan(self) -> MemoryPlan:
        """The memory plan: values for options that are not set, so that all jobs fit this machine."""
        from sage_cli.hardware.plan import Needs, plan_memory
        from sage_cli.model.devices import this_machine

        given, here = self.options, this_machine()
        share = replace(here, memory=here.memory // given.jobs, gpu=here.gpu // given.jobs, cores=max(1, here.cores // given.jobs))
        return plan_memory(
            Needs.of(self.files),
            share,
            frames=self._frames or None,
            context=given.ctx_size,
            kv_type=given.kv_type,
            gpu_layers=given.gpu_layers,
        )

    @property
    def threads(self) -> int:
        """CPU threads that a local model computes with."""
        from sage_cli.hardware.threads import compute_threads

        return self.options.threads or compute_threads()

    @cached_property
    def model(self) -> ChatModel:
        """The model, loaded.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self.remote:
            from sage_cli.model.address import api_key
            from sage_cli.model.endpoints import Endpoints
            from sage_cli.model.remote import RemoteModel

            if self.remote.others:
                return self._resources.enter_context(Endpoints(self.remote, context_size=self.options.ctx_size))
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
                threads=self.threads,
                sharing=self.options.threads is None and self._model_cache,
                kv_type=self.plan.kv_type,
                cache=cache,
            )
        )

    @cached_property
    def speech_file(self) -> Path | None:
        """The Whisper model; ``None`` if none is installed.

        Raises:
            ModelError: the named model cannot be used.
        """
        named = self.options.speech_model
        if named is None and self.options.model is not None:
            # Not self.bundled, which offers to download: speech is transcribed also where the other model cannot be used.
            with suppress(ModelError):
                bundled = find_model(self.options.model, self.options.mmproj).bundled
                named = str(bundled.speech) if bundled else None
        return find_speech_model(named)

    @cached_property
    def spoken_language(self) -> str:
        """The language of the speech to hear; ``"auto"`` for any. A speech model that knows English only hears English."""
        from sage_cli.speech.ggml import check_whisper

        if self.options.language == "auto":
            with suppress(ModelError):  # told when speech is transcribed
                if self.speech_file is not None and not check_whisper(self.speech_file).multilingual:
                    return "en"
        return self.options.language

    def is_spoken(self, language: str) -> bool:
        """Whether an audio track in this language, as the file has it, is to be heard. Asked where there are several: it looks into the
        speech model."""
        from sage_cli.speech.codes import short

        return self.spoken_language != "auto" and short(language) == short(self.spoken_language)

    @cached_property
    def transcriber(self) -> Transcriber:
        """The speech model, loaded.

        Raises:
            ModelError: there is none, or it cannot be used.
            UsageError: an option cannot be used with it.
        """
        from sage_cli.speech import SpeechOptions, Transcriber

        if self.speech_file is None:
            raise ModelError(NO_SPEECH_MODEL)
        given = self.options
        return Transcriber(
            self.speech_file,
            SpeechOptions(
                temperature=given.speech_temperature,
                **{one.name: getattr(given, one.name) for one in fields(SpeechOptions) if one.name != "temperature"},
            ),
            threads=given.threads,
            remember=self.caching,
        )

    @property
    def model_name(self) -> str:
        """Name of the model, for people and file names."""
        return (self.remote.name or self.remote.host) if self.remote else self.files.text.stem

    @property
    def served_name(self) -> str:
        """Name of the served model, as the server lists it: the same for all names that the server knows it by. While the server cannot be
        reached, the name that was given.

        Raises:
            ModelError: the server cannot be reached, and no name was given.
        """
        from sage_cli.model.refusals import UnreachableError

        try:
            return self.model.info.name
        except UnreachableError:
            if self.remote and self.remote.name:
                return self.remote.name
            raise

    @property
    def transcriber_name(self) -> str:
        """Name of the speech model, for people."""
        return self.speech_file.name if self.speech_file else ""

    def resolved(self) -> Options:
        """The options with all automatic values filled in, for worker processes on this machine.

        Raises:
            ModelError: there is no model.
        """
        # A worker on another machine may not have the schema's file.
        options = replace(self.options, schema=self.schema.text) if self.schema else self.options
        if self.speech_file:  # another one may be installed before a worker starts
            options = replace(options, speech_model=str(self.speech_file))
        if self.remote:
            return options
        from sage_cli.model.llama import MOST_THREADS

        files, plan, jobs = self.files, self.plan, options.jobs
        return replace(
            options,
            model=str(files.text),
            mmproj=files.mmproj,
            frames=plan.frames,
            ctx_size=plan.context,
            kv_type=plan.kv_type,
            gpu_layers=plan.gpu_layers,
            threads=options.threads or (min(plan.machine.cores, MOST_THREADS) if jobs > 1 else None),
        )

    # ---- inside ----------------------------------------------------------------------------------------------------

    @cached_property
    def _scratch(self) -> Path:
        check_scratch()
        return Path(self._resources.enter_context(scratch_folder()))


def _release(resources: ExitStack, process: int) -> None:
    if os.getpid() == process:
        resources.close()
    else:
        _inherited.append(resources)


def require_network(options: Options, purpose: str) -> None:
    """Call before every connection other than those of the web tools.

    Args:
        purpose: what needs the connection, for the message.

    Raises:
        UsageError: ``offline`` is set.
    """
    if options.offline:
        raise UsageError(f"{purpose} needs a connection, and --offline (or the setting offline) allows none")

"""``sage ask VIDEO QUESTION``: the whole path from a file to an answer."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from sage_cli.cli import console, nano
from sage_cli.cli.complete import media_files, usable_models
from sage_cli.cli.options import setting
from sage_cli.errors import EXIT_NO_ANSWER, UsageError, VideoError

if TYPE_CHECKING:
    from sage_cli.store import ModelFiles
    from sage_cli.store.fit import Fit
    from sage_cli.tools.workspace import SpeechModel
    from sage_cli.video import Video
    from sage_cli.web import Web
    from sage_cli.web.settings import ProviderName

STDIN = "-"
WEB = ("off", "ask", "on")

EXAMPLES = """[bold]Examples[/]
  sage ask talk.mp4 "Who speaks first?" "What is on the last slide?"
  sage ask talk.mp4 "What is she holding?" --start 12:30 --end 13:00
  sage ask talk.mp4 "What is it about?" --json | jq -r .answer
  sage ask talk.mp4 - --frames 64 < questions.txt"""


class AskCommand(TyperCommand):
    """Lets ``--web`` stand alone for ``--web=on``; typer itself has no options whose value can be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        alone = {at for at, word in enumerate(args[:end]) if word == "--web" and args[at + 1 : at + 2] not in [[value] for value in WEB]}
        return super().parse_args(ctx, ["--web=on" if at in alone else word for at, word in enumerate(args)])


COMMAND = AskCommand


def ask(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video file.", show_default=False, autocompletion=media_files)],
    questions: Annotated[
        list[str],
        typer.Argument(
            metavar="QUESTION...", help="What to ask about it; [bold]-[/] reads questions from stdin, one a line.", show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        setting(
            "Model",
            "--model",
            "-m",
            metavar="PATH|NAME",
            help="Model GGUF, a folder with it and its mmproj, or the name of an installed model.",
            autocompletion=usable_models,
        ),
    ] = None,
    mmproj: Annotated[
        Path | None, setting("Model", "--mmproj", metavar="PATH", help="Vision encoder GGUF. Default: the one beside the model.")
    ] = None,
    speech_model: Annotated[
        str | None,
        setting(
            "Model",
            "--speech-model",
            metavar="PATH|NAME",
            help="Whisper model, ggml-*.bin. Default: the largest installed.",
            autocompletion=usable_models,
        ),
    ] = None,
    ctx_size: Annotated[
        int | None,
        setting("Model", "--ctx-size", min=256, metavar="N", help="Context size in tokens. Default: what fits, 16384 at most."),
    ] = None,
    gpu_layers: Annotated[
        int | None, setting("Model", "--gpu-layers", min=0, metavar="N", help="Layers to run on the GPU. Default: all.")
    ] = None,
    threads: Annotated[
        int | None, setting("Model", "--threads", min=1, metavar="N", help="CPU threads. Default: the number of cores.")
    ] = None,
    kv_type: Annotated[
        Literal["f16", "q8_0"] | None,
        setting("Model", "--kv-type", help="KV cache precision; q8_0 halves its memory. Default: f16, where it fits."),
    ] = None,
    kv_cache: Annotated[
        Literal["auto", "on", "off"],
        setting(
            "Model",
            "--kv-cache",
            help="Keep what the model has read of the video on disk for later runs: [bold]auto[/] where it took long and leaves room "
            "for others, [bold]on[/] always, [bold]off[/] never. Default: auto.",
        ),
    ] = "auto",
    seed: Annotated[int, setting("Model", "--seed", min=0, metavar="N", help="Seed of the sampler. Default: 0.")] = 0,
    temperature: Annotated[
        float, setting("Model", "--temperature", min=0.0, max=2.0, metavar="T", help="0 (the default) is deterministic.")
    ] = 0.0,
    frames: Annotated[
        int | None,
        setting("Looking", "--frames", min=1, metavar="N", help="Most frames of the first look. Default: what fits, 128 at most."),
    ] = None,
    sampling: Annotated[
        Literal["exact", "keyframe", "auto"],
        setting(
            "Looking",
            "--sampling",
            help="The first look's frames: those at even times; the nearest keyframes, which is quicker; or auto: keyframes where they are"
            " close to even times. Default: exact.",
        ),
    ] = "exact",
    frame_tokens: Annotated[
        int | None, setting("Looking", "--frame-tokens", min=1, metavar="N", help="Most tokens a frame pair may take.")
    ] = None,
    start: Annotated[
        str | None, setting("Looking", "--start", metavar="TIME", help="Ask about the part from here: SS, MM:SS or HH:MM:SS.")
    ] = None,
    end: Annotated[str | None, setting("Looking", "--end", metavar="TIME", help="... to here.")] = None,
    tools: Annotated[
        bool, setting("Looking", "--tools/--no-tools", help="Let the model look again with tools, or answer at once. Default: tools.")
    ] = True,
    max_steps: Annotated[int, setting("Looking", "--max-steps", min=1, metavar="N", help="Most reasoning steps. Default: 10.")] = 10,
    timeout: Annotated[
        float, setting("Looking", "--timeout", min=0.0, metavar="SECONDS", help="Time limit a question; 0 is none. Default: 300.")
    ] = 300.0,
    web: Annotated[
        Literal["off", "ask", "on"],
        setting(
            "Web",
            "--web",
            metavar="[=ask]",
            help="Let the model search the web and read pages; [bold]=ask[/] asks you before anything is sent. Default: off.",
        ),
    ] = "off",
    search_provider: Annotated[
        Literal["ddgs", "serper", "brave", "searxng"],
        setting("Web", "--search-provider", help="Who searches; serper and brave need SAGE_SEARCH_KEY. Default: ddgs, without a key."),
    ] = "ddgs",
    searxng_url: Annotated[str | None, setting("Web", "--searxng-url", metavar="URL", help="Address of your own SearXNG.")] = None,
    offline: Annotated[bool, setting("Web", "--offline", help="Ask nobody: only what the cache holds of the web.")] = False,
    prompts_dir: Annotated[
        Path | None, setting("Looking", "--prompts-dir", metavar="DIR", help="Folder with prompt files that replace ours.")
    ] = None,
    json: Annotated[bool, setting("Output", "--json", help="One JSON object a question.")] = False,
    jsonl: Annotated[bool, setting("Output", "--jsonl", help="Every event as a line of JSON, as it happens.")] = False,
    quiet: Annotated[bool, setting("Output", "--quiet", "-q", help="Nothing but answers and errors.")] = False,
    verbose: Annotated[bool, setting("Output", "--verbose", "-v", help="Token counts, timings and library logs too.")] = False,
    debug: Annotated[bool, setting("Output", "--debug", help="Tracebacks and all logs.")] = False,
) -> int:
    """Ask questions about a video.

    The model looks at frames from the whole video first; if that is not enough it uses tools: it transcribes speech, finds events, looks
    closely at parts. Every option can be set by an environment variable: SAGE_MODEL, SAGE_CTX_SIZE, ...
    """
    console.log(verbose=verbose, debug=debug)
    if json and jsonl:
        raise UsageError("--json and --jsonl exclude each other: choose one")
    asked = _questions(questions)

    # Cheapest first: nobody should wait for a model only to learn of a mistyped path.
    from sage_cli.store import NotInstalledError, cache_dir, check_scratch, find_model, find_speech_model

    try:
        files = find_model(model, mmproj)
    except NotInstalledError as missing:
        from sage_cli.cli.models import offer

        files = find_model(offer(missing, offline=offline), mmproj)
    speech = find_speech_model(nano.speech_model(speech_model, files))
    if tools:
        check_scratch()
    if web == "ask" and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--web=ask needs a terminal to ask on: use --web, or leave it out")

    from sage_cli.agent import Agent, Settings
    from sage_cli.agent.events import Working
    from sage_cli.cli.consent import Consent
    from sage_cli.cli.renderers import follow, renderer
    from sage_cli.prompts import TRAINED
    from sage_cli.store import config
    from sage_cli.tools import TOOLS, web_tools

    limit = int(config.current().cache_limit)
    opened = _open(video, remember=limit > 0)
    span = _span(start, end, opened.duration)
    settings = nano.as_trained(
        Settings(
            frames=frames or 0,
            sampling=sampling,
            frame_tokens=frame_tokens,
            max_steps=max_steps,
            timeout_s=timeout or None,
            temperature=temperature,
            seed=seed,
            prompts=str(prompts_dir or TRAINED),
        ),
        files,
    )
    nano.warn(files, quiet=quiet)
    hears = speech is not None and opened.has_audio
    online = _web(search_provider, searxng_url, offline) if tools and web != "off" else None
    with ExitStack() as stack:
        view = stack.enter_context(
            renderer("json" if json else "jsonl" if jsonl else "text", quiet=quiet, verbose=verbose, several=len(asked) > 1)
        )
        view.show(Working(0.0, 0, "load", 0, 0))

        fitted = _fit(files, quiet, verbose, frames=settings.frames or None, context=ctx_size, kv_type=kv_type, gpu_layers=gpu_layers)

        from sage_cli.model.disk import ModelCache
        from sage_cli.model.llama import LlamaModel
        from sage_cli.store.cache import note_media

        note_media(opened.id, video)
        prefixes = 0 if kv_cache == "off" else limit * 2 // 3
        kept = ModelCache(cache_dir(), embeddings=limit // 3, prefixes=prefixes, everything=kv_cache == "on")
        cache = stack.enter_context(closing(kept))
        loaded = stack.enter_context(
            LlamaModel(
                files.text,
                files.mmproj,
                context_size=fitted.context,
                gpu_layers=fitted.gpu_layers,
                threads=threads,
                kv_type=fitted.kv_type,
                cache=cache,
            )
        )
        agent = Agent(
            loaded,
            opened,
            tools=[*(tool for tool in TOOLS if hears or tool.name != "transcribe-speech"), *(web_tools(online) if online else ())]
            if tools
            else [],
            settings=replace(settings, frames=fitted.frames),
            span=span,
            transcriber=partial(_transcriber, speech, opened, threads) if speech else None,
            consent=Consent() if web == "ask" else None,
        )
        answered = [follow(agent, question, view) for question in asked]
    return 0 if all(answered) else EXIT_NO_ANSWER


def _fit(files: ModelFiles, quiet: bool, verbose: bool, **given: Any) -> Fit:
    """What was left open, chosen by what this machine can carry; a person is told where that is less than the usual."""
    from sage_cli.model.devices import this_machine
    from sage_cli.store.fit import Needs, fit

    fitted = fit(Needs.of(files), this_machine(), **given)
    if not quiet and (verbose or not fitted.fits or (fitted.reduced and sys.stderr.isatty())):
        console.say(f"{'fitted to this machine' if fitted.fits else 'this machine has too little memory'}: {fitted.text}")
    return fitted


def _transcriber(model: Path, video: Video, threads: int | None) -> SpeechModel:
    from sage_cli.speech import Transcriber, Transcript, TranscriptCache
    from sage_cli.store import cache_dir

    return Transcript(Transcriber(model, threads=threads), video, video.id, TranscriptCache(cache_dir() / "transcripts"))


def _web(provider: ProviderName, searxng_url: str | None, offline: bool) -> Web:
    from sage_cli.store import cache_dir
    from sage_cli.web import Web, WebSettings

    return Web(WebSettings.from_environment(provider=provider, searxng_url=searxng_url, offline=offline), cache_dir() / "web")


def _open(path: Path, *, remember: bool) -> Video:
    from sage_cli.store import cache_dir
    from sage_cli.store.content import remember_fingerprints
    from sage_cli.video import FrameTimeCache, Video

    remember_fingerprints(remember)
    video = Video(path, cache=FrameTimeCache(cache_dir() / "times") if remember else None)
    if not video.has_video:
        raise VideoError(f"{path} has sound but no picture: give a video file")
    return video


def _span(start: str | None, end: str | None, duration: float) -> tuple[float, float]:
    """The part asked about, in seconds; an end past the video's is the video's."""
    from sage_cli.timecode import format_clock, parse

    first, last = parse(start) if start else 0.0, min(parse(end), duration) if end else duration
    if first >= last:
        raise UsageError(f"nothing lies between --start and --end: the video goes from 00:00:00 to {format_clock(duration)}")
    return first, last


def _questions(arguments: list[str]) -> list[str]:
    """The questions in order, ``-`` replaced by the lines of stdin."""
    questions: list[str] = []
    for argument in arguments:
        if argument == STDIN:
            questions += [line.strip() for line in sys.stdin if line.strip()]
        elif argument.strip():
            questions.append(argument.strip())
        else:
            raise UsageError("the question is empty: write what you want to know about the video")
    if not questions:
        raise UsageError("no question on stdin: write one a line")
    return questions

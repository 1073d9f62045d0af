"""Every option of sage, defined once: adding an option to a command is one line in :class:`Options`.

Command options, ``SAGE_*`` variables, settings keys, reference pages and the Python API are all derived from it.
``--help`` imports this module, so it may import only the standard library. Values are checked in :mod:`sage_cli.session.values`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from sage_cli.session.option import LOOKING, MODEL, NOWHERE, OUTPUT, QUESTIONS, RUN, SPEECH, WEB, Option, option, setting

_ASKS = "ask chat mcp ground summary"  # commands that answer with a model in a session of their own
_LOOKS = f"{_ASKS} bench"
_RUNS = "ask chat mcp bench"  # commands that answer questions
_ALL = f"{_LOOKS} transcribe"
_OPENS = f"{_ALL} frames"  # commands that open videos of the user's


def _moment(help: str) -> Any:
    """The start or the end of what is looked at."""
    commands, per = "ask ground summary transcribe frames", {"transcribe": {"panel": SPEECH}, "frames": {"panel": NOWHERE}}
    return option(None, LOOKING, commands, help, "TIME", kind="time", at_least=0.0, per=per)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options in effect. :func:`sage_cli.session.load_options` explains where values come from.

    ``None`` means automatic: chosen by the machine, the model or the command. Picklable, for worker processes. An invalid value raises a
    ``UsageError``.
    """

    model: str | None = setting(
        None,
        MODEL,
        _LOOKS,
        "Model name, GGUF file, or server.",
        "NAME|PATH|URL",
        flags="-m",
        auto="see 'sage models default'",
        complete="usable_models",
        kind="path",
    )
    mmproj: Path | None = setting(
        None, MODEL, _LOOKS, "Vision encoder, a GGUF file.", "PATH", auto="the one beside the model", kind="path", advanced=True
    )
    speech_model: str | None = setting(
        None,
        MODEL,
        _ALL,
        "Whisper model: a ggml-*.bin file or an installed model's name.",
        "NAME|PATH",
        auto="the largest installed",
        complete="usable_models",
        kind="path",
        per={"transcribe": {"flags": ("--model", "-m", "--speech-model"), "advanced": False}},
        advanced=True,
    )
    # The bounds are those of model/llama.py, which cannot be imported here: it takes too long for --help.
    ctx_size: int | None = setting(
        None, MODEL, _LOOKS, "Context size in tokens.", "N", at_least=256, at_most=1 << 22, auto="what fits, up to 16384", advanced=True
    )
    gpu_layers: int | None = setting(
        None, MODEL, _LOOKS, "Layers to run on the GPU.", "N", at_least=0, at_most=9999, auto="all that fit", advanced=True
    )
    threads: int | None = setting(
        None,
        MODEL,
        f"{_ALL} demo",
        "CPU threads.",
        "N",
        at_least=1,
        at_most=512,
        auto="the number of cores",
        per={
            "bench": {"help": "CPU threads per worker.", "auto": "the cores, shared"},
            "transcribe": {"auto": "the number of cores, up to 8"},
        },
    )
    kv_type: Literal["f16", "q8_0"] | None = setting(
        None, MODEL, _LOOKS, "KV cache precision; q8_0 halves its memory.", auto="f16 where it fits", advanced=True
    )
    kv_cache: Literal["auto", "on", "off"] = setting(
        "auto", MODEL, _ASKS, "Save KV prefixes for later runs; auto saves those that took long.", advanced=True
    )
    seed: int = setting(0, MODEL, f"{_RUNS} summary", "Sampling seed.", "N", at_least=0, at_most=(1 << 32) - 2, advanced=True)
    temperature: float = setting(
        0.0, MODEL, f"{_RUNS} summary", "Sampling temperature; 0 is deterministic.", "T", at_least=0.0, at_most=2.0, advanced=True
    )

    frames: int | None = setting(
        None, LOOKING, _LOOKS, "Maximum frames in the first look.", "N", at_least=1, at_most=1 << 16, auto="what fits, up to 128"
    )
    sampling: Literal["exact", "keyframe", "auto"] = setting(
        "exact", LOOKING, _RUNS, "Frames at even times, the nearest keyframes (faster), or whichever suits.", advanced=True
    )
    frame_tokens: int | None = setting(
        None,
        LOOKING,
        _LOOKS,
        "Maximum tokens per frame pair or still.",
        "N",
        at_least=1,
        at_most=1 << 16,
        auto="the model's",
        advanced=True,
    )
    start: float | None = _moment("Start time: SS, MM:SS or HH:MM:SS.")
    end: float | None = _moment("End time.")
    tools: bool = setting(True, LOOKING, "ask chat mcp", "Use tools; --no-tools answers from the first look.")
    direct: bool = option(False, LOOKING, "bench", "Answer from the first look, without tools: the paper's baseline.")
    direct_prompt: bool = option(False, LOOKING, "bench", "Ask direct answers by the paper's prompt: think, then answer.", advanced=True)
    no_tool: tuple[str, ...] = option(
        (), LOOKING, _RUNS, "Disable a tool, such as ground-event; repeatable.", "NAME", complete="tool_names", advanced=True
    )
    max_steps: int = setting(10, LOOKING, _RUNS, "Maximum reasoning steps.", "N", at_least=1, at_most=1000, advanced=True)
    timeout: float = setting(0.0, LOOKING, _RUNS, "Time limit per question; 0 for none.", "SECONDS", at_least=0.0, at_most=1e9)
    frame_size: Literal["reference", "paper"] = setting(
        "reference", LOOKING, _LOOKS, "Frame size of the released weights, or the larger one of the paper.", advanced=True
    )
    prompts: str | None = setting(
        None,
        LOOKING,
        _LOOKS,
        "Prompts: sage-mm, general, or a folder with prompt files.",
        "NAME|DIR",
        auto="by the model",
        kind="path",
        advanced=True,
    )

    web: Literal["off", "ask", "on"] = setting(
        "off", WEB, "ask chat mcp", "Let the model use the web; =ask asks you before each request.", "[=ask]", alone="on"
    )
    search_provider: Literal["ddgs", "serper", "brave", "searxng"] = setting(
        "ddgs", WEB, "ask chat mcp", "Search engine; serper and brave need SAGE_SEARCH_KEY.", advanced=True
    )
    searxng_url: str | None = setting(None, WEB, "ask chat mcp", "Base URL of your SearXNG instance.", "URL", advanced=True)
    offline: bool = setting(
        False,
        WEB,
        _OPENS,
        "Make no connections; use cached results only.",
        per={"transcribe": {"panel": RUN}, "bench": {"panel": RUN}, "frames": {"panel": OUTPUT}},
    )

    language: str = setting("auto", SPEECH, "transcribe", "Spoken language: en, de, zh ...", "CODE", flags="-l", auto="auto-detect")
    subtitles: bool = setting(
        True,
        SPEECH,
        "ask chat mcp summary",
        "Use subtitle files and tracks as the transcript; --no-subtitles decodes speech.",
        advanced=True,
    )
    source: Literal["speech", "subtitles", "auto"] = option(
        "speech", SPEECH, "transcribe", "Decode speech, convert subtitles, or use subtitles where there are any.", flags="--from"
    )
    translate: bool = option(False, SPEECH, "transcribe", "Translate to English.")
    prompt: str = option("", SPEECH, "transcribe", "Text that sets spelling and style, such as names that occur.", "TEXT", kind="words")
    hotwords: str = option("", SPEECH, "transcribe", "Words that may occur, such as names.", "WORDS", kind="words")
    multilingual: bool = option(False, SPEECH, "transcribe", "Detect the language again wherever it changes.")
    context: bool = option(True, SPEECH, "transcribe", "Let the text so far guide what follows.", advanced=True)
    denoise: bool = option(True, SPEECH, "transcribe", "Take steady noise out before decoding.", advanced=True)
    vad: bool = option(True, SPEECH, "transcribe", "Skip what is not speech; --no-vad decodes everything.")
    vad_threshold: float = option(
        0.5, SPEECH, "transcribe", "Probability from which sound is speech.", "P", at_least=0.01, at_most=0.99, advanced=True
    )
    vad_padding: float = option(
        0.26, SPEECH, "transcribe", "Sound to keep around speech.", "SECONDS", at_least=0.0, at_most=2.0, advanced=True
    )
    beam_size: int | None = option(
        None, SPEECH, "transcribe", "Beams of a beam search; 1 decodes greedily.", "N", at_least=1, at_most=8, auto="5"
    )
    speech_temperature: float = option(
        0.0, SPEECH, "transcribe", "Sampling temperature.", "T", flags="--temperature", at_least=0.0, at_most=1.0, advanced=True
    )
    no_speech_threshold: float = option(
        0.6,
        SPEECH,
        "transcribe",
        "No-speech probability that drops unlikely text.",
        "P",
        at_least=0.0,
        at_most=1.0,
        advanced=True,
    )
    entropy_threshold: float = option(
        2.4, SPEECH, "transcribe", "Entropy below which text counts as a loop.", "X", at_least=0.0, at_most=10.0, advanced=True
    )
    logprob_threshold: float = option(
        -1.0, SPEECH, "transcribe", "Mean log-probability below which text is a guess.", "X", at_least=-100.0, at_most=0.0, advanced=True
    )
    suppress_regex: str = option("", SPEECH, "transcribe", "Tokens never to write.", "REGEX", kind="words", advanced=True)
    suppress_non_speech: bool = option(False, SPEECH, "transcribe", "Never write annotations or music notes.", advanced=True)

    videos: Path | None = option(None, QUESTIONS, "bench", "Folder with the videos.", "DIR", auto="the question set's", kind="path")
    limit: int | None = option(None, QUESTIONS, "bench", "Ask only the first N questions.", "N", at_least=1)
    filter: tuple[str, ...] = option(
        (), QUESTIONS, "bench", "Select questions: modality=verbal, duration=600-1200 ...; repeatable.", "KEY=VALUE"
    )
    judge: str | None = option(
        None,
        QUESTIONS,
        "bench",
        "exact, choice, model, or the base URL of an OpenAI-compatible server (key: SAGE_JUDGE_KEY).",
        "JUDGE",
        auto="choice",
    )
    judge_model: str | None = option(None, QUESTIONS, "bench", "Model to ask at the judge's URL.", "NAME")

    jobs: int = option(
        1, RUN, "ask bench transcribe", "Worker processes, each with its own model.", "N", flags="-j", at_least=1, at_most=1024
    )
    recursive: bool = option(
        False, RUN, "ask transcribe", "Search the folders in a folder, too.", flags="-r", per={"ask": {"advanced": True}}
    )
    executor: Literal["local", "ray"] = option("local", RUN, "bench", "Where the workers run.")
    resume: bool = option(
        False,
        RUN,
        "ask bench",
        "Continue the run in the output folder.",
        per={"ask": {"help": "Take answers from the log; ask only what it lacks.", "advanced": True}},
    )
    compare: str | None = option(
        None, RUN, "bench", "Compare with another run; direct runs it now, without tools.", "RUN|direct", kind="path"
    )

    format: Literal["txt", "srt", "vtt", "json", "jsonl", "csv", "tsv", "lrc", "md"] | None = option(
        None, OUTPUT, "transcribe", "File format.", flags="-f", auto="by the suffix of --output, else txt"
    )
    output: str | None = option(
        None,
        OUTPUT,
        "transcribe bench frames",
        "Output file, or folder (DIR/, or a new name without a suffix).",
        "FILE|DIR|-",
        flags="-o",
        auto="stdout",
        kind="path",
        per={
            "bench": {"help": "Folder for results and report.", "metavar": "DIR", "auto": "named after the question set and the model"},
            "frames": {"help": "Folder for the pictures.", "metavar": "DIR", "auto": "this one"},
        },
    )
    words: bool = option(False, OUTPUT, "transcribe", "Add the time of every word (json, jsonl).")
    max_line_width: int = option(
        42, OUTPUT, "transcribe", "Maximum characters per subtitle line (srt, vtt).", "N", at_least=8, at_most=10000
    )
    max_line_count: int = option(2, OUTPUT, "transcribe", "Maximum lines per subtitle.", "N", at_least=1, at_most=100)
    max_cue_seconds: float = option(7.0, OUTPUT, "transcribe", "Maximum length of a segment.", "SECONDS", at_least=1.0, at_most=60.0)
    skip_existing: bool = option(False, OUTPUT, "transcribe", "Skip files that already have a transcript.")
    json: bool = option(
        False,
        OUTPUT,
        "ask chat demo ground summary bench transcribe frames",
        "Print one JSON object per result.",
        per={
            "bench": {"help": "Print the report as JSON."},
            "transcribe": {"help": "Print one JSON object per file: --format json."},
            "frames": {"help": "Print one JSON object per picture."},
        },
    )
    jsonl: bool = option(
        False,
        OUTPUT,
        "ask chat demo transcribe",
        "Print every event as a line of JSON.",
        per={"transcribe": {"help": "Print every segment as a line of JSON: --format jsonl."}},
    )
    quiet: bool = option(False, OUTPUT, f"{_OPENS} demo", "Print results and errors only.", flags="-q")
    verbose: bool = option(False, OUTPUT, f"{_OPENS} demo", "Show token counts, timings and library logs.", flags="-v")
    debug: bool = option(False, OUTPUT, f"{_OPENS} demo", "Show tracebacks and all logs.", advanced=True)
    no_color: bool = option(False, OUTPUT, f"{_OPENS} demo", "Print without colours; works everywhere.", advanced=True)

    question: tuple[str, ...] = option((), QUESTIONS, "ask", "Ask about all VIDEOs; repeatable.", "TEXT")
    schema: str | None = option(None, OUTPUT, "ask bench summary", "JSON schema that answers obey.", "FILE|JSON", kind="path")
    report: str | None = option(None, OUTPUT, "ask", "Write a report, .html or .md.", "FILE", kind="path")
    margin: float = option(0.0, OUTPUT, "ground", "Seconds to add before and after each span.", "SECONDS", at_least=0.0, at_most=3600.0)
    clips: str | None = option(
        None,
        OUTPUT,
        "ask ground",
        "Save the evidence as clips.",
        "DIR",
        kind="path",
        per={"ground": {"help": "Save each span as a clip.", "advanced": False}},
        advanced=True,
    )
    stills: str | None = option(
        None,
        OUTPUT,
        "ask ground",
        "Save the evidence as pictures.",
        "DIR",
        kind="path",
        per={"ground": {"help": "Save pictures of each span.", "advanced": False}},
        advanced=True,
    )
    log: bool = setting(True, OUTPUT, "ask chat", "Keep questions and answers in the log; see `sage help chat`.", advanced=True)

    cache_limit: int = setting(
        12_000_000_000, NOWHERE, "", "Maximum size of the cache, such as 20 GB; 0 keeps nothing.", "SIZE", kind="size", at_least=0
    )
    quantization: str | None = setting(None, NOWHERE, "", "Quantization that `sage models pull` prefers, such as Q8_0.", "NAME")

    def __post_init__(self) -> None:
        """Check all values, wherever they come from; those of the right meaning are converted."""
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not item.default}
        if given:
            from sage_cli.session.values import check

            for name, value in given.items():
                object.__setattr__(self, name, check(declared()[name], value, name, in_bytes=True))


@cache
def declared() -> dict[str, Option]:
    """All options by name, in the order of :class:`Options`."""
    hints = get_type_hints(Options)
    return {item.name: Option(name=item.name, hint=hints[item.name], **item.metadata) for item in fields(Options)}


def behind_answers() -> list[Option]:
    """The options of `sage ask` that its answers depend on. The model and the part of the video are none of them: each
    run names its own."""
    panels, spared = (MODEL, LOOKING, SPEECH, WEB), ("model", "threads", "gpu_layers", "kv_cache", "start", "end")
    return [one for one in taken_by("ask") if (one.panel in panels or one.name == "schema") and one.name not in spared]


def taken_by(command: str) -> list[Option]:
    """The options of a command."""
    return [one.on(command) for one in declared().values() if command in one.commands]


def settable() -> dict[str, Option]:
    """The options that the environment and the settings file can set, by key."""
    return {one.key: one for one in declared().values() if one.setting}

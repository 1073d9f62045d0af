"""``sage bench DATASET``: a model measured on a question set, with the report in every form."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sage_cli.cli import console, nano
from sage_cli.cli.complete import usable_models
from sage_cli.cli.options import option, setting
from sage_cli.errors import UsageError, VideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sage_cli.bench import Dataset, Plan, Report
    from sage_cli.bench.answer import Worker
    from sage_cli.bench.judges import JudgeChoice
    from sage_cli.bench.records import Record

DIRECT = "direct"
KEY = "SAGE_JUDGE_KEY"


def bench(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="JSONL, JSON or parquet file, hf:OWNER/NAME, or the folder or results of a run.", show_default=False
        ),
    ],
    videos: Annotated[
        Path | None, option("Questions", "--videos", metavar="DIR", help="Where the videos lie. Default: beside the file.")
    ] = None,
    limit: Annotated[int | None, option("Questions", "--limit", min=1, metavar="N", help="Only the first N questions.")] = None,
    filter: Annotated[
        list[str] | None,
        option("Questions", "--filter", metavar="KEY=VALUE", help="Only these: modality=verbal, duration=600-1200, ... Can be repeated."),
    ] = None,
    direct: Annotated[bool, option("Agent", "--direct", help="No tools: the answer of the first look, the paper's baseline.")] = False,
    no_tool: Annotated[
        list[str] | None, option("Agent", "--no-tool", metavar="NAME", help="Leave a tool out: ground-event, ... Can be repeated.")
    ] = None,
    max_steps: Annotated[int, setting("Agent", "--max-steps", min=1, metavar="N", help="Most reasoning steps. Default: 10.")] = 10,
    timeout: Annotated[
        float, setting("Agent", "--timeout", min=0.0, metavar="SECONDS", help="Time limit a question; 0 is none. Default: 300.")
    ] = 300.0,
    frames: Annotated[
        int | None, setting("Agent", "--frames", min=1, metavar="N", help="Most frames of the first look. Default: what fits, 128 at most.")
    ] = None,
    sampling: Annotated[
        Literal["exact", "keyframe", "auto"],
        setting("Agent", "--sampling", help="The first look's frames, as for sage ask. Default: exact."),
    ] = "exact",
    frame_tokens: Annotated[
        int | None, setting("Agent", "--frame-tokens", min=1, metavar="N", help="Most tokens a frame pair may take.")
    ] = None,
    prompts_dir: Annotated[
        Path | None, setting("Agent", "--prompts-dir", metavar="DIR", help="Folder with prompt files that replace ours.")
    ] = None,
    model: Annotated[
        str | None,
        setting("Model", "--model", "-m", metavar="PATH|NAME", help="The model to measure.", autocompletion=usable_models),
    ] = None,
    mmproj: Annotated[Path | None, setting("Model", "--mmproj", metavar="PATH", help="Its vision encoder.")] = None,
    speech_model: Annotated[
        str | None,
        setting("Model", "--speech-model", metavar="PATH|NAME", help="Whisper model, ggml-*.bin.", autocompletion=usable_models),
    ] = None,
    ctx_size: Annotated[int | None, setting("Model", "--ctx-size", min=256, metavar="N", help="Context size in tokens.")] = None,
    gpu_layers: Annotated[int | None, setting("Model", "--gpu-layers", min=0, metavar="N", help="Layers to run on the GPU.")] = None,
    threads: Annotated[
        int | None, setting("Model", "--threads", min=1, metavar="N", help="CPU threads of each worker. Default: the cores, shared.")
    ] = None,
    kv_type: Annotated[Literal["f16", "q8_0"] | None, setting("Model", "--kv-type", help="KV cache precision.")] = None,
    seed: Annotated[int, setting("Model", "--seed", min=0, metavar="N", help="Seed of the sampler. Default: 0.")] = 0,
    temperature: Annotated[
        float, setting("Model", "--temperature", min=0.0, max=2.0, metavar="T", help="0 (the default) is deterministic.")
    ] = 0.0,
    judge: Annotated[
        str | None,
        option(
            "Judge",
            "--judge",
            metavar="exact|choice|model|URL",
            help=f"Who says what is right; a URL is an OpenAI-compatible server's, its key {KEY}. Default: choice.",
        ),
    ] = None,
    judge_model: Annotated[str | None, option("Judge", "--judge-model", metavar="NAME", help="The model to ask at that URL.")] = None,
    jobs: Annotated[int, option("Run", "--jobs", "-j", min=1, metavar="N", help="Workers, each with the whole model. Default: 1.")] = 1,
    executor: Annotated[Literal["local", "ray"], option("Run", "--executor", help="Where the workers are. Default: local.")] = "local",
    resume: Annotated[bool, option("Run", "--resume", help="Go on with the run in the output folder.")] = False,
    output: Annotated[Path | None, option("Run", "--output", "-o", metavar="DIR", help="Folder for results and report.")] = None,
    compare: Annotated[
        str | None,
        option("Report", "--compare", metavar="RUN|direct", help="Another run to compare with; [bold]direct[/] makes it, without tools."),
    ] = None,
    json: Annotated[bool, option("Report", "--json", help="The report as JSON instead of tables.")] = False,
    quiet: Annotated[bool, option("Report", "--quiet", "-q", help="Nothing but the report and errors.")] = False,
    debug: Annotated[bool, option("Report", "--debug", help="Tracebacks and all logs.")] = False,
) -> int:
    """Measure a model on a question set.

    Every question goes through the same agent as in `sage ask`, without the web, in a worker process that may crash. A run that was stopped
    goes on with --resume. Results that are there already, also published ones, are only judged and reported on.
    """
    console.log(verbose=False, debug=debug)
    from sage_cli.bench import read_dataset
    from sage_cli.bench.judges import JudgeChoice

    judging = JudgeChoice.parse(judge or "choice", judge_model)
    asked = read_dataset(dataset, videos).select(filter or [], limit)
    other = _records(Path(compare)) if compare and compare != DIRECT else None
    show = _Show(output, json, quiet)
    if asked.answered and judge is None:
        return show.existing(asked, Path(dataset), other, compare)
    if compare == DIRECT and (direct or asked.answered):
        raise UsageError("--compare direct needs a run with tools to compare with")
    if not asked.answered and len(asked.missing) == len(asked.items):
        raise VideoError(f"none of the videos is here, e.g. {asked.missing[0].video}: give --videos the folder that they lie in")

    from sage_cli.agent import Settings
    from sage_cli.bench import Plan
    from sage_cli.bench.run import settings_of
    from sage_cli.prompts import TRAINED

    tools = _tools([] if asked.answered else no_tool or [], direct or asked.answered)
    settings = Settings(
        frames=frames or 0,
        sampling=sampling,
        frame_tokens=frame_tokens,
        max_steps=max_steps,
        timeout_s=timeout or None,
        temperature=temperature,
        seed=seed,
        prompts=str(prompts_dir or TRAINED),
    )
    if asked.answered and judging.kind != "model":
        worker = _worker(None, None, tools, settings, judging)
    else:
        worker = _worker((model, mmproj), speech_model, tools, settings, judging)
    folder = output or _folder(asked, worker)
    if worker.model is not None:
        # What was fitted to the machine when a run began stays so when it goes on.
        before = (settings_of(folder) if resume else None) or {}
        worker = replace(worker, threads=threads, context=ctx_size or before.get("context"), gpu_layers=gpu_layers)
        worker = _fitted(worker, worker.settings.frames or before.get("frames"), kv_type or before.get("kv_type"), jobs, quiet)
    plan = Plan(asked, worker, jobs, executor)
    if not quiet:
        _tell(plan)
    records = _run(plan, folder, resume, quiet)
    other_name = compare or ""
    if compare == DIRECT:
        plan_direct = replace(plan, worker=replace(worker, tools=()))
        folder_direct = folder.with_name(f"{folder.name}-{DIRECT}")
        other = _run(plan_direct, folder_direct, resume, quiet)
        other_name = _name(plan_direct)
        _Show(folder_direct, json, True).write(_report(plan_direct, other))
    return show.run(plan, folder, records, other, other_name)


# ---- what to do ----------------------------------------------------------------------------------------------------


def _records(path: Path) -> list[Record]:
    """A judged run, ours or a published one."""
    from sage_cli.bench import read_records
    from sage_cli.bench.items import RESULTS

    records = read_records(path / RESULTS if path.is_dir() else path)
    if not any(record.get("is_correct") is not None for record in records):
        raise UsageError(f"{path} has no verdicts: judge it first (sage bench {path} --judge choice)")
    return records


def _tell(plan: Plan) -> None:
    """What a user should know before the run."""
    items, missing = plan.dataset.items, plan.dataset.missing
    if missing and not plan.dataset.answered:
        console.say(f"{len(missing)} of {len(items)} questions are left out: their videos are missing (see the report)")
    if notice := plan.notice:
        console.say(notice)
    if plan.worker.judge.kind == "server":
        console.say(f"questions, answers and references go to {plan.worker.judge.address} to be judged")


def _tools(left_out: Sequence[str], direct: bool) -> tuple[str, ...]:
    from sage_cli.tools import TOOLS

    names = [tool.name for tool in TOOLS]
    for name in left_out:
        if name not in names:
            raise UsageError(f"--no-tool {name}: there is no such tool; there are {', '.join(names)}")
    return () if direct else tuple(name for name in names if name not in left_out)


def _worker(model: tuple[str | None, Path | None] | None, speech: str | None, tools: Any, settings: Any, judge: JudgeChoice) -> Worker:
    from sage_cli.bench.answer import Worker
    from sage_cli.store import check_scratch, find_model, find_speech_model

    check_scratch()
    files = find_model(*model) if model else None
    if files is not None:
        settings = nano.as_trained(settings, files)
        speech = nano.speech_model(speech, files)
    hears = find_speech_model(speech) if model and "transcribe-speech" in tools else None
    if model and hears is None:
        tools = tuple(name for name in tools if name != "transcribe-speech")
    return Worker(files, settings, tools, judge, speech=hears, key=os.environ.get(KEY, ""))


def _fitted(worker: Worker, frames: int | None, kv_type: Any, jobs: int, quiet: bool) -> Worker:
    """With what was left open chosen by what this machine can carry so many times."""
    from sage_cli.model.devices import this_machine
    from sage_cli.store.fit import Needs, fit

    assert worker.model is not None
    here = this_machine()
    share = replace(here, memory=here.memory // jobs, gpu=here.gpu // jobs, cores=max(1, here.cores // jobs))
    fitted = fit(Needs.of(worker.model), share, frames=frames, context=worker.context, kv_type=kv_type, gpu_layers=worker.gpu_layers)
    if not quiet and not fitted.fits:
        console.say(f"this machine has too little memory for {jobs} worker{'s'[: jobs > 1]}: {fitted.text}")
    return replace(
        worker,
        settings=replace(worker.settings, frames=fitted.frames),
        context=fitted.context,
        gpu_layers=fitted.gpu_layers,
        kv_type=fitted.kv_type,
        threads=worker.threads or (share.cores if jobs > 1 else None),
    )


def _folder(dataset: Dataset, worker: Worker) -> Path:
    parts = [
        "bench",
        dataset.name,
        worker.model.text.stem if worker.model else "judged",
        "" if worker.tools or not worker.model else DIRECT,
    ]
    return Path("-".join(part for part in parts if part))


def _run(plan: Plan, folder: Path, resume: bool, quiet: bool) -> list[Record]:
    from sage_cli.bench import RunFolder, execute

    opened = RunFolder(folder, plan, resume=resume)
    try:
        with _progress(_name(plan), quiet) as progress:
            return execute(plan, opened, progress)
    except (KeyboardInterrupt, SystemExit):
        if not quiet:
            console.say(f"what is done is kept in {folder}: the same command with --resume goes on from here")
        raise


def _name(plan: Plan) -> str:
    model = plan.worker.model
    asked = f"{model.text.stem}{'' if plan.worker.tools else f', {DIRECT}'}" if model and not plan.dataset.answered else "judged again"
    return f"{plan.dataset.name}: {asked}"


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with what is left to wait."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TimeElapsedColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=True) as bar:
        task = bar.add_task(console.neutral(name).replace("[", r"\["), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


# ---- what came of it -----------------------------------------------------------------------------------------------


def _report(plan: Plan, records: Sequence[Record]) -> Report:
    from sage_cli.bench import summarize

    missing = () if plan.dataset.answered else (item.video for item in plan.dataset.missing)
    return summarize(_name(plan), records, settings=plan.settings, missing=missing)


class _Show:
    """Where reports go: stdout, and files in a folder."""

    def __init__(self, folder: Path | None, json: bool, quiet: bool) -> None:
        self._folder, self._json, self._quiet = folder, json, quiet

    def existing(self, dataset: Dataset, source: Path, other: Sequence[Record] | None, other_name: str | None) -> int:
        """The report on results that are there."""
        from sage_cli.bench import summarize
        from sage_cli.bench.run import settings_of

        records = [dict(item.given or {}) for item in dataset.items]
        if all(record.get("is_correct") is None for record in records):
            raise UsageError(f"{source} has answers but no verdicts: choose a judge with --judge")
        folder = source if source.is_dir() else source.parent
        report = summarize(dataset.name, records, settings=settings_of(folder), missing=_missing(folder))
        self._finish(report, records, other, other_name or "")
        return 0

    def run(self, plan: Plan, folder: Path, records: Sequence[Record], other: Sequence[Record] | None, other_name: str) -> int:
        """The report on a run."""
        self._folder = folder
        self._finish(_report(plan, records), records, other, other_name)
        return 0

    def _finish(self, report: Report, records: Sequence[Record], other: Sequence[Record] | None, other_name: str) -> None:
        from sage_cli.bench import compare, summarize

        if other is not None:
            report = replace(report, comparison=compare(records, other, summarize(other_name, other)))
        self.write(report)
        if self._json:
            console.write(console.dumps(report.as_json()))
        else:
            _print(report)

    def write(self, report: Report) -> None:
        """Into the folder, as Markdown, JSON and a page."""
        if self._folder is None:
            return
        import json

        from sage_cli.bench.page import page
        from sage_cli.bench.tables import markdown
        from sage_cli.output import write_text

        self._folder.mkdir(parents=True, exist_ok=True)
        texts = {"md": markdown(report), "json": json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n", "html": page(report)}
        for suffix, text in texts.items():
            write_text(self._folder / f"report.{suffix}", text)
        if not self._quiet:
            console.say(f"results and report: {self._folder}")


def _missing(folder: Path) -> list[str]:
    """What an earlier report on a run says that was missing."""
    import json

    try:
        missing: list[str] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["missing"]
        return missing
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _print(report: Report) -> None:
    """On a terminal as tables, else as Markdown."""
    from sage_cli.bench.tables import markdown, tables

    if not sys.stdout.isatty():
        console.write(markdown(report))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    screen = Console()
    for table in tables(report):
        shown = Table(box=box.SIMPLE_HEAD, title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
        for column in table.columns:
            shown.add_column(column)
        for row in table.rows:
            shown.add_row(*(Text(console.neutral(cell)) for cell in row))
        screen.print(shown)

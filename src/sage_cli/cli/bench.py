"""``sage bench DATASET``: measure a model on a question set and write reports."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from sage_cli.cli import console
from sage_cli.cli.options import argument, takes
from sage_cli.errors import EXIT_NO_ANSWER, SageError, UsageError, VideoError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sage_cli.bench.answer import Worker
    from sage_cli.bench.items import Dataset
    from sage_cli.bench.judges import JudgeChoice
    from sage_cli.bench.records import Record
    from sage_cli.bench.report import Report
    from sage_cli.bench.run import Plan

EXAMPLES = """[bold]Examples[/]
  sage bench questions.jsonl --videos clips/ --output runs/first
  sage bench questions.jsonl --videos clips/ --compare direct
  sage bench runs/first --judge exact --output runs/judged
  sage bench runs/first --compare runs/other"""

DIRECT = "direct"
KEY = "SAGE_JUDGE_KEY"


@takes("bench")
def bench(
    dataset: Annotated[str, argument("DATASET", "Question set, hf:OWNER/NAME, or an earlier run.")],
    options: Options,
) -> int:
    """Measure a model on a question set.

    Every question goes through the agent of `sage ask`, without the web, in a worker process. --resume continues an interrupted run.
    Existing results, including published ones, are judged and reported only. Exit code 5: nothing was answered, or nothing judged. See
    `sage help bench`.
    """
    from sage_cli.bench.items import read_dataset
    from sage_cli.bench.judges import JudgeChoice

    judging = JudgeChoice.parse(options.judge or "choice", options.judge_model)
    asked = read_dataset(dataset, options.videos, offline=options.offline).select(options.filter, options.limit)
    compare = options.compare
    if options.direct_prompt and not options.direct and compare != DIRECT:
        raise UsageError("--direct-prompt is for direct answers: add --direct, or --compare direct")
    other = _records(Path(compare)) if compare and compare != DIRECT else None
    if asked.answered and options.judge is None:
        report, records = _existing(asked, dataset)
        return _show(_compared(report, records, other, compare), Path(options.output) if options.output else None, options.json)
    if compare == DIRECT and (options.direct or asked.answered):
        raise UsageError("--compare direct needs a run with tools to compare with")
    if not asked.answered and len(asked.missing) == len(asked.items):
        raise VideoError(f"no video was found, for example {asked.missing[0].video}: give their folder with --videos")

    from sage_cli.bench.run import Plan

    folder, worker = _prepare(asked, options, judging)
    plan = Plan(asked, worker, options.jobs, options.executor)
    _tell(plan)
    records = _run(plan, folder, options.resume)
    if compare == DIRECT:
        direct = replace(plan, worker=replace(worker, options=replace(worker.options, direct=True)))
        folder_direct = Path(f"{folder.absolute()}-{DIRECT}")  # of the current folder, too
        other, compare = _run(direct, folder_direct, options.resume), _name(direct)
        _write(_report(direct, other), folder_direct)
    report = _compared(_report(plan, records), records, other, compare)
    _show(report, folder, options.json)
    return _outcome(report)


# ---- what to do ----------------------------------------------------------------------------------------------------


def _records(path: Path) -> list[Record]:
    """A judged run, of sage or published."""
    from sage_cli.bench.items import ANSWERED, RESULTS
    from sage_cli.bench.records import read_records

    records = read_records(path / RESULTS if path.is_dir() else path)
    name = quote(str(path))
    if not any(key in record for record in records for key in ANSWERED):
        raise UsageError(f"--compare {path}: a question set, without answers: run it first (sage bench {name}), and give the run's folder")
    if not any(record.get("is_correct") is not None for record in records):
        raise UsageError(f"{path} has no verdicts: judge it first (sage bench {name} --judge choice)")
    return records


def _tell(plan: Plan) -> None:
    """Notices before the run."""
    from sage_cli.model.address import RemoteAddress

    items, missing = plan.dataset.items, plan.dataset.missing
    if missing and not plan.dataset.answered:
        console.note(f"{len(missing)} of {len(items)} questions are skipped: their videos are missing (see the report)")
    for notice in (*plan.dataset.notices, *filter(None, [plan.notice])):
        console.note(notice)
    if plan.worker.asks and (model := RemoteAddress.parse(plan.worker.options.model or "")) and model.outside:
        console.note(f"frames and prompts are sent to {model.outside}")
    if (judge := plan.worker.judge.address) and not judge.loopback:
        console.note(f"the judge at {judge.host} receives questions, answers and references")


def _prepare(asked: Dataset, options: Options, judging: JudgeChoice) -> tuple[Path, Worker]:
    """The output folder, and what works: with everything that was left open chosen."""
    from sage_cli.bench.answer import Worker
    from sage_cli.bench.run import JUDGE, settings_of
    from sage_cli.model.address import api_key
    from sage_cli.session import Session
    from sage_cli.session.models import require_network

    if judging.address and not judging.address.loopback:
        require_network(options, f"the judge at {judging.address.host}")
    key = api_key(judging.address, KEY) if judging.address else ""
    own = replace(options, web="off", tools=True, direct=options.direct or asked.answered)
    worker = Worker(own, judging, asks=not asked.answered or judging.kind == "model", key=key)
    if not worker.asks:
        return Path(options.output) if options.output else _folder(asked, None, own.direct), worker
    with Session(own) as session:
        _ = session.allowed_tools, session.settings
        folder = Path(options.output) if options.output else _folder(asked, session.model_name, own.direct)
    # A resumed run keeps the memory plan that it began with.
    before, whose = settings_of(folder) if options.resume else {}, JUDGE if asked.answered else ""
    chosen = {"ctx_size": "context", "frames": "frames", "kv_type": "kv_type"}
    kept: dict[str, Any] = {name: getattr(own, name) or before.get(f"{whose}{key}") for name, key in chosen.items()}
    with Session(replace(own, **kept)) as session:
        if not session.remote and not session.plan.fits:
            console.note(f"this machine has too little memory for {options.jobs} worker{'s'[: options.jobs > 1]}: {session.plan.text}")
        return folder, replace(worker, options=session.resolved())


def _folder(dataset: Dataset, model: str | None, direct: bool) -> Path:
    parts = ["bench", dataset.name, model or "judged", DIRECT if model and direct else ""]
    return Path("-".join(part for part in parts if part))


def _run(plan: Plan, folder: Path, resume: bool) -> list[Record]:
    from sage_cli.bench.run import RunFolder, execute
    from sage_cli.cli.bars import progress

    opened = RunFolder(folder, plan, resume=resume)
    try:
        with progress(_name(plan), 0, len(plan.items), counted=True) as advance:
            return execute(opened, lambda done, _total: advance(done))
    except (KeyboardInterrupt, SystemExit, SageError):
        if opened.begun:
            console.note(f"progress saved in {folder}; rerun the command with --resume to continue")
        raise


def _name(plan: Plan) -> str:
    settings = plan.settings
    model = settings["model"]
    asked = f"{model}{'' if settings['tools'] else f', {DIRECT}'}" if model and not plan.dataset.answered else "judged again"
    return f"{plan.dataset.name}: {asked}"


# ---- what came of it -----------------------------------------------------------------------------------------------


def _report(plan: Plan, records: Sequence[Record]) -> Report:
    from sage_cli.bench.report import summarize
    from sage_cli.bench.run import missing_videos

    return summarize(_name(plan), records, settings=plan.settings, missing=missing_videos(plan.dataset))


def _existing(dataset: Dataset, source: str) -> tuple[Report, list[Record]]:
    """The report on existing results, and these."""
    from sage_cli.bench.report import summarize
    from sage_cli.bench.run import missing_videos, settings_of

    records = [dict(item.given or {}) for item in dataset.items]
    if all(record.get("is_correct") is None for record in records):
        raise UsageError(f"{source} has answers but no verdicts: choose a judge with --judge")
    return summarize(dataset.name, records, settings=settings_of(dataset.folder), missing=missing_videos(dataset)), records


def _compared(report: Report, records: Sequence[Record], other: Sequence[Record] | None, name: str | None) -> Report:
    """The report with a comparison, if there is another run of this name."""
    from sage_cli.bench.report import compare, summarize

    return report if other is None else replace(report, comparison=compare(records, other, summarize(name or "", other)))


def _show(report: Report, folder: Path | None, json: bool) -> int:
    """Print the report, and write it into the folder."""
    if folder is not None:
        _write(report, folder)
        console.note(f"results and report: {folder}")
    if json:
        console.write(console.dumps(report.as_json()))
    else:
        _print(report)
    return 0


def _write(report: Report, folder: Path) -> None:
    """Write Markdown, JSON and HTML."""
    import json

    from sage_cli.bench.tables import markdown
    from sage_cli.output import output_folder, write_text
    from sage_cli.report.bench import bench_page
    from sage_cli.text import without_controls

    texts = {
        "md": markdown(report),
        "json": json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n",
        "html": bench_page(report),
    }
    with output_folder(folder):
        for suffix, text in texts.items():
            write_text(folder / f"report.{suffix}", without_controls(text))


def _outcome(report: Report) -> int:
    """The exit code, after a line each for what failed and what was not judged: a report of failures looks like one of a bad model."""
    unjudged = [one for one in report.answers if one.verdict == "not judged"]
    answered = report.asked - len(report.failed) - report.unanswered
    if report.failed:
        console.say(f"{len(report.failed)} of {report.asked} questions failed: {report.failed[0][1]}")
    elif report.asked and not answered:
        console.say(f"none of {report.asked} questions was answered: see the report")
    if unjudged:
        console.say(f"{len(unjudged)} of {report.asked} answers were not judged: {unjudged[0].reasoning}")
    return 0 if answered > len(unjudged) or not report.asked else EXIT_NO_ANSWER


def _print(report: Report) -> None:
    """Print tables on a terminal, Markdown elsewhere."""
    from sage_cli.bench.tables import markdown, tables

    if not sys.stdout.isatty():
        console.write(markdown(report))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console.screen()
    for table in tables(report):
        screen.print(Text(f"\n{table.title}", "bold"))
        shown = Table(box=box.SIMPLE_HEAD)
        for column in table.columns:
            shown.add_column(column)
        for row in table.rows:
            shown.add_row(*(Text(console.neutral(cell)) for cell in row))
        screen.print(shown)
        if table.note:
            screen.print(Text(table.note, "dim"))

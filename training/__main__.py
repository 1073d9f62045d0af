"""``python -m training``: the whole run, or one stage of it.

python -m training all --preset nano --out build/nano
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sage_cli.errors import UsageError
from training import entry
from training.config import load


def _options(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from training.pipeline import Options, prepare

    options = Options(args.preset, args.out, args.device, args.workers, args.deadline, _ablations(args))
    prepare(options)
    return options


def _ablations(args: argparse.Namespace) -> tuple[str, ...]:
    known = load(args.preset).variants
    asked = tuple(known) if args.ablations == "all" else tuple(filter(None, args.ablations.split(",")))
    if unknown := [name for name in asked if name not in known]:
        raise UsageError(f"--ablations {','.join(unknown)}: the preset {args.preset} has {', '.join(known) or 'none'}")
    return asked


def _all(args: argparse.Namespace) -> None:
    from training import pipeline

    pipeline.run_all(_options(args), until=args.until)


def _vision(args: argparse.Namespace) -> None:
    from training import pipeline

    pipeline.run_vision(load(args.preset), _options(args), args.deadline)


def _sft(args: argparse.Namespace) -> None:
    from training import pipeline

    options = _options(args)
    pipeline.make_tokenizer(load(args.preset), options)
    pipeline.run_sft(load(args.preset), options, args.deadline)


def _rl(args: argparse.Namespace) -> None:
    from training import pipeline

    pipeline.run_rl(load(args.preset), _options(args), args.variant, args.deadline)


def _export(args: argparse.Namespace) -> None:
    from training.pipeline import export_models

    for path in export_models(args.out, args.type):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


def _parity(args: argparse.Namespace) -> None:
    from training.parity import compare

    print(compare(args.weights, args.models, args.count))


def _whisper(args: argparse.Namespace) -> None:
    from training import pipeline

    pipeline.run_whisper(load(args.preset), _options(args), args.deadline)


def _held_out(args: argparse.Namespace) -> None:
    from training.export_set import export

    run = load(args.preset)
    print(export(run.held_out, args.out / "held-out", longest=run.longest, jobs=args.jobs))


def _card(args: argparse.Namespace) -> None:
    from training.card import make_card

    print(make_card(load(args.preset), args.out, jobs=args.jobs))


def _scores(args: argparse.Namespace) -> None:
    from sage_cli.bench.items import RESULTS
    from sage_cli.bench.records import read_records
    from training.evaluate import tables

    print(tables({name: read_records(folder / RESULTS) for name, folder in args.runs}))


def _speech_scores(args: argparse.Namespace) -> None:
    from sage_cli.assets import NANO, Nano
    from training.evaluate import speech_table

    print(speech_table(NANO if args.models is None else Nano(args.models), args.threads))


def _curves(args: argparse.Namespace) -> None:
    from training.curves import report

    print(report(args.out, args.pictures))


def _repeat(args: argparse.Namespace) -> None:
    from training.repeat import repeat, table

    run, options = load(args.preset), _options(args)
    steps = repeat(run, args.what, args.log, args.out, steps=args.steps, device=options.torch_device, workers=args.workers)
    print(table(steps))


def _count(text: str) -> int:
    """One or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: it should be a whole number of 1 or more")
    return int(text)


def _any_count(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: it should be a number of seconds above 0")
    return seconds


def _named(run: str) -> tuple[str, Path]:
    name, equals, folder = run.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{run}: write NAME=FOLDER")
    return name, Path(folder)


@dataclass(frozen=True, slots=True)
class Stage:
    """A command: what it does, what it runs, and which groups of options it takes."""

    what: str
    run: Callable[[argparse.Namespace], None]
    trains: bool = False


STAGES = {
    "all": Stage("every stage, from nothing to a model for sage and its card", _all, trains=True),
    "vision": Stage("warm-up of the vision encoder", _vision, trains=True),
    "sft": Stage("supervised fine-tuning", _sft, trains=True),
    "rl": Stage("GRPO, or an ablation of it", _rl, trains=True),
    "whisper": Stage("the whisper", _whisper, trains=True),
    "export": Stage("model files of the run's checkpoints", _export),
    "parity": Stage("the same replies from torch and from llama.cpp", _parity),
    "repeat": Stage("the first steps of a stage again, against a log", _repeat, trains=True),
    "curves": Stage("tables and pictures of the run's log", _curves),
    "card": Stage("answers to the held-out set by sage bench, and the model card", _card),
    "held-out": Stage("the held-out set as videos and questions", _held_out),
    "scores": Stage("tables of runs of sage bench on the held-out set", _scores),
    "speech-scores": Stage("the whisper on held-out sentences and voices", _speech_scores),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the nano model.")
    commands = parser.add_subparsers(dest="stage", required=True)
    parsers = {name: commands.add_parser(name, help=stage.what, description=stage.what) for name, stage in STAGES.items()}
    for name, command in parsers.items():
        if name not in ("scores", "parity", "speech-scores"):
            command.add_argument("--preset", default="nano", help="nano, smoke, or the path of a TOML file")
            command.add_argument("--out", type=Path, default=Path("build/nano"), help="folder of checkpoints and log")
        if STAGES[name].trains:
            command.add_argument("--device", default=_device(), help="cpu or cuda")
            command.add_argument(
                "--workers", type=_any_count, default=max(1, (os.cpu_count() or 2) - 1), help="processes that write samples"
            )
            command.add_argument("--deadline", type=_seconds, help="seconds; stages are cut short to meet it")
            command.add_argument("--ablations", default="all", help="names, by comma; all, or an empty text for none")
            command.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parsers["all"].add_argument("--until", default="card", choices=("sft", "rl", "export", "card"), help="the last stage to run")
    parsers["rl"].add_argument("--variant", default="main", help="main, or the name of an ablation")
    parsers["export"].add_argument("--type", default="q8_0", choices=("f16", "q8_0"), help="of the language model's matrices")
    parsers["parity"].add_argument("weights", type=Path, help="a checkpoint, with tokenizer.json beside it")
    parsers["parity"].add_argument("models", type=Path, help="folder of its GGUF files")
    parsers["parity"].add_argument("--count", type=_count, default=50)
    parsers["repeat"].add_argument("--log", type=Path, required=True, help="folder of the earlier run's log.jsonl")
    parsers["repeat"].add_argument("--what", default="vision", choices=("vision", "sft"), help="the stage")
    parsers["repeat"].add_argument("--steps", type=_count, default=50)
    for name in ("held-out", "card"):
        parsers[name].add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="processes that render and answer")
    parsers["scores"].add_argument(
        "runs", nargs="+", type=_named, metavar="NAME=FOLDER", help="runs of sage bench; the last two are compared"
    )
    parsers["speech-scores"].add_argument("--models", type=Path, help="folder with another whisper than the shipped one")
    parsers["speech-scores"].add_argument("--threads", type=_count, default=1)
    parsers["curves"].add_argument("--pictures", type=Path, required=True, help="folder for pictures and rl.csv")
    return parser


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Parse the command line and run a stage."""
    args = _parser().parse_args()
    if getattr(args, "parent", None) is not None:
        entry.end_with(args.parent)
    # Wrong values are told before torch is imported.
    if hasattr(args, "preset"):
        load(args.preset)
    if hasattr(args, "ablations"):
        _ablations(args)
    STAGES[args.stage].run(args)


if __name__ == "__main__":
    entry.run(main)

"""``python -m training.qwen``: one stage at a time.

python -m training.qwen questions videos/*.mp4 --teacher http://localhost:8000/v1 --speech ggml-large-v3-turbo.bin --data data
python -m training.qwen trajectories --teacher http://localhost:8000/v1 --speech ggml-large-v3-turbo.bin --data data
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen sft --data data --out build/4b-sft
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen grpo --data data --checkpoint build/4b-sft \
    --policy http://localhost:8001/v1 --judge http://localhost:8002/v1 --speech ggml-large-v3-turbo.bin --out build/4b-rl
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sage_cli.agent import Settings
from sage_cli.bench.items import Item
from sage_cli.errors import ModelError, SageError, UsageError, VideoError
from sage_cli.model.address import KEY_VARIABLE, RemoteAddress, api_key
from sage_cli.model.refusals import UnreachableError
from sage_cli.model.remote import RemoteModel
from sage_cli.video import Video
from training import entry
from training.qwen import record, synthesize
from training.qwen.questions import read_questions
from training.qwen.record import Hear
from training.qwen.settings import Scale, load
from training.runlog import Log

QUESTIONS, TRAJECTORIES = "questions.jsonl", "trajectories.jsonl"


def _served(address: str, variable: str = KEY_VARIABLE, **limits: Any) -> RemoteModel:
    """The model at an address; of several, each process takes one."""
    parsed = RemoteAddress.parse(address)
    if parsed is None:
        raise UsageError(f"{address}: not an address; use http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME")
    one = parsed.each[int(os.environ.get("RANK", "0")) % len(parsed.each)]
    return RemoteModel(one, key=api_key(one, variable), **limits)


def _hearing(args: argparse.Namespace) -> Hear | None:
    """What hears videos, if a speech model was given."""
    if args.speech is None:
        print("no --speech: nothing is heard, and the agent has no tool for speech", file=sys.stderr)
        return None
    from training.qwen.speech import Hearing

    return Hearing(args.speech, args.data / "transcripts")


def _questions(args: argparse.Namespace, scale: Scale) -> None:
    args.data.mkdir(parents=True, exist_ok=True)
    path = args.data / QUESTIONS
    done = {question.get("video_path") for question in record.read(path)} if path.exists() else set()
    hear = _hearing(args)
    failed = 0
    with _served(args.teacher) as teacher:
        for given in map(str, args.videos):
            if given in done:
                print(f"{given}: has questions", file=sys.stderr)
                continue
            done.add(given)
            with _left_out(given) as failures:
                found, share = _ask_about(Video(given), teacher, hear, scale)
                record.append(path, found)
                print(f"{given}: {len(found)} questions, {share:.0%} covered", file=sys.stderr)
            failed += len(failures)
    if failed:
        raise SageError(f"{failed} of {len(args.videos)} videos have no questions; why is above. The same command tries them again")


@contextmanager
def _left_out(name: str) -> Iterator[list[Exception]]:
    """Tell and collect the failure of one video or question, which must not end the stage; a server that is gone does."""
    failures: list[Exception] = []
    try:
        yield failures
    except UnreachableError:
        raise
    except (ModelError, VideoError) as error:
        print(f"{name}: {error}; it is left out", file=sys.stderr)
        failures.append(error)


def _ask_about(video: Video, teacher: RemoteModel, hear: Hear | None, scale: Scale) -> tuple[list[dict[str, Any]], float]:
    """The questions about a video, and the share of it that their spans cover."""
    parts = hear(video).parts(0.0, video.duration) if hear and video.has_audio else ()
    speech = "\n".join(f"{segment.start:.0f}-{segment.end:.0f} s: {segment.text}" for part in parts for segment in part.segments)
    questions = synthesize.ask_questions(teacher, video, speech, scale.data)
    rows = [{**question, "video_path": str(video.path), "duration": video.duration} for question in questions]
    return rows, synthesize.covered(questions, video.duration)


def _set(args: argparse.Namespace) -> list[Item]:
    return read_questions(args.questions or args.data / QUESTIONS, args.videos)


def _trajectories(args: argparse.Namespace, scale: Scale) -> None:
    data, path = scale.data, args.data / TRAJECTORIES
    done = {(item["video_path"], item["question"]) for item in record.read(path)} if path.exists() else set()
    items = [item for item in _set(args) if (str(item.path), item.question) not in done]
    if done:
        print(f"{len(done)} questions have trajectories", file=sys.stderr)
    args.data.mkdir(parents=True, exist_ok=True)
    hear = _hearing(args)
    failed = 0
    with _served(args.teacher) as teacher:
        for item in items:
            limits = Settings(frames=data.frames)
            with _left_out(item.question[:60]) as failures:
                found = record.trajectories(
                    teacher, item, count=data.trajectories, temperature=data.temperature, settings=limits, hear=hear
                )
                record.append(path, found)
                print(f"{item.question[:60]}: {len(found)} different trajectories", file=sys.stderr)
            failed += len(failures)
    if failed:
        raise SageError(f"{failed} of {len(items)} questions have no trajectories; why is above. The same command tries them again")


def _checkpoint(args: argparse.Namespace, scale: Scale) -> str:
    """The folder to start from, or the preset's model. A folder that is missing is not asked for at the hub."""
    if args.checkpoint is None:
        return scale.model
    if not args.checkpoint.is_dir():
        raise UsageError(f"--checkpoint {args.checkpoint}: there is no such folder")
    return str(args.checkpoint)


def _sft(args: argparse.Namespace, scale: Scale) -> None:
    checkpoint = _checkpoint(args, scale)
    from training.qwen.sft import load_model, train

    recorded = record.read(args.data / TRAJECTORIES)
    model, encoder = load_model(checkpoint)
    train(model, encoder, recorded, scale.sft, args.out, Log(args.out, "sft"), seed=scale.seed)


def _grpo(args: argparse.Namespace, scale: Scale) -> None:
    checkpoint = _checkpoint(args, scale)
    from sage_cli.bench import judges as bench
    from training.judges import asker
    from training.qwen.grpo import Judges, Trainer, train
    from training.qwen.sft import load_model

    chosen = bench.JudgeChoice.parse(args.judge)
    if chosen.kind == "model":
        raise UsageError("--judge model: serve a judging model and give its address, or use choice or exact")
    questions, hear = _set(args), _hearing(args)
    with _served(args.policy, reply_tokens=0) as policy, ExitStack() as stack:
        if chosen.address is None:
            judges = Judges(bench.choice if chosen.kind == "choice" else bench.exact)
        else:
            judge = stack.enter_context(_served(args.judge, "SAGE_JUDGE_KEY"))
            judges = Judges(bench.ModelJudge(judge), asker(judge))
        trainer = Trainer(*load_model(checkpoint), scale.rl)
        train(trainer, policy, questions, judges, args.out, Log(args.out, "rl"), seed=scale.seed, hear=hear)


def main() -> None:
    """Parse the command line and run a stage."""
    parser = argparse.ArgumentParser(prog="python -m training.qwen", description="Train Qwen3-VL as the paper does.")
    commands = parser.add_subparsers(dest="stage", required=True)
    stages: dict[str, tuple[Callable[[argparse.Namespace, Scale], None], str]] = {
        "questions": (_questions, "questions about videos, from a teacher"),
        "trajectories": (_trajectories, "the teacher's trajectories for them"),
        "sft": (_sft, "supervised fine-tuning on the trajectories"),
        "grpo": (_grpo, "GRPO on the questions"),
    }
    for name, (_, what) in stages.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--preset", default="qwen3-vl-4b", help="name, or path of a TOML file")
        command.add_argument("--data", type=Path, default=Path("data"), help="folder of questions and trajectories")
        if name in ("questions", "trajectories"):
            command.add_argument("--teacher", required=True, help="an OpenAI-compatible address, http://HOST:PORT/v1#NAME")
        else:
            command.add_argument("--checkpoint", type=Path, help="folder of the model to start from; by default, the preset's model")
            command.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the log")
        if name != "sft":
            command.add_argument("--speech", type=Path, help="a whisper model; without, nothing is heard")
        if name == "questions":
            command.add_argument("videos", nargs="+", type=Path, help="video files")
        elif name != "sft":
            command.add_argument("--questions", type=Path, help="a question set of your own; by default, the one in --data")
            command.add_argument("--videos", type=Path, help="folder of its videos; by default, beside it and the current folder")
        if name == "grpo":
            command.add_argument("--policy", required=True, help="address of the server that serves the model in training")
            command.add_argument("--judge", required=True, help="address of a judging model; or choice or exact, as of sage bench")
    args = parser.parse_args()
    stages[args.stage][0](args, load(args.preset))


if __name__ == "__main__":
    entry.run(main)

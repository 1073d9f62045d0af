"""``python -m training.qwen``: one stage at a time.

python -m training.qwen questions videos/*.mp4 --teacher http://localhost:8000/v1 --speech ggml-large-v3-turbo.bin --data data
python -m training.qwen trajectories --teacher http://localhost:8000/v1 --speech ggml-large-v3-turbo.bin --data data
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen sft --data data --out build/4b-sft
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen grpo --data data --checkpoint build/4b-sft \
    --policy http://localhost:8001/v1 --judge http://localhost:8002/v1 --speech ggml-large-v3-turbo.bin --out build/4b-rl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sage_cli.agent import Settings
from sage_cli.errors import UsageError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.remote import RemoteModel
from sage_cli.video import Video
from training import entry
from training.qwen import record, synthesize
from training.qwen.record import Hear
from training.qwen.settings import Scale, load
from training.runlog import Log

QUESTIONS, TRAJECTORIES = "questions.jsonl", "trajectories.jsonl"


def _served(address: str, **limits: Any) -> RemoteModel:
    parsed = RemoteAddress.parse(address)
    if parsed is None:
        raise UsageError(f"{address}: not an address; use http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME")
    return RemoteModel(parsed, **limits)


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
    done = {question["video_path"] for question in record.read(path)} if path.exists() else set()
    hear = _hearing(args)
    with _served(args.teacher) as teacher:
        for video in map(Video, args.videos):
            if str(video.path) in done:
                print(f"{video.path}: has questions", file=sys.stderr)
                continue
            parts = hear(video).parts(0.0, video.duration) if hear and video.has_audio else ()
            speech = "\n".join(f"{segment.start:.0f}-{segment.end:.0f} s: {segment.text}" for part in parts for segment in part.segments)
            questions = synthesize.ask_questions(teacher, video, speech, scale.data)
            record.append(path, [{**question, "video_path": str(video.path), "duration": video.duration} for question in questions])
            done.add(str(video.path))
            print(f"{video.path}: {len(questions)} questions, {synthesize.covered(questions, video.duration):.0%} covered", file=sys.stderr)


def _trajectories(args: argparse.Namespace, scale: Scale) -> None:
    data, path = scale.data, args.data / TRAJECTORIES
    done = {(item["video_path"], item["question"]) for item in record.read(path)} if path.exists() else set()
    questions = [item for item in record.read(args.data / QUESTIONS) if (item["video_path"], item["question"]) not in done]
    if done:
        print(f"{len(done)} questions have trajectories", file=sys.stderr)
    hear = _hearing(args)
    with _served(args.teacher) as teacher:
        for question in questions:
            found = record.trajectories(
                teacher,
                Video(question["video_path"]),
                question,
                count=data.trajectories,
                temperature=data.temperature,
                settings=Settings(frames=data.frames),
                hear=hear,
            )
            record.append(path, found)
            print(f"{question['question'][:60]}: {len(found)} different trajectories", file=sys.stderr)


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
    from sage_cli.bench.judges import ModelJudge
    from training.judges import asker
    from training.qwen.grpo import Judges, Trainer, train
    from training.qwen.sft import load_model

    questions, hear = record.read(args.data / QUESTIONS), _hearing(args)
    model, encoder = load_model(checkpoint)
    with _served(args.policy, reply_tokens=0) as policy, _served(args.judge) as judge:
        judges = Judges(ModelJudge(judge), asker(judge))
        trainer = Trainer(model, encoder, scale.rl)
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
            command.add_argument("videos", nargs="+", type=Path)
        if name == "grpo":
            command.add_argument("--policy", required=True, help="address of the server that serves the model in training")
            command.add_argument("--judge", required=True, help="address of the judging model")
    args = parser.parse_args()
    stages[args.stage][0](args, load(args.preset))


if __name__ == "__main__":
    entry.run(main)

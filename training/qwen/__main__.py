"""``python -m training.qwen``: one stage at a time.

python -m training.qwen questions videos/*.mp4 --teacher http://localhost:8000/v1 --data data
python -m training.qwen trajectories --teacher http://localhost:8000/v1 --data data
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen sft --data data --out build/4b-sft
accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen grpo --data data --checkpoint build/4b-sft \
    --policy http://localhost:8001/v1 --judge http://localhost:8002/v1 --out build/4b-rl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage_cli.agent import Settings
from sage_cli.errors import UsageError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.remote import RemoteModel
from sage_cli.video import Video
from training import entry
from training.qwen import record, synthesize
from training.qwen.settings import Scale, load
from training.runlog import Log

if TYPE_CHECKING:
    from sage_cli.tools.workspace import SpeechModel

QUESTIONS, TRAJECTORIES = "questions.jsonl", "trajectories.jsonl"


def _served(address: str) -> RemoteModel:
    parsed = RemoteAddress.parse(address)
    if parsed is None:
        raise UsageError(f"{address}: not an address; use http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME")
    return RemoteModel(parsed)


def _transcriber(args: argparse.Namespace, video: Video) -> Callable[[], SpeechModel] | None:
    """What hears a video, if a speech model was given."""
    if args.speech is None or not video.has_audio:
        return None
    from sage_cli.speech import Transcriber, Transcript

    return lambda: Transcript(Transcriber(args.speech), video, video.id)


def _questions(args: argparse.Namespace, scale: Scale) -> None:
    args.data.mkdir(parents=True, exist_ok=True)
    with _served(args.teacher) as teacher:
        for path in args.videos:
            video = Video(path)
            load_speech = _transcriber(args, video)
            parts = load_speech().parts(0.0, video.duration) if load_speech else ()
            speech = "\n".join(f"{segment.start:.0f}-{segment.end:.0f} s: {segment.text}" for part in parts for segment in part.segments)
            questions = synthesize.ask_questions(teacher, video, speech, scale.data)
            synthesize.write_questions(questions, video, args.data / QUESTIONS)
            print(f"{path}: {len(questions)} questions, {synthesize.covered(questions, video.duration):.0%} covered", file=sys.stderr)


def _trajectories(args: argparse.Namespace, scale: Scale) -> None:
    data = scale.data
    with _served(args.teacher) as teacher:
        for question in record.read(args.data / QUESTIONS):
            video = Video(question["video_path"])
            settings = Settings(frames=data.frames)
            more: dict[str, Any] = {"transcriber": _transcriber(args, video)}
            found = record.trajectories(
                teacher, video, question, count=data.trajectories, temperature=data.temperature, settings=settings, **more
            )
            record.append(args.data / TRAJECTORIES, found)
            print(f"{question['question'][:60]}: {len(found)} different trajectories", file=sys.stderr)


def _sft(args: argparse.Namespace, scale: Scale) -> None:
    from training.qwen.sft import load_model, train

    model, encoder = load_model(args.checkpoint or scale.model)
    train(model, encoder, record.read(args.data / TRAJECTORIES), scale.sft, args.out, Log(args.out, "sft"), seed=scale.seed)


def _grpo(args: argparse.Namespace, scale: Scale) -> None:
    from sage_cli.bench.judges import ModelJudge
    from training.judges import asker
    from training.qwen.grpo import Judges, Trainer, train
    from training.qwen.sft import load_model

    model, encoder = load_model(args.checkpoint or scale.model)
    with _served(args.policy) as policy, _served(args.judge) as judge:
        judges = Judges(ModelJudge(judge), asker(judge))
        trainer = Trainer(model, encoder, scale.rl)
        train(trainer, policy, record.read(args.data / QUESTIONS), judges, args.out, Log(args.out, "rl"), seed=scale.seed)


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
            command.add_argument("--speech", type=Path, help="a whisper model; without, nothing is heard")
        else:
            command.add_argument("--checkpoint", help="folder or name of the model to start from")
            command.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the log")
        if name == "questions":
            command.add_argument("videos", nargs="+", type=Path)
        if name == "grpo":
            command.add_argument("--policy", required=True, help="address of the server that serves the model in training")
            command.add_argument("--judge", required=True, help="address of the judging model")
    args = parser.parse_args()
    stages[args.stage][0](args, load(args.preset))


if __name__ == "__main__":
    entry.run(main)

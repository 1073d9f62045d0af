"""The real-scale stages at tiny size: a teacher, a judge and the policy served on loopback, a checkpoint of random weights, real steps."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from sage_cli.agent import Settings  # noqa: E402
from sage_cli.bench.judges import ModelJudge  # noqa: E402
from sage_cli.model.address import RemoteAddress  # noqa: E402
from sage_cli.model.remote import RemoteModel  # noqa: E402
from sage_cli.video import Video  # noqa: E402
from training.clips import write_clip  # noqa: E402
from training.judges import asker  # noqa: E402
from training.model import nano_config  # noqa: E402
from training.questions import some_question  # noqa: E402
from training.qwen import grpo, record, sft, synthesize  # noqa: E402
from training.qwen.rows import RowEncoder, row_loss  # noqa: E402
from training.qwen.settings import RL, SFT, Data, load  # noqa: E402
from training.runlog import Log  # noqa: E402
from training.runlog import read as read_log  # noqa: E402
from training.tokens import VOCABULARY, Encoder, train_tokenizer  # noqa: E402
from training.trajectories import Listener, Trajectory  # noqa: E402
from training.world import World  # noqa: E402

NAME = "clip.mp4"


class Teacher:
    """An OpenAI-compatible server on loopback: writes questions, plays the ideal agent about one world, and judges.

    Attributes:
        asked: what it was asked to write: ``"questions"``, ``"agent"``, ``"answer"`` or ``"step"``, in order.
    """

    def __init__(self, world: World, question: Any) -> None:
        self.turns = [turn.plain_reply for turn in Trajectory(world, question, NAME).turns()]
        self.world = world
        self.asked: list[str] = []
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send({"object": "list", "data": [{"id": "teacher", "object": "model", "max_model_len": 32768}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                text = teacher.reply(json.dumps(body["messages"]))
                if not body.get("stream"):
                    message = {"role": "assistant", "content": text}
                    self.send(
                        {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
                    )
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for choice in ({"delta": {"content": text}}, {"delta": {}, "finish_reason": "stop"}):
                    chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": None, **choice}]}
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")

            def send(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reply(self, asked: str) -> str:
        if "Write questions about this video" in asked:
            self.asked.append("questions")
            # The first time they cover half of the video.
            end = self.world.duration if self.asked.count("questions") > 1 else self.world.duration / 2
            question = {
                "question": "q",
                "answer": "a",
                "ques_type": "mcq",
                "difficulty": "hard",
                "modality": "visual",
                "rationale": "r",
                "needs_web": False,
            }
            return json.dumps({"questions": [{**question, "start": "00:00", "end": f"00:{end:04.1f}"}] * 10})
        if "reasonable next step" in asked:
            self.asked.append("step")
            return "Reasoning: it helps.\nVerdict: True"
        if "means the same as the reference" in asked:
            self.asked.append("answer")
            return "Reasoning: same.\nVerdict: True"
        self.asked.append("agent")
        # How many results a prompt holds tells which turn it is.
        done = len(re.findall(r"_#\d+ output", asked))
        return self.turns[min(done, len(self.turns) - 1)]


@pytest.fixture(scope="module")
def world_and_question() -> tuple[World, Any]:
    return some_question(random.Random(3), "speech", 12)


@pytest.fixture(scope="module")
def video(world_and_question: Any, tmp_path_factory: pytest.TempPathFactory) -> Video:
    patch = pytest.MonkeyPatch()
    patch.setattr("training.clips.soundtrack", lambda world, voice: np.zeros(round(world.duration * 16_000), np.float32))
    path = write_clip(world_and_question[0], tmp_path_factory.mktemp("video") / NAME, size=96, rate=4)
    patch.undo()
    return Video(path)


@pytest.fixture
def teacher(world_and_question: Any) -> Iterator[Teacher]:
    teacher = Teacher(*world_and_question)
    yield teacher
    teacher.server.shutdown()
    teacher.server.server_close()


@pytest.fixture
def served(teacher: Teacher) -> Iterator[RemoteModel]:
    with RemoteModel(RemoteAddress(teacher.url)) as model:
        yield model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-VL's architecture with random weights, as ``from_pretrained`` loads it."""
    from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("checkpoint")
    train_tokenizer(0, questions=500).save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    Qwen3VLForConditionalGeneration(nano_config(VOCABULARY, Encoder(folder / "tokenizer.json").control)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>").save_pretrained(folder)
    return folder


def settings(**more: Any) -> Settings:
    return Settings(frames=8, max_steps=3, reply_tokens=512, **more)


def test_the_preset_is_the_papers() -> None:
    scale = load("qwen3-vl-4b")
    assert (scale.sft.batch, scale.sft.rate, scale.rl.rate, scale.rl.kl, scale.rl.rollouts) == (64, 1e-5, 1e-6, 0.005, 8)
    assert scale.rl.rewards == RL().rewards


def test_questions_that_cover_too_little_are_asked_for_again(served: RemoteModel, teacher: Teacher, video: Video, tmp_path: Path) -> None:
    questions = synthesize.ask_questions(served, video, "", Data(frames=4))
    assert teacher.asked == ["questions"] * 2
    assert len(questions) == 10
    assert synthesize.covered(questions, video.duration) > 0.9
    synthesize.write_questions(questions, video, tmp_path / "questions.jsonl")
    assert record.read(tmp_path / "questions.jsonl")[0]["end"] == pytest.approx(video.duration, abs=0.1)


def trajectories_of(served: RemoteModel, video: Video, world_and_question: Any, count: int) -> list[dict[str, Any]]:
    world, question = world_and_question
    asked = {"question": question.text, "answer": question.answer}
    return record.trajectories(served, video, asked, count=count, temperature=0.7, settings=settings(), transcriber=lambda: Listener(world))


def test_equal_trajectories_are_kept_once_and_train(
    served: RemoteModel, video: Video, world_and_question: Any, checkpoint: Path, tmp_path: Path
) -> None:
    recorded = trajectories_of(served, video, world_and_question, 4)
    assert len(recorded) == 1
    assert [call["role"] for call in recorded[0]["calls"]] == ["look", "reason"]
    record.append(tmp_path / "trajectories.jsonl", recorded)
    model, encoder = sft.load_model(str(checkpoint))
    rows = list(sft.sft_rows(encoder, recorded, SFT(), random.Random(0)))
    before = sum(row_loss(model, row, encoder.image_pad, prompt_too=False).item() for row in rows)
    tuned = SFT(batch=2, rate=1e-3, epochs=2)
    assert (
        sft.train(
            model, encoder, record.read(tmp_path / "trajectories.jsonl"), tuned, tmp_path / "sft", Log(tmp_path, "sft", quiet=True), seed=0
        )
        == 2
    )
    again, encoder = sft.load_model(str(tmp_path / "sft"))
    assert sum(row_loss(again, row, encoder.image_pad, prompt_too=False).item() for row in rows) < before
    assert len(read_log(tmp_path)) == 2


def test_grpo_with_served_policy_and_judges(
    served: RemoteModel, teacher: Teacher, video: Video, world_and_question: Any, checkpoint: Path, tmp_path: Path
) -> None:
    world, question = world_and_question
    asked = {"question": question.text, "answer": question.answer, "video_path": str(video.path), "start": 0.0, "end": 5.0}
    judges = grpo.Judges(ModelJudge(served), asker(served))
    model, encoder = sft.load_model(str(checkpoint))
    weights = model.lm_head.weight.detach().clone()
    small = RL(steps=1, questions=1, rollouts=2, rate=1e-3, warmup=0.5, early_turns=3, reply_tokens=512, longest=20_000)
    trainer = grpo.Trainer(model, encoder, small)
    grpo.train(
        trainer, served, [asked], judges, tmp_path / "rl", Log(tmp_path, "rl", quiet=True), seed=0, transcriber=lambda: Listener(world)
    )
    (line,) = read_log(tmp_path)
    assert line["terms"]["final"] == 1.0
    assert line["terms"]["judge"] == pytest.approx(0.1)  # one call in each rollout
    assert {"agent", "step", "answer"} <= set(teacher.asked)
    assert line["rows"] == 4
    assert (tmp_path / "rl" / "model.safetensors").exists()
    assert weights.shape == model.lm_head.weight.shape


def test_rows_are_what_sage_asks(checkpoint: Path, served: RemoteModel, video: Video, world_and_question: Any) -> None:
    (recorded,) = trajectories_of(served, video, world_and_question, 1)
    encoder: RowEncoder = sft.load_model(str(checkpoint))[1]
    look = recorded["calls"][0]
    row = encoder.row(record.restore(look["prompt"], video), look["reply"])
    assert row.grid is not None
    assert len(row.grid) == 4
    assert int((row.ids == encoder.image_pad).sum()) == sum(int(rows) * int(columns) // 4 for _, rows, columns in row.grid)

"""The real-scale stages at tiny size: a teacher, a judge and the policy served on loopback, a checkpoint of random weights, real steps."""

from __future__ import annotations

import json
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from safetensors.torch import load_file  # noqa: E402

from sage_cli.agent import Settings  # noqa: E402
from sage_cli.bench.items import Item  # noqa: E402
from sage_cli.bench.judges import ModelJudge, Verdict  # noqa: E402
from sage_cli.errors import ModelError, SageError, UsageError, VideoError  # noqa: E402
from sage_cli.model.address import RemoteAddress  # noqa: E402
from sage_cli.model.base import Frames, Reply, Usage  # noqa: E402
from sage_cli.model.refusals import UnreachableError  # noqa: E402
from sage_cli.model.remote import RemoteModel  # noqa: E402
from sage_cli.video import Video  # noqa: E402
from tests.agent.scripted import ScriptedModel, call, context, reasoner  # noqa: E402
from tests.training.processes import together  # noqa: E402
from training.clips import write_clip  # noqa: E402
from training.judges import asker  # noqa: E402
from training.model import nano_config  # noqa: E402
from training.questions import some_question  # noqa: E402
from training.qwen import __main__ as stages  # noqa: E402
from training.qwen import grpo, record, sft, synthesize  # noqa: E402
from training.qwen.questions import read_questions  # noqa: E402
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
    with pytest.raises(ValueError, match="true spans"):
        RL.model_validate({"rewards": {"overlap": 0.5}})


def test_questions_that_cover_too_little_are_asked_for_again(served: RemoteModel, teacher: Teacher, video: Video, tmp_path: Path) -> None:
    questions = synthesize.ask_questions(served, video, "", Data(frames=4))
    assert teacher.asked == ["questions"] * 2
    assert len(questions) == 10
    assert synthesize.covered(questions, video.duration) > 0.9
    assert questions[0]["end"] == pytest.approx(video.duration, abs=0.1)


def asked_of(video: Video, question: Any) -> Item:
    return Item(0, "0", question.text, question.answer, str(video.path), video.path)


def trajectories_of(served: RemoteModel, video: Video, world_and_question: Any, count: int) -> list[dict[str, Any]]:
    world, question = world_and_question
    asked = asked_of(video, question)
    return record.trajectories(served, asked, count=count, temperature=0.7, settings=settings(), hear=lambda _: Listener(world))


def test_equal_trajectories_are_kept_once_and_train(
    served: RemoteModel, video: Video, world_and_question: Any, checkpoint: Path, tmp_path: Path
) -> None:
    recorded = trajectories_of(served, video, world_and_question, 4)
    assert len(recorded) == 1
    assert [call["role"] for call in recorded[0]["calls"]] == ["look", "reason"]
    record.append(tmp_path / "trajectories.jsonl", recorded)
    model, encoder = sft.load_model(str(checkpoint))
    rows = [sft.encode(encoder, call) for call in sft.calls_of(recorded, SFT())]
    before = sum(row_loss(model, row, prompt_too=False).item() for row in rows)
    tuned = SFT(batch=2, rate=1e-3, epochs=2)
    assert (
        sft.train(
            model, encoder, record.read(tmp_path / "trajectories.jsonl"), tuned, tmp_path / "sft", Log(tmp_path, "sft", quiet=True), seed=0
        )
        == 2
    )
    again, encoder = sft.load_model(str(tmp_path / "sft"))
    assert sum(row_loss(again, row, prompt_too=False).item() for row in rows) < before
    assert len(read_log(tmp_path)) == 2


def test_grpo_with_served_policy_and_judges(
    served: RemoteModel, teacher: Teacher, video: Video, world_and_question: Any, checkpoint: Path, tmp_path: Path
) -> None:
    world, question = world_and_question
    asked = asked_of(video, question)
    judges = grpo.Judges(ModelJudge(served), asker(served))
    model, encoder = sft.load_model(str(checkpoint))
    weights = model.lm_head.weight.detach().clone()
    (checkpoint / "preprocessor_config.json").write_text("{}", encoding="utf-8")  # as Qwen's own folders have one
    small = RL(steps=1, questions=1, rollouts=2, frames=4, rate=1e-3, warmup=0.0, early_turns=3, reply_tokens=512)
    trainer = grpo.Trainer(model, encoder, small)
    grpo.train(trainer, served, [asked], judges, tmp_path / "rl", Log(tmp_path, "rl", quiet=True), seed=0, hear=lambda _: Listener(world))
    (line,) = read_log(tmp_path)
    assert line["terms"]["final"] == 1.0
    assert line["terms"]["judge"] == pytest.approx(0.1)  # one call in each rollout
    assert {"agent", "step", "answer"} <= set(teacher.asked)
    assert line["rows"] == 4
    assert (tmp_path / "rl" / "model.safetensors").exists()
    assert (tmp_path / "rl" / "preprocessor_config.json").read_text(encoding="utf-8") == "{}"
    assert line["unjudged"] == 0
    assert not torch.equal(weights, model.lm_head.weight), "the only step trains, too"


def run_of(*replies: Any, video: Video, once: bool = False) -> tuple[ScriptedModel, list[dict[str, Any]]]:
    model = ScriptedModel(*replies, strict=False)
    limits = Settings(frames=8, max_steps=6)
    calls, _ = record.run_agent(model, video, "q?", settings=limits, temperature=0.0, seed=0, hear=None, once=once)
    return model, calls


def test_a_row_shows_what_the_teacher_was_shown(video: Video) -> None:
    """The same tokens and pixels, of the first look, of a window, of a clip and of stills: some of their frames are timed from the start of
    the window, some not at all."""
    window = {"video_path": NAME, "timestamp_start": "00:02", "timestamp_end": "00:12"}
    clip = call("extract_parts_from_timestamp", **window, extract_type="subclips")
    stills = call("extract_parts_from_timestamp", **window, extract_type="frames")
    replies = [
        *(
            context(None, call("identify_timestamps_visually", event="x", **window)),
            {"name": "x", "timestamps": {"start": None, "end": None}},
        ),
        *(reasoner(None, clip), reasoner(None, call("perform_reasoning", query="q", media_paths=["c1.mp4"])), "A clip."),
        *(reasoner(None, stills), reasoner(None, call("perform_reasoning", query="q", media_paths=["f1/00:02.0.jpg"])), "A frame."),
        reasoner("x"),
    ]
    model, calls = run_of(*replies, video=video)
    assert Counter(item["role"] for item in calls) == {"look": 1, "reason": 5, "ground": 1, "analyze": 2}
    for asked, item in zip(model.asked, calls, strict=True):
        restored = record.restore(json.loads(json.dumps(item["prompt"])), video)
        assert [shown(message) for message in restored] == [shown(message) for message in asked.prompt]
        for one, other in zip(frames_of(restored), frames_of(asked.prompt), strict=True):
            np.testing.assert_array_equal(one.image, other.image)


def frames_of(prompt: Any) -> list[Any]:
    return [frame for message in prompt for part in message.parts if isinstance(part, Frames) for frame in part.frames]


def shown(message: Any) -> list[Any]:
    """A message, with frames by their key and time."""
    return [
        message.role,
        *(
            ([(frame.key, frame.time) for frame in part.frames], part.pairs, part.timed) if isinstance(part, Frames) else part.text
            for part in message.parts
        ),
    ]


def test_a_reply_that_cannot_be_read_is_no_row_and_ends_an_episode(video: Video) -> None:
    _, calls = run_of("garbage", context("x"), video=video)
    assert ["A red car." in item["reply"] for item in calls] == [True]
    _, calls = run_of("garbage", context("x"), video=video, once=True)
    assert [item["reply"] for item in calls] == ["garbage"]


def test_without_a_speech_model_there_is_no_tool_for_speech(video: Video) -> None:
    _, calls = run_of(context("x"), video=video)
    assert "verbal_transcript" not in json.dumps(calls[0]["prompt"])


def test_helper_calls_train_only_if_asked_for() -> None:
    recorded = [{"video_path": __file__, "calls": [{"role": role} for role in ("look", "ground", "reason", "analyze")]}]
    assert [item["role"] for item in sft.calls_of(recorded, SFT())] == ["look", "reason"]
    assert len(sft.calls_of(recorded, SFT(helper=True))) == 4
    with pytest.raises(UsageError, match="nothing to train on"):
        sft.calls_of([], SFT())
    with pytest.raises(UsageError, match=r"1 of 2 videos .* for example gone\.mp4"):
        sft.calls_of([*recorded, {"video_path": "gone.mp4", "calls": []}], SFT())


def test_an_answer_without_a_verdict_is_not_wrong(
    served: RemoteModel, video: Video, world_and_question: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that fails says nothing of an answer: it trains nothing, and where all fail, so does the run."""
    world, question = world_and_question
    small = RL(questions=1, rollouts=2, frames=4, early_turns=3, reply_tokens=512)
    silent = grpo.Judges(lambda item, answer: Verdict(None, "no verdict: the judge is asleep"))
    found = grpo.roll_out(served, asked_of(video, question), small, silent, turns=3, seed=0, hear=lambda _: Listener(world))
    assert (found.terms, found.unjudged) == (None, "no verdict: the judge is asleep")
    assert [{part.get("pairs") for part in item["parts"]} for item in found.calls[0]["prompt"]] == [{None}, {False, None}]

    class Updates:
        gather = staticmethod(lambda items: items)

    learned: list[Any] = []

    def learn(*given: Any) -> dict[str, float]:
        learned.append(given)
        return {}

    trainer: Any = SimpleNamespace(settings=small, updater=Updates, learn=learn)
    with pytest.raises(ModelError, match="none of 2 rollouts could be judged: no verdict: the judge is asleep"):
        grpo._learn(trainer, {0: found, 1: found})
    judged = grpo.Trajectory([], {"final": 1.0, "form": 0.05})
    told = grpo._learn(trainer, {0: judged, 1: found})
    assert learned == [([judged], [0.0])]
    assert told == {"return": 1.05, "terms": {"final": 1.0, "form": 0.05}, "unjudged": 1}


def test_a_question_that_fails_does_not_end_a_run_that_would_meet_it_again(
    served: RemoteModel,
    video: Video,
    world_and_question: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(error: Exception) -> Any:
        def run(*_: object, **__: object) -> Any:
            raise error

        return run

    judges = grpo.Judges(ModelJudge(served))
    asked, small = asked_of(video, world_and_question[1]), RL()
    for error in (ModelError("the server's content filter stopped the reply"), VideoError("nothing of it can be decoded")):
        monkeypatch.setattr(grpo, "run_agent", fails(error))
        assert grpo.roll_out(served, asked, small, judges, turns=3, seed=0, hear=None).unjudged == str(error)
        monkeypatch.setattr(record, "run_agent", fails(error))
        with pytest.raises(SageError, match="1 of 1 questions have no trajectories"):
            make_trajectories(served, asked, tmp_path, monkeypatch)
        assert str(error) in capsys.readouterr().err
    gone = UnreachableError("the server is gone")
    monkeypatch.setattr(grpo, "run_agent", fails(gone))
    monkeypatch.setattr(record, "run_agent", fails(gone))
    with pytest.raises(UnreachableError):
        grpo.roll_out(served, asked, small, judges, turns=3, seed=0, hear=None)
    with pytest.raises(UnreachableError):
        make_trajectories(served, asked, tmp_path, monkeypatch)


def make_trajectories(served: RemoteModel, item: Item, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.append(folder / "own.jsonl", [{"question": item.question, "answer": item.reference, "video": item.video}])
    more = ["--questions", str(folder / "own.jsonl"), "--data", str(folder), "--teacher", served.address.url]
    monkeypatch.setattr(sys, "argv", ["training.qwen", "trajectories", *more])
    stages.main()


def test_all_questions_come_before_any_comes_again() -> None:
    questions = [{"question": str(number)} for number in range(5)]
    drawn = [item["question"] for number in range(0, 15, 3) for item in grpo.draw(questions, number, 3, seed=1)]
    epochs = [drawn[:5], drawn[5:10], drawn[10:]]
    assert [sorted(epoch) for epoch in epochs] == [["0", "1", "2", "3", "4"]] * 3
    assert epochs[0] != epochs[1]


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    record.append(path, [{"n": 1}])
    path.write_text(path.read_text(encoding="utf-8") + '{"n": ', encoding="utf-8")
    assert record.read(path) == [{"n": 1}]
    record.append(path, [{"n": 2}])
    assert record.read(path) == [{"n": 1}, {"n": 2}]


def test_a_file_written_by_hand_is_read_and_kept(tmp_path: Path) -> None:
    """With the mark of some editors, blank lines, separators that end no line, and no line end at the end."""
    path = tmp_path / "x.jsonl"
    path.write_bytes('\ufeff{"n": 1}\r\n\r\n{"n": "a\u2028b"}'.encode())
    assert record.read(path) == [{"n": 1}, {"n": "a\u2028b"}]
    record.append(path, [{"n": 3}])
    assert record.read(path) == [{"n": 1}, {"n": "a\u2028b"}, {"n": 3}]
    path.write_text('{"n": 1}\n{"n"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        record.read(path)
    with pytest.raises(UsageError, match="the stage before"):
        record.read(tmp_path / "none.jsonl")


def test_a_set_of_ones_own_is_read_as_sage_bench_reads_it(video: Video, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my clips").mkdir()
    (tmp_path / "my clips" / "Ünï 日本.mp4").symlink_to(video.path)
    rows: list[dict[str, Any]] = [
        {"id": 1, "question": "Which? (A) red (B) blue", "answer": "B", "video_path": "my clips/Ünï 日本.mp4"},
        {"id": 1, "question": "How many?", "answer": 2, "video": str(video.path)},
        {"question": "Which?", "options": ["red", "blue"], "answer_index": 0, "video_path": "my clips/Ünï 日本.mp4"},
        {"question": "How many?", "answer": 2, "video": str(video.path)},
        {"question": "Gone?", "answer": "yes", "video": "gone.mp4"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\ufeff" + "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    found = read_questions(path)
    assert [(item.question.split("\n")[0], item.letter, item.reference) for item in found] == [
        ("Which? (A) red (B) blue", "B", "blue"),
        ("How many?", None, "2"),
        ("Which?", "A", "red"),
    ]
    assert "1 of 5 questions are left out: their videos are not here, for example gone.mp4" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no questions"):
        read_questions(tmp_path / "none.jsonl")


def test_what_a_teacher_wrote_wrongly_is_left_out() -> None:
    good = {"question": "q?", "answer": "a", "ques_type": "open_ended", "start": "00:00", "end": "00:05"}
    options = {**good, "question": "q? (A) red (B) blue", "ques_type": "mcq"}
    written: list[Any] = [
        *({**good, "start": "about the middle"}, {**good, "end": None}, {**good, "end": "00:00"}, "no question", {"question": "q?"}),
        *({**options, "answer": "green"}, {**options, "answer": "1"}),
        *(good, {**options, "answer": "(B) blue"}),
    ]
    assert [item["answer"] for item in synthesize.read_questions(json.dumps({"questions": written}), 12)] == ["a", "(B) blue"]
    assert synthesize.read_questions('{"questions": 5}', 12) == []


def test_a_bad_video_does_not_keep_the_others_from_their_questions(
    teacher: Teacher, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    command = ["training.qwen", "questions", str(bad), str(video.path), "--teacher", teacher.url, "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    for asked in (2, 2):  # the second time it has questions
        with pytest.raises(SageError, match="1 of 2 videos"):
            stages.main()
        assert teacher.asked.count("questions") == asked
    assert {item["video_path"] for item in record.read(tmp_path / "questions.jsonl")} == {str(video.path)}
    assert "bad.mp4" in capsys.readouterr().err


def test_the_judge_has_its_own_key(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in (("SAGE_API_KEY", {}), ("SAGE_JUDGE_KEY", {"variable": "SAGE_JUDGE_KEY"})):
        monkeypatch.setenv(name, f"key of {name}".replace(" ", "-"))
        with stages._served(f"{teacher.url},http://127.0.0.1:1/v1", **variable) as model:
            assert model._client.api_key == f"key-of-{name}"


def some_calls(video: Video) -> list[dict[str, Any]]:
    """A trajectory of three short calls, one of them with frames."""
    frames = {"from": [0.0, 1.0], "times": [0.0, 1.0], "timed": True, "size": [96, 96], "pairs": True}
    parts: list[list[dict[str, Any]]] = [[frames, {"text": "What is it?"}], [{"text": "And now?"}], [{"text": "Are you sure of it?"}]]
    calls = [
        {"role": "reason", "prompt": [{"role": "user", "parts": given}], "reply": f"It is {number}."} for number, given in enumerate(parts)
    ]
    return [{"video_path": str(video.path), "calls": calls}]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_two_processes_make_the_steps_of_one(video: Video, checkpoint: Path, tmp_path: Path) -> None:
    """Three rows over two processes: the same losses and weights as in one, one log, and nobody waits for ever."""

    def tune(out: Path) -> None:
        model, encoder = sft.load_model(str(checkpoint))
        tuned = SFT(batch=3, rate=1e-3, epochs=2, keep_every=1)
        sft.train(model, encoder, some_calls(video), tuned, out, Log(out, "sft", quiet=True), seed=0)

    tune(tmp_path / "one")
    together(lambda: tune(tmp_path / "two"))
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in two] == [1, 2]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    assert [line["rows"] for line in two] == [3, 3]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(value, weights[1][name], atol=1e-5) for name, value in weights[0].items())
    assert not (tmp_path / "two" / "state").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_two_processes_share_the_rollouts(
    served: RemoteModel, teacher: Teacher, video: Video, world_and_question: Any, checkpoint: Path, tmp_path: Path
) -> None:
    world, question = world_and_question
    asked = asked_of(video, question)
    reloads = tmp_path / "reloads"
    small = RL(
        steps=1,
        questions=1,
        rollouts=3,
        rate=1e-3,
        early_turns=3,
        reply_tokens=512,
        longest=10,
        reload=(sys.executable, "-c", f"open({str(reloads)!r}, 'a').write('reload ')"),
    )

    def work() -> None:
        with RemoteModel(RemoteAddress(teacher.url)) as model:
            trainer = grpo.Trainer(*sft.load_model(str(checkpoint)), small)
            judges, log = grpo.Judges(ModelJudge(model), asker(model)), Log(tmp_path, "rl", quiet=True)
            grpo.train(trainer, model, [asked], judges, tmp_path / "rl", log, seed=0, hear=lambda _: Listener(world))

    together(work)
    assert teacher.asked.count("answer") == 3
    assert reloads.read_text() == "reload "
    (line,) = read_log(tmp_path)
    assert (line["rows"], line["terms"]["final"]) == (0, 1.0)  # all are too long, which saves the test half a minute


def test_an_interrupted_stage_goes_on(video: Video, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tune(out: Path) -> None:
        model, encoder = sft.load_model(str(checkpoint))
        tuned = SFT(batch=1, rate=1e-3, epochs=2, keep_every=2)
        sft.train(model, encoder, some_calls(video), tuned, out, Log(out, "sft", quiet=True), seed=0)

    tune(tmp_path / "whole")
    update, done = sft._update, []

    def stops(*args: Any) -> Any:
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(sft, "_update", stops)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts")
    monkeypatch.undo()
    tune(tmp_path / "parts")
    whole, parts = (read_log(tmp_path / name) for name in ("whole", "parts"))
    assert [(line["step"], line["loss"]) for line in parts] == [(line["step"], pytest.approx(line["loss"])) for line in whole]


def test_a_run_is_kept_at_any_moment_and_finished_once(
    video: Video, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tune(**more: Any) -> int:
        tuned = SFT(**{"batch": 1, "rate": 1e-3, "keep_every": 1, **more})
        log = Log(tmp_path / "out", "sft", quiet=True)
        return sft.train(*sft.load_model(str(checkpoint)), some_calls(video), tuned, tmp_path / "out", log, seed=0)

    kept: list[Path] = []
    replace = Path.replace

    def ended(self: Path, target: Path) -> Path:
        """Ends the second keeping when the old state is out of the way and the new one is not in place."""
        if self.name == "state.part":
            kept.append(self)
            if len(kept) == 2:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", ended)
    with pytest.raises(KeyboardInterrupt):
        tune()
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(UsageError, match="differs in settings"):
        tune(rate=1e-4)
    assert tune(keep_every=5) == 3
    written = (tmp_path / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [(line["step"], line.get("resumed", False)) for line in map(json.loads, written)]
    assert lines == [(1, False), (2, False), (2, True), (3, False)]
    weights = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert tune() == 0
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == weights
    assert "is finished" in capsys.readouterr().err
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("state")]


def test_a_reply_that_was_cut_has_no_end(checkpoint: Path, video: Video) -> None:
    encoder: RowEncoder = sft.load_model(str(checkpoint))[1]
    (whole, cut) = (encoder.row([], "It is", cut=cut).ids.tolist() for cut in (False, True))
    assert whole == [*cut, encoder._end]
    start, end = "<json>\n", "\n</json>"
    monkey: Any = type("", (), {"stream": staticmethod(lambda *_, **__: iter([Reply(f"{start}{{{end}", "length", Usage())]))})
    recorder = record.Recorder(monkey, temperature=0.0, seed=0, reply_tokens=5)
    list(recorder.stream([], schema={"video_context": 1}, wrap=(start, end)))
    assert [(item["reply"], item["cut"]) for item in recorder.calls] == [(f"{start}{{", True)]
    with pytest.raises(UsageError, match="nothing to train on"):
        sft.calls_of([{"video_path": __file__, "calls": recorder.calls}], SFT())


def test_rows_are_what_sage_asks(checkpoint: Path, served: RemoteModel, video: Video, world_and_question: Any) -> None:
    (recorded,) = trajectories_of(served, video, world_and_question, 1)
    encoder: RowEncoder = sft.load_model(str(checkpoint))[1]
    look = recorded["calls"][0]
    row = encoder.row(record.restore(look["prompt"], video), look["reply"])
    assert row.grid is not None
    assert len(row.grid) == 4
    assert int((row.ids == encoder.image_pad).sum()) == sum(int(rows) * int(columns) // 4 for _, rows, columns in row.grid)
    hidden = row.labels == -100
    assert int(hidden.sum()) == int(row.pads.sum()) + 2 * len(row.grid)  # and what stands around each slice
    assert not hidden[row.prompt :].any()

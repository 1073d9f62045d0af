"""Advantages, the loss, and one update, against numbers worked by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from training.config import RL  # noqa: E402
from training.grpo import Scored, Trainer, make_parts, make_rows, summary  # noqa: E402
from training.model import new_model  # noqa: E402
from training.objective import advantages, kl_k3, policy_loss, schedule  # noqa: E402
from training.rollouts import some_task  # noqa: E402
from training.tokens import VOCABULARY, Encoder, train_tokenizer  # noqa: E402


def test_rollouts_are_compared_with_those_of_their_question() -> None:
    returns = [1.0, 0.0, 5.0, 5.0]
    assert advantages(returns, [0, 0, 1, 1], "question") == pytest.approx([1, -1, 0, 0], abs=1e-4)


def test_or_with_the_whole_batch() -> None:
    mean, std = 2.75, math.sqrt((1.75**2 + 2.75**2 + 2 * 2.25**2) / 4)
    expected = [(value - mean) / std for value in (1.0, 0.0, 5.0, 5.0)]
    assert advantages([1.0, 0.0, 5.0, 5.0], [0, 0, 1, 1], "batch") == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.5, 2.0, -2.4),  # clipped at 1.2
        (0.5, 2.0, -1.0),  # the worse of the two counts
        (1.5, -2.0, 3.0),
        (0.5, -2.0, 1.6),  # clipped at 0.8
        (5.0, -2.0, 6.0),  # dual clip: at most three times the advantage
    ],
)
def test_the_clipped_loss(ratio: float, advantage: float, loss: float) -> None:
    now = torch.tensor([math.log(ratio)])
    assert policy_loss(now, torch.zeros(1), torch.tensor([advantage]), 0.2, 3.0).item() == pytest.approx(loss)


def test_the_learning_rate_needs_no_warm_up() -> None:
    assert [schedule(done, 0.0) for done in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert schedule(0.05, 0.1) == pytest.approx(0.5 * 0.9938, abs=1e-4)


def test_k3_is_its_formula_and_never_negative() -> None:
    now, reference = torch.tensor([0.0, -1.0, -3.0]), torch.tensor([0.0, -2.0, -1.0])
    assert kl_k3(now, reference).tolist() == pytest.approx([0, math.exp(-1) + 1 - 1, math.exp(2) - 2 - 1])


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    path: Path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    train_tokenizer(0, questions=800).save(str(path))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = new_model(VOCABULARY, Encoder(path).control).eval()
    settings = RL(questions=1, rollouts=2, reply_tokens=48, max_turns=1, early_turns=1, rate=1e-2, warmup=0.0, start="base", epochs=2)
    yield Trainer(model, path, settings, seed=0)


def test_an_update_makes_the_better_rollout_likelier(trainer: Trainer) -> None:
    """Rollouts of the real agent, held to the protocol; two of them, and the first one is told to be better."""
    scored = [Scored(item.rollout, {"final": value}, False) for item, value in zip(trainer.roll(1), (1.0, 0.0), strict=True)]
    first, second = (item.rollout for item in scored)
    assert all(step.reply.startswith('<json>\n{"') for step in (*first.steps, *second.steps))
    embeddings = dict(trainer.engine.embeddings)

    def likelihoods() -> list[float]:
        trainer.engine.embeddings = dict(embeddings)
        return [_likelihood(trainer, rollout) for rollout in (first, second)]

    before = likelihoods()
    told = trainer.learn(scored, 1.0)
    after = likelihoods()
    assert after[0] - before[0] > after[1] - before[1]
    assert told["tokens"] == sum(
        len(call.sampled) for rollout in (first, second) for call in rollout.calls if call.role in ("look", "reason")
    )
    assert told["kl"] > 0


def _likelihood(trainer: Trainer, rollout: Any) -> float:
    from training.grpo import log_probabilities

    rows = make_rows([rollout], [1.0], trainer.engine.image_pad)
    table = torch.stack([trainer.engine.embeddings[key] for key in rows.slices])
    with torch.no_grad():
        parts = make_parts(rows, trainer.engine.image_pad, torch.device("cpu"))
        return sum(float(log_probabilities(trainer.model, part, table, 0.7).sum()) for part in parts)


def test_the_same_seed_gives_the_same_rollouts(trainer: Trainer) -> None:
    told = []
    for _ in range(2):
        told.append([item.rollout.calls[0].reply for item in trainer.roll(1)])
        trainer.engine.forget()
    assert told[0] == told[1]
    assert summary([Scored(item, {"final": 0.0}, False) for item in [trainer.roll(1)[0].rollout]])["turns"] >= 1


def test_tasks_are_of_the_kind_asked_for() -> None:
    assert some_task(random.Random(1), "cue").question.kind == "cue"

"""GRPO of Qwen3-VL with ``accelerate``: rollouts by the real agent against a server (vLLM) that serves the policy, judges behind addresses.

Rewards, advantages and losses are those of the nano model; every reply of the agent is a row whose reply tokens all train.
"""

from __future__ import annotations

import copy
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sage_cli.agent import Settings
from sage_cli.bench.items import Item
from sage_cli.bench.judges import Judge
from sage_cli.errors import UsageError
from sage_cli.model.base import ChatModel
from training.judges import step_task, verdict_of
from training.objective import advantages, kl_k3, policy_loss, schedule
from training.qwen.record import OWN, Hear, run_agent
from training.qwen.rows import Row, RowEncoder, reply_log_probabilities
from training.qwen.settings import RL
from training.qwen.sft import encode, open_video
from training.qwen.updates import Updater
from training.rewards import STEP_REWARDS, final_reward, overlap_reward
from training.runlog import Log
from training.steps import Step, read_steps


@dataclass(frozen=True, slots=True)
class Judges:
    """Who judges answers and steps.

    Attributes:
        answer: of ``sage bench``.
        ask: sends a prompt to a judging model and returns its reply; ``None``: nobody is asked about steps.
    """

    answer: Judge
    ask: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A rollout: what the model was asked and replied in the paper's two roles, and its rewards by term."""

    calls: list[dict[str, Any]]
    terms: dict[str, float]


def roll_out(
    policy: ChatModel,
    question: Mapping[str, Any],
    settings: RL,
    judges: Judges,
    *,
    turns: int,
    seed: int,
    hear: Hear | None,
) -> Trajectory:
    """One rollout of the agent, and its return.

    Args:
        policy: serves the model in training.
        question: a line of the question set: ``question``, ``answer``, ``video_path``, and ``start`` and ``end`` in seconds.
        hear: see :func:`run_agent`.
    """
    video = open_video(question["video_path"])
    limits = Settings(max_steps=turns, reply_tokens=settings.reply_tokens)
    calls, events = run_agent(
        policy, video, question["question"], settings=limits, temperature=settings.temperature, seed=seed, hear=hear, once=True
    )
    own = [call for call in calls if call["role"] in OWN]
    steps, answer, grounded = read_steps([(call["role"], call["reply"]) for call in own], events)
    judged: list[Step] = []
    for step in steps:
        if step.tool is not None and judges.ask is not None:
            step = replace(step, reasonable=verdict_of(judges.ask(step_task(question["question"], judged, step))))
        judged.append(step)
    item = Item(0, "0", question["question"], question["answer"], question["video_path"], None)
    is_right = answer is not None and bool(judges.answer(item, answer).correct)
    terms = {name: sum(give(step, settings.rewards) for step in judged) for name, give in STEP_REWARDS.items()}
    terms["final"] = final_reward(judged, answer, is_right, settings.rewards)
    terms["overlap"] = overlap_reward(grounded, (question["start"], question["end"]), settings.rewards)
    return Trajectory([{"video_path": question["video_path"], **call} for call in own], terms)


class Trainer:
    """GRPO updates of one model.

    Args:
        model: the policy; the reference is a copy of it as it is now.
    """

    def __init__(self, model: Any, encoder: RowEncoder, settings: RL) -> None:
        self.encoder, self.settings = encoder, settings
        reference = copy.deepcopy(model)
        self.updater = Updater(model, encoder, rate=self._rate, weight_decay=settings.weight_decay, clip=settings.grad_clip)
        self.reference = self.updater.alike(reference)

    def _rate(self, step: int) -> float:
        return self.settings.rate * schedule((step + 1) / self.settings.steps, self.settings.warmup)

    def learn(self, trajectories: Sequence[Trajectory], gained: Sequence[float]) -> dict[str, float]:
        """One update from a step's trajectories.

        Args:
            trajectories: this process's share of them.
            gained: the advantage of each.
        """
        import torch

        settings, updater = self.settings, self.updater
        rows = [
            (row, advantage)
            for item, advantage in zip(trajectories, gained, strict=True)
            for row in (encode(self.encoder, call) for call in item.calls)
            if len(row) <= settings.longest
        ]
        total = updater.total(sum(len(row) - row.prompt for row, _ in rows))
        told: dict[str, float] = defaultdict(float)

        def loss(row: Row, advantage: float) -> Tensor:
            with torch.no_grad(), updater.autocast():
                reference = reply_log_probabilities(self.reference, row, settings.temperature)
            now = reply_log_probabilities(updater.model, row, settings.temperature)
            # One update per step: the policy that wrote the replies is the one that is updated.
            pieces = policy_loss(now, now.detach(), torch.full_like(now, advantage), settings.clip, settings.dual_clip)
            divergence = kl_k3(now, reference)
            value = (pieces + settings.kl * divergence).sum() / total
            told["loss"] += value.item()
            told["kl"] += divergence.sum().item() / total
            return value

        norm = updater.step([partial(loss, row, advantage) for row, advantage in rows])
        summed = {name: updater.total(told[name]) for name in ("loss", "kl")}
        return {**summed, "gradient": norm, "rows": updater.total(len(rows)), "tokens": total}


def draw(questions: Sequence[Mapping[str, Any]], number: int, count: int, seed: int) -> list[Mapping[str, Any]]:
    """``count`` questions from the ``number``-th on, without replacement: all come once, in random order, before any comes again."""
    places = [divmod(at, len(questions)) for at in range(number, number + count)]
    orders = {epoch: random.Random(f"{seed}/{epoch}").sample(range(len(questions)), len(questions)) for epoch, _ in places}
    return [questions[orders[epoch][place]] for epoch, place in places]


def train(
    trainer: Trainer,
    policy: ChatModel,
    questions: Sequence[Mapping[str, Any]],
    judges: Judges,
    out: Path,
    log: Log,
    *,
    seed: int,
    hear: Hear | None,
) -> None:
    """Train for the steps of the settings; goes on from where an interrupted run was kept.

    Each process makes and judges its share of a step's rollouts. After every ``reload_every`` steps the policy is saved and the server told
    to load it.

    Raises:
        UsageError: there are no questions.
        subprocess.CalledProcessError: the reload command failed.
    """
    if not questions:
        raise UsageError("there are no questions; run `python -m training.qwen questions` first")
    settings, updater = trainer.settings, trainer.updater
    if updater.resume(out):
        if updater.main:
            log.write(step=updater.steps, resumed=True)
        _publish(updater, out, settings)
    for step in range(updater.steps + 1, settings.steps + 1):
        turns = settings.early_turns if step <= settings.early_steps else settings.max_turns
        chosen = draw(questions, (step - 1) * settings.questions, settings.questions, seed)
        mine = updater.share(range(settings.questions * settings.rollouts))
        roll = partial(roll_out, policy, settings=settings, judges=judges, turns=turns, hear=hear)
        with ThreadPoolExecutor(max(1, len(mine))) as pool:
            futures = [
                pool.submit(roll, chosen[number // settings.rollouts], seed=random.Random(f"{seed}/{step}/{number}").getrandbits(31))
                for number in mine
            ]
            trajectories = [future.result() for future in futures]
        terms = dict(updater.gather([(number, item.terms) for number, item in zip(mine, trajectories, strict=True)]))
        numbers = sorted(terms)
        returns = [sum(terms[number].values()) for number in numbers]
        gained = advantages(returns, [number // settings.rollouts for number in numbers], settings.advantages)
        told = trainer.learn(trajectories, [gained[number] for number in mine])
        if updater.main:
            means = {name: sum(terms[number][name] for number in numbers) / len(numbers) for name in terms[0]}
            log.write(step=step, **{"return": sum(means.values())}, terms=means, **told)
        if step % settings.reload_every == 0 or step == settings.steps:
            _publish(updater, out, settings)
        if step % settings.keep_every == 0 and step < settings.steps:
            updater.keep(out)
    updater.forget(out)


def _publish(updater: Updater, out: Path, settings: RL) -> None:
    """Save the policy, and let the server load it; no process goes on before it has."""
    updater.export(out)
    if settings.reload and updater.main:
        subprocess.run([*settings.reload, str(out)], check=True)
    updater.wait()

"""GRPO of Qwen3-VL with ``accelerate``: rollouts by the real agent against a server (vLLM) that serves the policy, judges behind addresses.

Rewards, advantages and losses are those of the nano model; every reply of the agent is a row whose reply tokens all train.
"""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from sage_cli.agent import Settings
from sage_cli.bench.items import Item
from sage_cli.bench.judges import Judge, Verdict
from sage_cli.errors import ModelError, UsageError, VideoError
from sage_cli.model.base import ChatModel
from sage_cli.model.refusals import UnreachableError
from training.judges import step_task, verdict_of
from training.objective import advantages, kl_k3, policy_loss, schedule
from training.qwen.record import OWN, Hear, one_by_one, run_agent
from training.qwen.rows import Row, RowEncoder, reply_log_probabilities
from training.qwen.settings import RL
from training.qwen.sft import encode, model_name, open_video
from training.qwen.updates import Updater, fingerprint
from training.rewards import reward_terms
from training.runlog import Log
from training.steps import Step, read_steps

T = TypeVar("T")


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
    """A rollout.

    Attributes:
        calls: what the model was asked and replied in the paper's two roles.
        terms: its rewards; ``None`` where it failed, or the judge gave no verdict on its answer: nobody knows its return, and it trains
            nothing.
        unjudged: why there are none.
    """

    calls: list[dict[str, Any]]
    terms: dict[str, float] | None
    unjudged: str = ""


def roll_out(
    policy: ChatModel,
    item: Item,
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
        item: the question.
        turns: most calls of the reasoner.
        hear: see :func:`run_agent`.

    Raises:
        UnreachableError: a server cannot be reached. Other errors are in the trajectory: a resumed run would meet them again.
    """
    try:
        return _rolled(policy, item, settings, judges, turns, seed, hear)
    except UnreachableError:
        raise
    except (ModelError, VideoError) as error:
        return Trajectory([], None, str(error))


def _rolled(policy: ChatModel, item: Item, settings: RL, judges: Judges, turns: int, seed: int, hear: Hear | None) -> Trajectory:
    video = open_video(str(item.path))
    limits = Settings(frames=settings.frames, max_steps=turns, reply_tokens=settings.reply_tokens)
    calls, events = run_agent(
        policy, video, item.question, settings=limits, temperature=settings.temperature, seed=seed, hear=hear, once=True
    )
    own = [call for call in calls if call["role"] in OWN]
    steps, answer, _ = read_steps([(call["role"], call["reply"]) for call in own], events)
    judged: list[Step] = []
    for step in steps:
        if step.tool is not None and judges.ask is not None:
            step = replace(step, reasonable=verdict_of(judges.ask(step_task(item.question, judged, step))))
        judged.append(step)
    # The policy is trained on what it read: a server is sent single images.
    rows = [{"video_path": str(item.path), **call, "prompt": one_by_one(call["prompt"])} for call in own]
    verdict = judges.answer(item, answer) if answer is not None else Verdict(False, "no answer")
    if verdict.correct is None:
        return Trajectory(rows, None, verdict.reasoning)
    return Trajectory(rows, reward_terms(judged, answer, verdict.correct, settings.rewards, most=turns + 1))


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
        return self.settings.rate * schedule((step + 0.5) / self.settings.steps, self.settings.warmup)

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


def draw(questions: Sequence[T], number: int, count: int, seed: int) -> list[T]:
    """``count`` questions from the ``number``-th on, without replacement: all come once, in random order, before any comes again."""
    places = [divmod(at, len(questions)) for at in range(number, number + count)]
    orders = {epoch: random.Random(f"{seed}/{epoch}").sample(range(len(questions)), len(questions)) for epoch, _ in places}
    return [questions[orders[epoch][place]] for epoch, place in places]


def train(
    trainer: Trainer,
    policy: ChatModel,
    questions: Sequence[Item],
    judges: Judges,
    out: Path,
    log: Log,
    *,
    seed: int,
    hear: Hear | None,
) -> None:
    """Train for the steps of the settings; goes on from where an interrupted run was kept, and does nothing where it is finished.

    Each process makes and judges its share of a step's rollouts. After every ``reload_every`` steps the policy is saved and the server told
    to load it.

    Raises:
        UsageError: there are no questions, or the folder holds another run.
        ModelError: none of a step's rollouts could be judged.
        subprocess.CalledProcessError: the reload command failed.
    """
    if not questions:
        raise UsageError("there are no questions; run 'python -m training.qwen questions' first")
    settings, updater = trainer.settings, trainer.updater
    data = fingerprint((item.path, item.question, item.reference) for item in questions)
    same = settings.model_dump(exclude={"keep_every", "reload"})
    if not updater.begin(out, {"model": model_name(trainer.reference), "seed": seed, "settings": same, "data": data}):
        return
    if updater.main and not settings.reload:
        print(f"no rl.reload: rollouts stay the first policy's unless its server loads {out} by itself", file=sys.stderr)
    if updater.main:
        log.begin(updater.steps)
    if updater.begun:  # the server may be ahead of what was kept
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
            trajectories = dict(zip(mine, (future.result() for future in futures), strict=True))
        told = _learn(trainer, trajectories)
        if updater.main:
            log.write(step=step, **told)
        if step % settings.reload_every == 0 or step == settings.steps:
            _publish(updater, out, settings)
        if step % settings.keep_every == 0 and step < settings.steps:
            updater.keep(out)
    updater.finish(out)


def _learn(trainer: Trainer, trajectories: Mapping[int, Trajectory]) -> dict[str, Any]:
    """A step's update, from all that were judged. Returns what the log is told.

    Args:
        trajectories: this process's share, by number.
    """
    settings, updater = trainer.settings, trainer.updater
    every = updater.gather([(number, item.terms, item.unjudged) for number, item in trajectories.items()])
    terms = {number: found for number, found, _ in sorted(every, key=lambda item: item[0]) if found is not None}
    if not terms:
        raise ModelError(f"none of {len(every)} rollouts could be judged: {every[0][2]}")
    groups = [number // settings.rollouts for number in terms]
    returns = [sum(found.values()) for found in terms.values()]
    gained = dict(zip(terms, advantages(returns, groups, settings.advantages), strict=True))
    judged = [number for number in trajectories if number in gained]
    told = trainer.learn([trajectories[number] for number in judged], [gained[number] for number in judged])
    means = {name: sum(found[name] for found in terms.values()) / len(terms) for name in next(iter(terms.values()))}
    return {"return": sum(means.values()), "terms": means, "unjudged": len(every) - len(terms), **told}


def _publish(updater: Updater, out: Path, settings: RL) -> None:
    """Save the policy, and let the server load it; no process goes on before it has."""
    updater.export(out)
    if settings.reload and updater.main:
        subprocess.run([*settings.reload, str(out)], check=True)
    updater.wait()

"""GRPO of Qwen3-VL with ``accelerate``: rollouts by the real agent against a server (vLLM) that serves the policy, judges behind addresses.

Rewards, advantages and losses are those of the nano model; every reply of the agent is a row whose reply tokens all train.
"""

from __future__ import annotations

import copy
import math
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sage_cli.agent import Settings
from sage_cli.bench.items import Item
from sage_cli.bench.judges import Judge
from sage_cli.model.base import ChatModel
from training.judges import step_task, verdict_of
from training.objective import advantages, kl_k3, policy_loss
from training.qwen.record import restore, run_agent
from training.qwen.rows import RowEncoder, reply_log_probabilities
from training.qwen.settings import RL
from training.qwen.sft import open_video, save_checkpoint
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
    """A rollout: what the model was asked and replied, and its return."""

    video: str
    calls: list[dict[str, Any]]
    terms: dict[str, float]

    @property
    def value(self) -> float:
        return sum(self.terms.values())


def roll_out(
    policy: ChatModel, question: Mapping[str, Any], settings: RL, judges: Judges, *, turns: int, seed: int, **more: Any
) -> Trajectory:
    """One rollout of the agent, and its return.

    Args:
        policy: serves the model in training.
        question: a line of the question set: ``question``, ``answer``, ``video_path``, and ``start`` and ``end`` in seconds.
        more: for the agent, such as a transcriber.
    """
    video = open_video(question["video_path"])
    limits = Settings(max_steps=turns, reply_tokens=settings.reply_tokens)
    calls, events = run_agent(policy, video, question["question"], settings=limits, temperature=settings.temperature, seed=seed, **more)
    own = [(call["role"], call["reply"]) for call in calls if call["role"] in ("look", "reason")]
    steps, answer, grounded = read_steps(own, events)
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
    return Trajectory(question["video_path"], calls, terms)


class Trainer:
    """GRPO updates of one model.

    Args:
        model: on its device; the reference is a copy of it as it is now.
    """

    def __init__(self, model: Any, encoder: RowEncoder, settings: RL) -> None:
        import torch
        from accelerate import Accelerator

        self.encoder, self.settings = encoder, settings
        self.accelerator = Accelerator()
        self.reference = copy.deepcopy(model).requires_grad_(False).to(self.accelerator.device)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, settings.rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(model, optimizer, schedule)

    def _rate(self, step: int) -> float:
        done = (step + 1) / self.settings.steps
        return min(1.0, done / self.settings.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def learn(self, trajectories: Sequence[Trajectory], groups: Sequence[int]) -> dict[str, float]:
        """One update from a step's trajectories; ``groups`` numbers their questions."""
        import torch

        settings = self.settings
        gained = advantages([item.value for item in trajectories], groups, settings.advantages)
        told: dict[str, float] = defaultdict(float)
        rows = []
        for item, advantage in zip(trajectories, gained, strict=True):
            for call in item.calls:
                if call["role"] in ("look", "reason"):
                    row = self.encoder.row(restore(call["prompt"], open_video(item.video)), call["reply"])
                    if len(row.ids) <= settings.longest:
                        rows.append((row, advantage))
        total = sum(len(row.ids) - row.prompt for row, _ in rows)
        for row, advantage in rows:
            chances = partial(reply_log_probabilities, row=row, image_pad=self.encoder.image_pad, temperature=settings.temperature)
            with torch.no_grad():
                reference = chances(self.reference)
            now = chances(self.model)
            # One update per step: the policy that wrote the replies is the one that is updated.
            pieces = policy_loss(now, now.detach(), torch.full_like(now, advantage), settings.clip, settings.dual_clip)
            divergence = kl_k3(now, reference)
            loss = (pieces + settings.kl * divergence).sum() / total
            self.accelerator.backward(loss)
            told["loss"] += loss.item()
            told["kl"] += divergence.sum().item() / total
        told["gradient"] = float(self.accelerator.clip_grad_norm_(self.model.parameters(), settings.grad_clip))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return {**told, "rows": float(len(rows)), "tokens": float(total)}


def train(
    trainer: Trainer,
    policy: ChatModel,
    questions: Sequence[Mapping[str, Any]],
    judges: Judges,
    out: Path,
    log: Log,
    *,
    seed: int,
    **more: Any,
) -> None:
    """Train for the steps of the settings. After every ``reload_every`` the policy is saved and the server told to load it.

    Raises:
        subprocess.CalledProcessError: the reload command failed.
    """
    settings, rng = trainer.settings, random.Random(seed)
    for step in range(1, settings.steps + 1):
        turns = settings.early_turns if step <= settings.early_steps else settings.max_turns
        chosen = [rng.choice(questions) for _ in range(settings.questions)]
        seeds = [rng.getrandbits(31) for _ in range(settings.questions * settings.rollouts)]
        roll = partial(roll_out, policy, settings=settings, judges=judges, turns=turns, **more)
        with ThreadPoolExecutor(len(seeds)) as pool:
            futures = [pool.submit(roll, chosen[number // settings.rollouts], seed=given) for number, given in enumerate(seeds)]
            trajectories = [future.result() for future in futures]
        told = trainer.learn(trajectories, [number // settings.rollouts for number in range(len(seeds))])
        terms = {name: sum(item.terms[name] for item in trajectories) / len(trajectories) for name in trajectories[0].terms}
        log.write(step=step, **{"return": sum(terms.values())}, terms=terms, **told)
        if step % settings.reload_every == 0 or step == settings.steps:
            save_checkpoint(trainer.accelerator, trainer.model, trainer.encoder, out)
            if settings.reload:
                subprocess.run([*settings.reload, str(out)], check=True)

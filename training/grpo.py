"""GRPO (Shao et al., 2024) on whole trajectories: return, advantage, and the clipped policy gradient on every reply of the agent.

Each reply is a row of its own: the prompt with all tool results so far, and the reply, whose tokens train. All rows of a trajectory carry
its advantage. The policy is the constrained one: tokens that the schema forces have a probability of one and no gradient, the others are
normalized over what the schema allows.
"""

from __future__ import annotations

import copy
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.chat import Call, Engine
from training.circuits import LOOKING_BACK, STAMPING, hold
from training.config import RL, Rewards
from training.judges import exact_step, right
from training.language import BRANCHES, Batch, Packed, collate, forward, pack
from training.model import keep, new_model, resume, save
from training.objective import advantages, kl_k3, policy_loss, schedule
from training.questions import KINDS
from training.rewards import STEP_REWARDS, reward_terms
from training.rollouts import Rollout, Task, roll_out, some_task
from training.runlog import Clock, Log
from training.samples import draw
from training.sft import similar_for
from training.steps import Step
from training.tokens import VOCABULARY, Encoder
from training.trajectories import needs_tools

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

_TOKENS: Final = 60_000  # of prompts and replies in one forward pass
_LONG: Final = 600.0  # seconds; videos past ten minutes are reported on their own

# ---- return ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scored:
    """A rollout and its rewards by term, whose sum is the return."""

    rollout: Rollout
    terms: dict[str, float]
    right: bool

    @property
    def value(self) -> float:
        return sum(self.terms.values())


def score(rollout: Rollout, rewards: Rewards, *, step_rewards: bool, max_turns: int) -> Scored:
    """Ask the judges and add up.

    Args:
        step_rewards: whether rewards of steps count.
    """
    steps: list[Step] = []
    for step in rollout.steps:
        if step.tool is not None and step_rewards:
            step = replace(step, reasonable=exact_step(rollout.task, steps, step))
        steps.append(step)
    is_right = right(rollout)
    truth = rollout.task.question.evidence if rollout.task.question.kind == "ground" else None
    terms = reward_terms(steps, rollout.answer, is_right, rewards, most=max_turns + 1, found=rollout.grounded, truth=truth)
    if not step_rewards:
        terms |= dict.fromkeys(STEP_REWARDS, 0.0)
    return Scored(rollout, terms, is_right)


# ---- rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rows:
    """Replies that train, in samples: those with the same prompt share one.

    Attributes:
        samples: their branches are the rows.
        calls, advantages: of each row, by sample and branch.
        slices: keys of the slices that the samples' tables of rows are numbered by.
    """

    samples: list[Packed]
    calls: dict[int, Call]
    advantages: dict[int, float]
    slices: list[str]


def make_rows(rollouts: Sequence[Rollout], weights: Sequence[float], image_pad: int) -> Rows:
    """The agents' replies as rows; replies in which nothing was chosen have none."""
    by_prompt: dict[tuple[tuple[int, ...], tuple[str, ...]], list[tuple[Call, float]]] = defaultdict(list)
    for rollout, weight in zip(rollouts, weights, strict=True):
        for call in rollout.calls:
            if call.role in ("look", "reason") and call.sampled:
                by_prompt[tuple(call.prompt), tuple(call.slices)].append((call, weight))
    numbers: dict[str, int] = {}
    samples: list[Packed] = []
    calls: dict[int, Call] = {}
    given: dict[int, float] = {}
    for (prompt, slices), entries in by_prompt.items():
        table_rows = [numbers.setdefault(key, len(numbers)) for key in slices]
        for at in range(0, len(entries), BRANCHES - 1):
            part = entries[at : at + BRANCHES - 1]
            branches = []
            for branch, (call, weight) in enumerate(part, start=1):
                chosen = np.zeros(len(call.reply))
                chosen[call.sampled] = 1
                branches.append((call.reply, chosen.tolist()))
                key = len(samples) * BRANCHES + branch
                calls[key], given[key] = call, weight
            samples.append(pack(list(prompt), branches, table_rows, image_pad))
    return Rows(samples, calls, given, list(numbers))


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples as one forward pass, with the advantage, and what the schema allowed, at every token that was chosen."""

    batch: Batch
    advantages: Tensor
    allowed: Tensor


def make_parts(rows: Rows, image_pad: int, device: torch.device) -> list[Part]:
    """Split rows into forward passes of bounded size."""
    parts: list[Part] = []
    order = sorted(range(len(rows.samples)), key=lambda number: -len(rows.samples[number]))
    while order:
        most = max(1, _TOKENS // len(rows.samples[order[0]]))
        chosen, order = order[:most], order[most:]
        batch = collate([[rows.samples[number] for number in chosen]], image_pad, similar=similar_for(device))
        keys = [chosen[reply // BRANCHES] * BRANCHES + reply % BRANCHES for reply in batch.replies.tolist()]
        allowed: list[NDArray[np.int32]] = []
        for key in dict.fromkeys(keys):  # tokens of a reply are together, in order
            allowed += rows.calls[key].allowed
        bits = np.zeros((len(keys), VOCABULARY), np.bool_)
        for number, tokens in enumerate(allowed):
            bits[number, tokens] = True
        weights = np.array([rows.advantages[key] for key in keys], np.float32)
        parts.append(Part(batch, torch.from_numpy(weights).to(device), torch.from_numpy(bits).to(device)))
    return parts


# ---- loss ----------------------------------------------------------------------------------------------------------


def log_probabilities(model: Qwen3VLForConditionalGeneration, part: Part, table: Tensor | None, temperature: float) -> Tensor:
    """Of every chosen token, under the constrained policy at the rollouts' temperature."""
    out = forward(model, part.batch, table)
    logits = (out.logits / temperature).masked_fill(~part.allowed, -torch.inf)
    return logits.log_softmax(-1).gather(-1, out.targets[:, None])[:, 0]


# ---- training ------------------------------------------------------------------------------------------------------


class Trainer:
    """GRPO of one model.

    Args:
        model: the policy, on its device; the reference is a copy of it as it is now.
    """

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        tokenizer: Path,
        settings: RL,
        *,
        seed: int,
    ) -> None:
        self.model, self.settings = model, settings
        model.model.visual.requires_grad_(False)
        self.reference = copy.deepcopy(model).requires_grad_(False)
        self.engine = Engine(model, tokenizer)
        self._seed = seed
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, settings.rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99))
        self._put_back = hold(model.model.language_model, (*LOOKING_BACK, *(STAMPING if settings.start == "sft" else ())))

    def roll(self, step: int) -> list[Scored]:
        """One step's rollouts, those of a question side by side."""
        settings = self.settings
        turns = settings.early_turns if step <= settings.early_steps else settings.max_turns
        rng = random.Random(f"rl/{self._seed}/{step}")  # an interrupted run goes on with the same ones
        tasks = [some_task(rng, draw(rng, settings.kinds)) for _ in range(settings.questions)]
        jobs = [
            partial(
                roll_out,
                self.engine,
                task,
                rng.getrandbits(31),
                temperature=settings.temperature,
                max_turns=turns,
                reply_tokens=settings.reply_tokens,
            )
            for task in tasks
            for _ in range(settings.rollouts)
        ]
        return [
            score(
                rollout,
                settings.rewards,
                step_rewards=settings.step_rewards,
                max_turns=turns,
            )
            for rollout in self.engine.run(jobs)
        ]

    def learn(self, scored: Sequence[Scored], rate: float) -> dict[str, float]:
        """Update the policy from a step's rollouts. Returns the mean loss, KL, share of clipped tokens, and the gradient's norm."""
        settings, device = self.settings, self.parameters[0].device
        groups = [number // settings.rollouts for number in range(len(scored))]
        gained = advantages([item.value for item in scored], groups, settings.advantages)
        rows = make_rows([item.rollout for item in scored], gained, self.engine.image_pad)
        parts = make_parts(rows, self.engine.image_pad, device)
        table = torch.stack([self.engine.embeddings[key] for key in rows.slices]) if rows.slices else None
        with torch.no_grad():
            old = [log_probabilities(self.model, part, table, settings.temperature) for part in parts]
            kept = [log_probabilities(self.reference, part, table, settings.temperature) for part in parts]
        total = sum(len(part.advantages) for part in parts)
        told: dict[str, float] = defaultdict(float)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * rate
        for _ in range(settings.epochs):
            self.optimizer.zero_grad()
            for part, before, reference in zip(parts, old, kept, strict=True):
                now = log_probabilities(self.model, part, table, settings.temperature)
                pieces = policy_loss(now, before, part.advantages, settings.clip, settings.dual_clip)
                divergence = kl_k3(now, reference)
                loss = (pieces + settings.kl * divergence).sum() / total
                loss.backward()
                told["loss"] += loss.item() / settings.epochs
                told["kl"] += divergence.detach().sum().item() / total / settings.epochs
                told["clipped"] += ((now - before).abs() > settings.clip).float().sum().item() / total / settings.epochs
            told["gradient"] = float(nn.utils.clip_grad_norm_(self.parameters, settings.grad_clip))
            self.optimizer.step()
            self._put_back()
        self.engine.forget()
        return {**told, "rows": float(len(rows.calls)), "tokens": float(total)}

    def examine(self, tasks: Sequence[Task], *, tools: bool = True) -> list[Scored]:
        """Greedy answers to tasks."""
        settings = self.settings
        jobs = [
            partial(
                roll_out,
                self.engine,
                task,
                number,
                temperature=0.0,
                max_turns=settings.max_turns,
                reply_tokens=settings.reply_tokens,
                tools=tools,
            )
            for number, task in enumerate(tasks)
        ]
        rollouts = [rollout for at in range(0, len(jobs), 128) for rollout in self.engine.run(jobs[at : at + 128])]
        self.engine.forget()
        return [score(rollout, settings.rewards, step_rewards=True, max_turns=settings.max_turns) for rollout in rollouts]


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """What the curves show: mean return and rewards by term, accuracy (overall, past ten minutes, by kind), turns, and calls."""
    rollouts = [item.rollout for item in scored]
    steps = [step for rollout in rollouts for step in rollout.steps]
    calls = [step for step in steps if step.tool is not None]
    long = [item.right for item in scored if item.rollout.task.world.duration >= _LONG]
    by_kind = {kind: [item.right for item in scored if item.rollout.task.question.kind == kind] for kind in KINDS}
    single = [len(rollout.steps) == 1 for rollout in rollouts]
    wanted = [not needs_tools(rollout.task.world, rollout.task.question) for rollout in rollouts]
    tools: dict[str, int] = defaultdict(int)
    for step in calls:
        tools[str(step.tool)] += 1
    return {
        "return": _mean([item.value for item in scored]),
        "terms": {name: _mean([item.terms[name] for item in scored]) for name in scored[0].terms},
        "accuracy": _mean([item.right for item in scored]),
        "long": _mean(long),
        "kinds": {kind: _mean(values) for kind, values in by_kind.items() if values},
        "turns": _mean([len(rollout.steps) for rollout in rollouts]),
        "single": _mean(single),
        "horizon": _mean([one == other for one, other in zip(single, wanted, strict=True)]),
        "tools": {name: count / len(scored) for name, count in sorted(tools.items())},
        "invalid": _mean([not step.valid for step in calls]),
        "repeated": _mean([step.times > 1 for step in calls]),
        "no_answer": _mean([rollout.answer is None for rollout in rollouts]),
        "cut": _mean([rollout.cut > 0 for rollout in rollouts]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def held_out_tasks(count: int, seed: int = 4242) -> list[Task]:
    """Tasks that no training run draws, every kind alike."""
    rng = random.Random(f"held out/{seed}")
    return [some_task(rng, KINDS[number % len(KINDS)]) for number in range(count)]


def train_rl(settings: RL, folder: Path, name: str, log: Log, *, seed: int, device: torch.device, limit: float | None) -> None:
    """Train ``NAME.pt`` of a folder from its ``sft.pt`` or ``base.pt``. Goes on from ``NAME.part.pt`` if it exists.

    Args:
        name: of the run: ``"rl"``, or an ablation's.
        limit: seconds.
    """
    clock = Clock(settings.steps, limit)
    encoder = Encoder(folder / "tokenizer.json")
    torch.manual_seed(seed)
    model = new_model(VOCABULARY, encoder.control)
    model.load_state_dict(torch.load(folder / f"{settings.start}.pt", map_location="cpu"))
    trainer = Trainer(model.to(device).eval(), folder / "tokenizer.json", settings, seed=seed)
    part = folder / f"{name}.part.pt"
    tasks = held_out_tasks(settings.evaluate)
    step = resume(part, trainer.model, [trainer.optimizer])
    log.begin(step, run=name)
    if tasks and not step:
        before = time.monotonic()
        log.write(run=name, step=0, held_out=summary(trainer.examine(tasks)))
        clock.shorten(2 * (time.monotonic() - before))  # the same at the end, on a machine that may be busier
    while not clock.over(step):
        step += 1
        rate = schedule(clock.progress(step), settings.warmup)
        scored = trainer.roll(step)
        told = trainer.learn(scored, rate)
        log.write(run=name, step=step, rate=rate * settings.rate, **summary(scored), **told)
        if step % 10 == 0:
            keep(part, step, trainer.model, [trainer.optimizer])
    if tasks:
        log.write(run=name, step=step, held_out=summary(trainer.examine(tasks)))
    save(model, folder / f"{name}.pt")
    part.unlink(missing_ok=True)

"""Settings of the real-scale stages; defaults are the paper's (arXiv 2512.13874) for Qwen3-VL."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tomlkit
from pydantic import BaseModel, ConfigDict

from training.config import PRESETS, Advantages, Rewards


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Table):
    """Questions and trajectories from a teacher.

    Attributes:
        least, most: questions per video.
        visual: least number of questions that need the pictures alone.
        covered: least share of a video that the questions' spans cover together.
        attempts: times that a teacher is asked until its questions satisfy all of this; the best ones count.
        frames: shown to the teacher, per video.
        trajectories: per question; those that are the same count once. There is no correctness filter.
        temperature: of the trajectories.
    """

    least: int = 10
    most: int = 20
    visual: int = 4
    covered: float = 0.9
    attempts: int = 3
    frames: int = 128
    trajectories: int = 4
    temperature: float = 0.7


class SFT(_Table):
    """Supervised fine-tuning.

    Attributes:
        batch: rows per optimizer step, over all processes.
        longest: tokens; longer rows are dropped.
        loss_on: every token of prompt and reply, as the paper's Qwen runs, or the reply's alone, as its Molmo runs.
    """

    batch: int = 64
    rate: float = 1e-5
    epochs: int = 1
    grad_clip: float = 5.0
    longest: int = 16_384
    loss_on: Literal["all", "reply"] = "all"


class RL(_Table):
    """GRPO; see :class:`training.config.RL`.

    Attributes:
        reload: command that makes the rollout server load the checkpoint folder given as its last argument.
        reload_every: steps between reloads.
    """

    steps: int = 480
    questions: int = 16
    rollouts: int = 8
    temperature: float = 0.7
    max_turns: int = 10
    early_turns: int = 5
    early_steps: int = 100
    reply_tokens: int = 2048
    longest: int = 32_768
    rate: float = 1e-6
    warmup: float = 0.1
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    kl: float = 0.005
    clip: float = 0.2
    dual_clip: float = 3.0
    advantages: Advantages = "question"
    rewards: Rewards = Rewards()
    reload: tuple[str, ...] = ()
    reload_every: int = 1


class Scale(_Table):
    """The whole recipe for one base model."""

    model: str = "Qwen/Qwen3-VL-4B-Instruct"
    seed: int = 1
    data: Data = Data()
    sft: SFT = SFT()
    rl: RL = RL()


def load(preset: str) -> Scale:
    """The settings of a preset's name, or of a TOML file's path.

    Raises:
        FileNotFoundError: there is no such file.
        pydantic.ValidationError: a key is unknown or a value unfit.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    return Scale.model_validate(tomlkit.parse(path.read_text(encoding="utf-8")).unwrap())

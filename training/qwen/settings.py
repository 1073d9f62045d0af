"""Settings of the real-scale stages; defaults are the paper's (arXiv 2512.13874) for Qwen3-VL."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from training.config import GRPO, Rewards, Table, read_preset


class Data(Table):
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


class SFT(Table):
    """Supervised fine-tuning.

    Attributes:
        batch: rows per optimizer step, over all processes.
        longest: tokens; longer rows are dropped.
        loss_on: every token of prompt and reply, as the paper's Qwen runs, or the reply's alone, as its Molmo runs.
        helper: train what the tools ask of a model too (grounding, analysis), which the paper leaves to a model of its own.
        keep_every: steps between copies of all that the stage needs to go on after an interruption.
    """

    batch: int = 64
    rate: float = 1e-5
    epochs: int = 1
    grad_clip: float = 5.0
    longest: int = 16_384
    loss_on: Literal["all", "reply"] = "all"
    helper: bool = False
    keep_every: int = 200


class RL(GRPO):
    """GRPO with the policy behind a server.

    Attributes:
        frames: most that the policy is shown at once.
        longest: tokens of a prompt and its reply; longer rows are dropped.
        reload: command that makes the rollout server load the checkpoint folder given as its last argument.
        reload_every: steps between reloads.
        keep_every: steps between copies of all that the stage needs to go on after an interruption.
    """

    frames: int = 128
    longest: int = 32_768 + 2048
    reload: tuple[str, ...] = ()
    reload_every: int = 1
    keep_every: int = 20

    @field_validator("rewards")
    @classmethod
    def _judged(cls, rewards: Rewards) -> Rewards:
        if rewards.overlap:
            raise ValueError("overlap: only the synthetic world knows true spans")
        return rewards


class Scale(Table):
    """The whole recipe for one base model."""

    model: str = "Qwen/Qwen3-VL-4B-Instruct"
    seed: int = 1
    data: Data = Data()
    sft: SFT = SFT()
    rl: RL = RL()


def load(preset: str) -> Scale:
    """The settings of a preset's name, or of a TOML file's path; see :func:`training.config.read_preset`."""
    return read_preset(preset, Scale)

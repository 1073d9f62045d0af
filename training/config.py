"""One configuration for the whole run: every step count, loss mix and probability of the recipe, by stage.

A preset is a TOML file in ``training/presets`` with a table for each stage; a key that a preset leaves out keeps the default here. Unknown
keys are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeVar

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tomlkit.exceptions import ParseError

from sage_cli.errors import UsageError
from sage_cli.text import read_unicode
from training.entry import invalid

PRESETS: Final = Path(__file__).with_name("presets")
Advantages = Literal["question", "batch"]


class Table(BaseModel):
    """A table of a preset: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Settings = TypeVar("Settings", bound=Table)


class Vision(Table):
    """Warm-up of the vision encoder.

    Attributes:
        steps, batch: optimizer steps, and slices per step.
        rate: peak learning rate of AdamW.
        decay: share of the steps, at the end, over which the learning rate falls.
        same: probability that both frames of a slice show the same thing.
    """

    steps: int = 1200
    batch: int = 64
    rate: float = 1.5e-3
    decay: float = 0.5
    same: float = 0.6


class Drills(Table):
    """Samples per step of each drill: alone at first, and mixed with the replies later."""

    steps: int = 500
    copying: int = 16
    lookup: int = 16
    ordering: int = 16
    pointing: int = 16
    later_copying: int = 2
    later_lookup: int = 2
    later_ordering: int = 8
    later_pointing: int = 2


class Teacher(Table):
    """Faults of the teacher that wrote the SFT trajectories (the paper keeps them: it has no correctness filter).

    The first number of each pair is the probability in videos of under a minute, the second in videos of over twenty; it grows with the
    logarithm of the duration between the two. A teacher that sees few frames of a long video trusts them less, and when it does use
    tools, it is more often sloppy.

    Attributes:
        superfluous: calls a tool although the first look answers the question.
        guess: answers from the first look although a tool is needed, with what the frames show.
        window: transcribes the first minutes of the video instead of the stretch asked about.
        idle: stops after the transcript and says that there is no such thing, instead of looking where the speaker points.
        repeat: makes the same call once more before it goes on.
    """

    superfluous: tuple[float, float] = (0.0, 0.0)
    guess: tuple[float, float] = (0.0, 0.0)
    window: tuple[float, float] = (0.0, 0.0)
    idle: tuple[float, float] = (0.0, 0.0)
    repeat: tuple[float, float] = (0.0, 0.0)


class SFT(Table):
    """Supervised fine-tuning.

    Attributes:
        steps: at most; a deadline may end it earlier.
        warmup: steps over which the learning rates rise.
        cooldown: share of the run, at the end, over which they fall to nothing.
        matrix_rate, other_rate: of Muon, and of AdamW for embeddings and norms.
        clip: largest gradient norm.
        looks, later, grounds: videos with several first questions, calls after the first look, and grounding windows per step.
        asked_scenes, asked_other: first questions about one video: what its scenes answer, and what takes tools.
        first, kinds: weights of the kinds of question for the first look, and of those whose later calls are trained.
        shorten: probability that a reply ends with its last content token; the rest is forced by the schema and learned at once.
        form_weight: loss weight of what the schema forces anyway.
        alike, mixed: slices in the bank for each thing, and for each pair of things.
        examine: held-out questions whose replies are compared at the end, teacher-forced.
        streams, reuse: independent sample streams, and how many times each sample is used.
    """

    steps: int = 6500
    warmup: int = 60
    cooldown: float = 0.28
    matrix_rate: float = 5e-3
    other_rate: float = 2e-3
    clip: float = 1.0
    looks: int = 4
    later: int = 6
    grounds: int = 4
    asked_scenes: int = 2
    asked_other: int = 2
    first: dict[str, float] = {"visual": 0.25, "speech": 0.125, "moment": 0.125, "cue": 0.25, "ground": 0.125, "none": 0.125}
    kinds: dict[str, float] = {"speech": 0.24, "moment": 0.12, "cue": 0.22, "ground": 0.08, "none": 0.22}
    shorten: float = 0.85
    form_weight: float = 0.1
    alike: int = 40
    mixed: int = 4
    examine: int = 60
    streams: int = 4
    reuse: int = 1
    drills: Drills = Drills()
    teacher: Teacher = Teacher()


class Whisper(Table):
    """The nano whisper.

    Attributes:
        steps: at most; 0 leaves the whisper out.
        short: of them, steps at the start with one sentence a window.
        batch: windows per step.
        guidance: weight of the guided head's loss.
        matrix_rate, other_rate: of Muon, and of AdamW for the rest.
        warmup: steps over which the learning rates rise.
        decay: share of the steps, at the end, over which they fall.
        clip: largest gradient norm.
        readings: of each sentence, in different voices.
        salads, salad_readings: strings of random words, and readings of each.
        examine: held-out windows that are transcribed at the end.
    """

    steps: int = 6000
    short: int = 3000
    batch: int = 16
    guidance: float = 0.3
    matrix_rate: float = 5e-3
    other_rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.625
    clip: float = 1.0
    readings: int = 10
    salads: int = 250
    salad_readings: int = 4
    examine: int = 16


class Rewards(Table):
    """Size of every reward; ``training.rewards`` says when each is given. Defaults are the paper's."""

    form: float = 0.05
    bad_form: float = -0.1
    reasonable: float = 0.1
    unreasonable: float = -0.1
    repeated: float = -0.05
    invalid: float = -0.1
    repaired: float = -0.05
    broken: float = -2.0
    no_answer: float = -0.5
    wrong_after_tools: float = -0.5
    wrong_at_once: float = 0.0
    right: float = 1.0
    examined: float = 1.25
    per_turn_left: float = 0.0
    overlap: float = 0.0


class GRPO(Table):
    """What RL has at every scale. Defaults are the paper's.

    Attributes:
        steps: at most.
        questions, rollouts: questions per step and rollouts per question.
        temperature: of the rollouts; ``top_p`` is 1.
        max_turns: most calls of the reasoner, and ``early_turns`` in the first ``early_steps`` steps.
        reply_tokens: most tokens of a reply.
        rate, warmup: peak learning rate, cosine to zero, and the share of the steps over which it rises.
        kl: weight of the KL divergence (k3) to the model that RL started from.
        clip, dual_clip: of the importance ratio, and the bound of the loss where the advantage is negative.
        advantages: rollouts are compared with those of their own question, or with the whole batch.
    """

    steps: int = 480
    questions: int = 16
    rollouts: int = 8
    temperature: float = 0.7
    max_turns: int = 10
    early_turns: int = 5
    early_steps: int = 100
    reply_tokens: int = 2048
    rate: float = 1e-6
    warmup: float = 0.1
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    kl: float = 0.005
    clip: float = 0.2
    dual_clip: float = 3.0
    advantages: Advantages = "question"
    rewards: Rewards = Rewards()


class RL(GRPO):
    """GRPO for a model of a few million parameters: a larger learning rate, shorter replies, fewer steps.

    Attributes:
        epochs: passes over the rows of a step.
        step_rewards: give the step rewards; off in an ablation.
        kinds: weights of the kinds of question.
        start: checkpoint to start from: ``"sft"``, or ``"base"`` (the model that did only its drills).
        evaluate: held-out tasks that are answered before and after.
    """

    steps: int = 200
    early_turns: int = 6
    early_steps: int = 20
    reply_tokens: int = 160
    rate: float = 1e-4
    epochs: int = 1
    step_rewards: bool = True
    kinds: dict[str, float] = {"visual": 0.3, "speech": 0.14, "moment": 0.14, "cue": 0.14, "ground": 0.14, "none": 0.14}
    start: Literal["sft", "base"] = "sft"
    evaluate: int = 84


class Run(Table):
    """The whole run.

    Attributes:
        seed: of everything.
        tokenizer_questions: questions whose turns the tokenizer is made from.
        shares: of a deadline, by stage; what a stage leaves is the next one's.
        held_out: questions of the held-out set.
        longest: seconds; questions about longer videos are left out of it.
        bfloat16: matrix products on the CPU in bfloat16, which is faster where it has AVX512-BF16 or AMX.
        variants: settings of ``rl`` that an ablation changes, by the ablation's name.
    """

    seed: int = 1
    tokenizer_questions: int = 3000
    shares: dict[str, float] = {"vision": 0.1, "sft": 0.5, "rl": 0.4}
    held_out: int = 328
    longest: float = float("inf")
    bfloat16: bool = False
    vision: Vision = Vision()
    sft: SFT = SFT()
    rl: RL = RL()
    whisper: Whisper = Whisper()
    variants: dict[str, dict[str, object]] = Field(default_factory=dict)

    def variant(self, name: str) -> RL:
        """The settings of RL for an ablation; ``"main"`` for the run itself.

        Raises:
            UsageError: the configuration has no such ablation.
        """
        if name != "main" and name not in self.variants:
            raise UsageError(f"there is no ablation {name}: it is main or one of {', '.join(self.variants) or 'none'}")
        changes = {} if name == "main" else self.variants[name]
        merged = self.rl.model_dump()
        for key, value in changes.items():
            merged[key] = {**merged[key], **value} if isinstance(value, dict) and key == "rewards" else value
        return RL.model_validate(merged)


def load(preset: str) -> Run:
    """The configuration of a preset's name, or of a TOML file's path; see :func:`read_preset`.

    Raises:
        UsageError: there is none, or it has unknown or wrong values.
    """
    return read_preset(preset, Run)


def read_preset(preset: str, kind: type[Settings]) -> Settings:
    """The settings of a preset's name, or of a TOML file's path.

    Raises:
        UsageError: there is no such preset or file, or it has unknown or wrong values.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.toml")))
        raise UsageError(f"--preset {preset}: there is no such preset; the presets are {known}, or give the path of a TOML file")
    try:
        return kind.model_validate(tomlkit.parse(read_unicode(path)).unwrap())
    except (ParseError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        raise invalid(str(path), error) from error

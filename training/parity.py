"""The same greedy replies from torch and from llama.cpp.

python -m training parity build/nano/rl.pt build/nano/rl
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from sage_cli.assets import Nano
from sage_cli.model.base import ChatModel, Frames, Message, Part, Prompt, Reply, Text
from sage_cli.video import Frame
from training.chat import Engine, RolloutModel
from training.model import new_model
from training.questions import KINDS, some_question
from training.tokens import VOCABULARY, Encoder
from training.trajectories import Trajectory, render_slices, slice_times, some_name

LONGEST: Final = 160  # tokens of a reply
SEED: Final = 31_337


def cases(count: int) -> list[tuple[Prompt, str]]:
    """Prompts of every role, and the reply that training asked for."""
    rng, noise = random.Random(SEED), np.random.default_rng(SEED)
    found: list[tuple[Prompt, str]] = []
    while len(found) < count:
        world, question = some_question(rng, rng.choice(KINDS))
        turn = rng.choice(list(Trajectory(world, question, some_name(rng)).turns()))
        parts: tuple[Part, ...] = (Text(turn.text),)
        if turn.times:
            pairs = zip(slice_times(turn.times), render_slices(world, turn.times, noise), strict=True)
            # Only the mean of a pair's times is written down.
            images = [Frame(time, image, f"{len(found)}/{time}/{place}") for time, pair in pairs for place, image in enumerate(pair)]
            parts = (Frames(tuple(images)), *parts)
        system = [] if turn.system is None else [Message("system", (Text(turn.system),))]
        found.append(([*system, Message("user", parts)], turn.plain_reply))
    return found


def reply(model: ChatModel, prompt: Prompt) -> str:
    """A greedy reply that no schema holds."""
    return next(item.text for item in model.stream(prompt, max_tokens=LONGEST) if isinstance(item, Reply))


def torch_replies(weights: Path, prompts: Sequence[Prompt]) -> list[str]:
    """Replies of a checkpoint, in the precision of the exported file."""
    tokenizer = weights.parent / "tokenizer.json"
    model = new_model(VOCABULARY, Encoder(tokenizer).control)
    model.load_state_dict(torch.load(weights, map_location="cpu"))
    engine = Engine(model.half().float().eval(), tokenizer)
    asking = [RolloutModel(engine, 0, temperature=0.0, reply_tokens=LONGEST) for _ in prompts]
    jobs: list[Callable[[], str]] = [partial(reply, one, prompt) for one, prompt in zip(asking, prompts, strict=True)]
    return engine.run(jobs)


def compare(weights: Path, models: Path, count: int) -> str:
    """How many replies of a checkpoint and of its exported files are the same, and how many are those that training asked for.

    Args:
        models: folder of GGUF files.
    """
    from sage_cli.model.llama import LlamaModel

    asked = cases(count)
    ours = torch_replies(weights, [prompt for prompt, _ in asked])
    nano = Nano(models)
    with LlamaModel(nano.text, nano.mmproj, threads=1) as model:
        theirs = [reply(model, prompt) for prompt, _ in asked]
    lines = [f"torch: {one!r}\nllama: {other!r}" for one, other in zip(ours, theirs, strict=True) if one != other]
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    right = sum(one == expected for one, (_, expected) in zip(ours, asked, strict=True))
    return "\n".join([*lines, f"{same} of {count} replies are the same; {right} of {count} are the reference's"])

"""The same greedy replies from torch and from llama.cpp: first the one, then the other, for they may live in different environments.

python -m training.parity torch build/sft.pt --cases build/parity
python -m training.parity llama build/f16 --cases build/parity
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.questions import KINDS, some_question
from training.trajectories import Trajectory, Turn, render_slices, slice_times, some_name

if TYPE_CHECKING:
    from sage_cli.model.base import Part

LONGEST: Final = 160  # tokens of a reply
SEED: Final = 31_337


def cases(count: int) -> list[tuple[Turn, Any]]:
    """Turns of every role with their frames ``(slices, 2, 96, 96, 3)``, or ``None``."""
    rng, noise = random.Random(SEED), np.random.default_rng(SEED)
    found = []
    while len(found) < count:
        world, question = some_question(rng, rng.choice(KINDS))
        turn = rng.choice(list(Trajectory(world, question, some_name(rng)).turns()))
        found.append((turn, render_slices(world, turn.times, noise) if turn.times else None))
    return found


# ---- torch ---------------------------------------------------------------------------------------------------------


def with_torch(weights: Path, count: int, folder: Path) -> None:
    """Write every case's reply to ``replies.json``."""
    import torch
    from transformers import DynamicCache

    from training.model import IMAGE_PAD, encode_slices, new_model, patches, positions
    from training.tokens import VOCABULARY, Encoder

    encoder = Encoder(weights.parent / "tokenizer.json")
    image_pad, end = encoder.control[IMAGE_PAD], encoder.control["<|im_end|>"]
    model = new_model(VOCABULARY, encoder.control)
    model.load_state_dict(torch.load(weights))
    model = model.half().float().eval()  # the precision of the file
    language = model.model.language_model

    def reply(turn: Turn, frames: Any) -> str:
        stem, rest = encoder.prompt(turn)
        ids = stem + rest
        places, place = positions(ids, image_pad)
        embedded = language.embed_tokens(torch.tensor([ids]))
        if frames is not None:
            mask = (torch.tensor([ids]) == image_pad)[..., None]
            embedded = embedded.masked_scatter(mask, encode_slices(model, patches(frames), deepstack_too=False)[0])
        cache = DynamicCache(config=model.config.text_config)
        given = torch.from_numpy(places)[:, None]
        out: list[int] = []
        while len(out) < LONGEST:
            hidden = language(inputs_embeds=embedded, position_ids=given, past_key_values=cache, use_cache=True).last_hidden_state
            token = int(model.lm_head(hidden[:, -1]).argmax())
            if token == end:
                break
            out.append(token)
            embedded, given, place = language.embed_tokens(torch.tensor([[token]])), torch.full((3, 1, 1), place), place + 1
        return str(encoder.tokenizer.decode(out))

    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        replies = [reply(*case) for case in cases(count)]
    (folder / "replies.json").write_text(json.dumps(replies))
    right = sum(text == turn.plain_reply for text, (turn, _) in zip(replies, cases(count), strict=True))
    print(f"{right} of {count} replies are the reference")


# ---- llama.cpp -----------------------------------------------------------------------------------------------------


def with_llama(models: Path, folder: Path) -> None:
    """Compare."""
    from sage_cli.assets import Nano
    from sage_cli.model.base import Frames, Message, Reply, Text
    from sage_cli.model.llama import LlamaModel
    from sage_cli.video import Frame

    replies: list[str] = json.loads((folder / "replies.json").read_text())
    nano = Nano(models)
    same = 0
    with LlamaModel(nano.text, nano.mmproj, threads=2) as model:
        for number, ((turn, frames), expected) in enumerate(zip(cases(len(replies)), replies, strict=True)):
            parts: tuple[Part, ...] = (Text(turn.text),)
            if frames is not None:
                # Only the mean of a pair's times is written down.
                images = [
                    Frame(time, image, f"{number}/{i}/{j}")
                    for i, (time, pair) in enumerate(zip(slice_times(turn.times), frames, strict=True))
                    for j, image in enumerate(pair)
                ]
                parts = (Frames(tuple(images)), *parts)
            prompt = [*([Message("system", (Text(turn.system),))] if turn.system is not None else []), Message("user", parts)]
            text = next(item.text for item in model.stream(prompt, max_tokens=LONGEST) if isinstance(item, Reply))
            if text == expected:
                same += 1
            else:
                print(f"torch: {expected!r}\nllama: {text!r}")
    print(f"{same} of {len(replies)} replies are the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("torch", "llama"))
    parser.add_argument("model", type=Path, help="weights for torch; folder of GGUF files for llama")
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--count", type=int, default=50)
    args = parser.parse_args()
    if args.side == "torch":
        with_torch(args.model, args.count, args.cases)
    else:
        with_llama(args.model, args.cases)


if __name__ == "__main__":
    main()

"""Supervised fine-tuning on trajectories: every call of the model on the way to an answer, loss on the replies alone.

The vision encoder stays as the warm-up left it, so the embeddings of many slices are made once and videos are put together from them
(:class:`SliceBank`). Several questions about one video are trained as one sample (:class:`training.model.Packed`). Together this is what
makes the training fit a CPU.

The learning rate stays constant until the last ``--cooldown`` steps, so that a run can be continued at any time: leave the cooldown for the
end.

What a step takes is said for one process; the steps of several (``torchrun``) are that much larger.

    torchrun --standalone --nproc-per-node 2 -m training.sft --vision build/vision.pt --bfloat16 --out build/sft.pt
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration

from sage_cli.video.sampling import uniform_times
from training.circuits import LOOKING_BACK, STAMPING, hold, lay_copying, lay_finding, lay_stamps
from training.model import (
    BRANCHES,
    IMAGE_PAD,
    VISION_MARK,
    VISION_RMS,
    Packed,
    encode_slices,
    forward,
    new_model,
    pack,
    patches,
    save,
)
from training.muon import Muon
from training.questions import GROUND_WINDOW, MAKERS, SHORT, Kind, about_scenes, some_duration, some_question, some_world
from training.tokens import VOCABULARY, Encoder, train_tokenizer
from training.trajectories import FRAMES, Trajectory, Turn, ground_turn, some_name, visible
from training.vision import some_pairs, some_slices
from training.world import COLOURS, SHAPES, Scene, Thing, World, some_things

MATRIX_RATE: Final = 5e-3
OTHER_RATE: Final = 2e-3
# Of the calls after the first look; what a visual question asks is answered by then.
MIX: Final[dict[Kind, float]] = {"speech": 0.24, "moment": 0.12, "cue": 0.22, "ground": 0.08, "none": 0.22}
Tags = list[str]


class SliceBank:
    """Embeddings of many slices, by what their two frames show.

    Args:
        alike: slices of each thing that show it twice.
        mixed: slices that show two things.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, seed: int, alike: int = 40, mixed: int = 4) -> None:
        rng, noise = random.Random(seed), np.random.default_rng(seed)
        self._slices: dict[tuple[Thing, Thing], list[Tensor]] = defaultdict(list)
        every = [Thing(shape, colour) for shape in SHAPES for colour in COLOURS]
        pairs = [(thing, thing) for thing in every for _ in range(alike)]
        pairs += [(a, b) for a in every for b in every if a.shape != b.shape and a.colour != b.colour for _ in range(mixed)]
        with torch.no_grad():
            for at in range(0, len(pairs), 128):
                frames, _ = some_slices(rng, noise, pairs[at : at + 128])
                for pair, embedding in zip(
                    pairs[at : at + 128], encode_slices(model, patches(frames), deepstack_too=False)[0], strict=True
                ):
                    self._slices[pair].append(embedding)

    def show(self, rng: random.Random, world: World, times: Sequence[float]) -> Tensor | None:
        """Embeddings for frames of a world at these times, ``(slices, 9, hidden)``; ``None`` for no frames."""
        if not times:
            return None
        things = [world.shown(time).thing for time in times]
        return self.pairs(rng, zip(things[::2], [*things[1::2], things[-1]], strict=False))

    def pairs(self, rng: random.Random, pairs: Iterable[tuple[Thing, Thing]]) -> Tensor:
        """Embeddings of slices with these two things each."""
        return torch.stack([rng.choice(self._slices[pair]) for pair in pairs])


class Samples:
    """An endless stream of packed turns and the tags they are counted under."""

    def __init__(self, encoder: Encoder, bank: SliceBank, seed: int) -> None:
        self.encoder, self.bank = encoder, bank
        self.rng = random.Random(seed)

    def _shorten(self) -> bool:
        return self.rng.random() < 0.85

    def _pack(self, world: World, turns: Sequence[Turn]) -> Packed:
        return self.encoder.pack(turns, self.bank.show(self.rng, world, turns[0].times), self._shorten)

    def look(self) -> tuple[Packed, Tags]:
        """First looks at one video with several questions: two or three that its scenes answer, and some that take tools."""
        world, question = some_question(self.rng, self.rng.choice(("visual", "visual", "speech", "moment", "cue", "cue", "ground", "none")))
        asked = [question, about_scenes(self.rng, world), about_scenes(self.rng, world)]
        others: list[Kind] = ["speech", "moment", "ground", "none", "none"] + (["cue", "cue"] if world.duration >= MAKERS["cue"][1] else [])
        for kind in self.rng.sample(others, 2):
            # What another world of the same duration is asked takes the same first call here; only what frames answer differs.
            asked.append(some_question(self.rng, kind, max(world.duration, 12.0))[1])
        asked = [question for question in asked if _fits(question.window, world.duration)]
        seen = {thing.shape for thing in visible(world, uniform_times(world.duration, FRAMES))}
        asked = [
            question
            for question in asked
            if question.kind not in ("none", "cue") or question.form != "colour" or question.subject.split()[-1] not in seen
        ]
        name = some_name(self.rng)
        turns = [next(Trajectory(world, question, name).turns()) for question in asked]
        return self._pack(world, turns), [f"look/{question.kind}" for question in asked]

    def later(self) -> Iterator[tuple[Packed, Tags]]:
        """The calls after the first look, for one question."""
        kind = self.rng.choices(list(MIX), list(MIX.values()))[0]
        world, question = some_question(self.rng, kind)
        for turn in list(Trajectory(world, question, some_name(self.rng)).turns())[1:]:
            yield self._pack(world, [turn]), [f"{turn.role}/{kind}"]

    def ground(self) -> Packed:
        """One grounding window that shows several things, each asked for, and one that it does not show. Which slices show a thing, and
        what time stands before them, is the hardest that is asked of the model; flashes alone would show it one case a video.
        """
        rng = self.rng
        world, other = some_world(rng, some_duration(rng, low=SHORT + 5), scenes=rng.choice((1, 2)), facts=0)
        start = 10 * rng.randint(0, int(world.duration - GROUND_WINDOW - 1) // 10)
        taken = [scene.thing for scene in world.scenes]
        pool = [thing for thing in some_things(rng, len(SHAPES)) if all(thing.shape != o.shape and thing.colour != o.colour for o in taken)]
        edges = sorted(rng.sample(range(2 * GROUND_WINDOW + 1), min(len(pool), rng.randint(1, 3)) + 1))
        flashes = [
            Scene(start + a / 2, start + b / 2, thing, rng.getrandbits(32))
            for (a, b), thing in zip(pairwise(edges), pool, strict=False)
            if b - a > 2 and rng.random() < 0.9
        ]
        world = replace(world, flashes=tuple(flashes))
        seen = [world.shown(time).thing for time in uniform_times(world.duration, FRAMES, start=start, end=start + GROUND_WINDOW)]
        asked = [*rng.sample(sorted(set(map(str, seen))), min(3, len(set(seen)))), str(other)]
        turns = [ground_turn(world, event, float(start), float(start + GROUND_WINDOW)) for event in asked]
        return self._pack(world, turns)

    def point(self) -> Packed:
        """Slices that each show another thing, and of every thing its colour, its shape, or the seconds before it: finding what a
        text names among the slices, with nothing around it. All that is asked about videos rests on this.
        """
        return self.pointed()[0]

    def pointed(self) -> tuple[Packed, list[Thing], list[int]]:
        """The same, with the things and the seconds."""
        rng, plain = self.rng, self.encoder.plain
        things = some_things(rng, rng.randint(2, len(SHAPES)))
        times = sorted(rng.sample(range(10, 60), len(things)))
        stem = self.encoder.frames([second + 0.5 for second in times])
        ids: list[int] = []
        weights: list[float] = []
        for thing, second in rng.sample(list(zip(things, times, strict=True)), len(things)):
            asked, answer = rng.choice(
                [
                    (f" {thing.shape} is", f" {thing.colour}"),
                    (f" {thing.colour} shape is a", f" {thing.shape}"),
                    (f" {thing.shape} at", f"{second:02}"),
                    (f' "{thing}", "', f"{second:02}"),
                ]
            )
            ids += plain(asked) + plain(answer)
            weights += [0.0] * len(plain(asked)) + [1.0] * len(plain(answer))
        embeddings = self.bank.pairs(rng, [(thing, thing) for thing in things])
        return pack(stem, [(ids, weights)], embeddings, self.encoder.control[IMAGE_PAD]), things, times

    def copying(self) -> Packed:
        """A string of random tokens that comes again after a while: nothing but copying helps. Names, times and paths are copied in every
        reply, and the attention pattern for it forms in hundreds of short drills rather than thousands of long prompts.
        """
        some = self.rng.choices(range(self.encoder.plain_tokens), k=self.rng.randint(4, 16))
        before, between = self._some_tokens(20), self._some_tokens(20)
        weights = [0.0] * (len(before) + len(some) + len(between) + 1) + [1.0] * (len(some) - 1)
        return self._text(before + some + between + some, weights)

    def looking_up(self) -> Packed:
        """A list of things as a first look gives it, and everything that can be told from it: what colour a shape is, and so on. Half of
        the time its words are random tokens: nothing but looking in the list helps.
        """
        rng, plain = self.rng, self.encoder.plain
        things, listed = self._listed(rng.randint(1, 5))
        ids = [*self._some_tokens(12), *listed]
        weights = [0.0] * len(ids)

        def say(*parts: tuple[str | list[int], float]) -> None:
            for part, weight in parts:
                tokens = plain(part) if isinstance(part, str) else part
                ids.extend(tokens)
                weights.extend([weight] * len(tokens))

        facts: list[tuple[tuple[str | list[int], float], ...]] = []
        for colour, shape in things:
            facts += [((" The", 0.0), (shape, 0.0), (" is", 0.0), (colour, 1.0), (".", 0.0))] * 2
            facts.append(((" The", 0.0), (colour, 0.0), (" shape is a", 0.0), (shape, 1.0), (".", 0.0)))
        for fact in rng.sample(facts, min(len(facts), 6)):
            say(*fact)
        return self._text(ids, weights)

    def ordering(self) -> Packed:
        """What comes before or after something in a list that comes after the question, as in a first look."""
        rng, plain = self.rng, self.encoder.plain
        things, listed = self._listed(rng.randint(2, 5))
        index = rng.randrange(len(things) - 1)
        form, asked, answer = rng.choice([("after", things[index], things[index + 1]), ("before", things[index + 1], things[index])])
        question = [*plain(f"Which shape comes {form} the"), *asked[1], *plain("?\nVideo")]
        ids = [*self._some_tokens(6), *question, *self._some_tokens(12), *listed, *plain(f' "what comes {form}')]
        said = [*asked[1], *plain(" is"), *answer[0], *answer[1]]
        return self._text(ids + said, [0.0] * len(ids) + [1.0] * len(said))

    def _listed(self, count: int) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
        """Colours and shapes, and a list of them as a first look gives it. Half of the time they are random tokens."""
        rng, plain = self.rng, self.encoder.plain
        if rng.random() < 0.5:
            things = [(plain(f" {thing.colour}"), plain(f" {thing.shape}")) for thing in some_things(rng, count)]
        else:
            tokens = rng.sample(range(self.encoder.plain_tokens), 2 * count)
            things = [([tokens[2 * i]], [tokens[2 * i + 1]]) for i in range(count)]
        listed: list[int] = []
        for number, (colour, shape) in enumerate(things):
            listed += plain("," if number else ' "Shapes:') + colour + shape
        return things, [*listed, *plain('.",')]

    def _some_tokens(self, most: int) -> list[int]:
        return [self.rng.randrange(self.encoder.plain_tokens) for _ in range(self.rng.randint(0, most))]

    def _text(self, ids: list[int], weights: list[float]) -> Packed:
        control = self.encoder.control
        return pack([], [([control["<|im_start|>"], *ids], [0.0, *weights])], None, control[IMAGE_PAD])

    def batches(self, trees: int, others: int, grounds: int, drills: int, drilling: int) -> Iterator[tuple[list[Packed], ...]]:
        """Four kinds of drills alone for some steps; then first looks, later calls, grounding, and an eighth of the drills.

        Drills come first because everything rests on what they teach, and the rest would wear it away before it is firm. What comes before
        and after something takes longest, and goes on with half.
        """
        later = (sample for _ in count() for sample, _ in self.later())
        kinds = ((self.copying, 8), (self.looking_up, 8), (self.ordering, 2), (self.point, 8))
        for step in count():
            drilled = [[drill() for _ in range(drills if step < drilling else drills // rarer)] for drill, rarer in kinds]
            if step < drilling:
                yield tuple(drilled)
            else:
                looks = [self.look()[0] for _ in range(trees)]
                yield looks, list(islice(later, others)), [self.ground() for _ in range(grounds)], list(chain(*drilled))


@torch.no_grad()
def quieten(model: Qwen3VLForConditionalGeneration) -> None:
    """Scale the encoder's output to :data:`VISION_RMS`. As the warm-up leaves it, it is hundreds of times louder than text: what the layers
    add to a vision token (when it was seen, what came before) would drown in it.
    """
    slices = patches(some_slices(random.Random(0), np.random.default_rng(0), some_pairs(random.Random(0), 64))[0])
    loudness = encode_slices(model, slices, deepstack_too=False)[0].square().mean().sqrt()
    for parameter in model.model.visual.merger.linear_fc2.parameters():
        parameter.mul_(VISION_RMS / loudness)


@torch.no_grad()
def align(model: Qwen3VLForConditionalGeneration, encoder: Encoder) -> None:
    """Let the encoder's output also say what it shows in the words' own embeddings: the linear map of it that comes closest is added to
    its last matrix. Then a text can find what it names among the slices as it finds a word among words, and describing is copying.
    """
    rng, noise = random.Random(1), np.random.default_rng(1)
    pairs = some_pairs(rng, 1500)
    seen = torch.cat(
        [
            encode_slices(model, patches(some_slices(rng, noise, pairs[at : at + 100])[0]), deepstack_too=False)[0]
            for at in range(0, len(pairs), 100)
        ]
    )
    table = model.model.language_model.embed_tokens.weight
    spelled = {word: [encoder.plain(text) for text in (f" {word}", word)] for word in (*COLOURS, *SHAPES)}
    words = {word: sum(table[ids[0]] - table.mean(0) for ids in ways if len(ids) == 1) for word, ways in spelled.items()}
    said = torch.stack([sum(words[word] for thing in pair for word in (thing.colour, thing.shape)) for pair in pairs])  # type: ignore[misc]
    said *= VISION_RMS / said.square().mean().sqrt()
    inputs = torch.cat([seen, torch.ones(*seen.shape[:2], 1)], dim=2).flatten(0, 1)
    solved = torch.linalg.lstsq(inputs, said[:, None].expand_as(seen).flatten(0, 1)).solution.T
    last = model.model.visual.merger.linear_fc2
    last.weight += solved[:, :-1] @ last.weight
    last.bias += solved[:, :-1] @ last.bias + solved[:, -1]
    last.weight[VISION_MARK], last.bias[VISION_MARK] = 0, 4 * VISION_RMS


@torch.no_grad()
def loudness(model: Qwen3VLForConditionalGeneration, samples: Sequence[Packed], image_pad: int) -> float:
    """Root mean square of vision tokens behind the first layer."""
    heard: list[Tensor] = []
    hook = model.model.language_model.layers[0].register_forward_hook(lambda _, __, hidden: heard.append(hidden[0]))
    forward(model, samples, image_pad)
    hook.remove()
    ids = torch.tensor([token for sample in samples for token in sample.ids])
    return float(heard[0].view(len(ids), -1)[ids == image_pad].square().mean().sqrt())


def _fits(window: tuple[int, int] | None, duration: float) -> bool:
    return window is None or window[1] <= duration


def share(tensors: Sequence[Tensor]) -> None:
    """Make tensors the mean of all processes', where ``torchrun`` started several."""
    if distributed.is_initialized():
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def examine(model: Qwen3VLForConditionalGeneration, samples: Samples, count: int, image_pad: int) -> str:
    """Share of replies whose content is predicted without a mistake (teacher-forced), by role and kind."""
    entries = [samples.look() for _ in range(count)]
    for _ in range(count):
        entries += list(samples.later())
    right: dict[str, list[bool]] = defaultdict(list)
    model.eval()
    with torch.no_grad():
        for packed, tags in entries:
            out = forward(model, [packed], image_pad)
            wrong = (out.logits.argmax(-1) != out.targets) & (out.weights == 1)
            for number, tag in enumerate(tags, start=1):
                right[tag].append(not wrong[out.replies == number].any().item())
    model.train()
    return "  ".join(f"{name} {sum(oks)}/{len(oks)}" for name, oks in sorted(right.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vision", type=Path, required=True, help="weights of the warm-up")
    parser.add_argument("--resume", type=Path, help="weights of an earlier run, to go on with")
    parser.add_argument("--steps", type=int, default=6500)
    parser.add_argument("--cooldown", type=int, default=1800)
    parser.add_argument("--rate", type=float, default=1.0, help="learning rate, times the usual one")
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--drilling", type=int, default=500, help="steps of drills alone, for a start")
    parser.add_argument("--drills", type=int, default=16, help="of each kind in those steps; a part of it later")
    parser.add_argument("--trees", type=int, default=2, help="videos a step, with several first questions each")
    parser.add_argument("--others", type=int, default=3, help="later calls a step")
    parser.add_argument("--grounds", type=int, default=2, help="grounding windows a step")
    parser.add_argument(
        "--bank", type=int, default=4, help="slices of each pair of things to put videos together from; ten times as many of equal pairs"
    )
    parser.add_argument("--examine", type=int, default=60, help="held-out questions at every checkpoint")
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=False, help="twice as fast where the CPU has it")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if distributed.is_torchelastic_launched():
        distributed.init_process_group("gloo")
    rank = distributed.get_rank() if distributed.is_initialized() else 0

    vocabulary = args.out.parent / "tokenizer.json"
    if not vocabulary.exists() and not rank:
        vocabulary.parent.mkdir(parents=True, exist_ok=True)
        train_tokenizer(0).save(str(vocabulary))
    if distributed.is_initialized():
        distributed.barrier()
    encoder = Encoder(vocabulary)
    image_pad = encoder.control[IMAGE_PAD]
    model = new_model(VOCABULARY, encoder.control)
    lay_copying(model.model.language_model, *map(encoder.word, (",", " after", " before")), start=encoder.control["<|im_start|>"])
    warm = torch.load(args.vision)
    model.model.visual.load_state_dict({name.removeprefix("visual."): value for name, value in warm.items() if name.startswith("visual.")})
    quieten(model)
    align(model, encoder)
    model.model.visual.requires_grad_(False)
    parameters = list(model.model.language_model.parameters())
    matrices = [p for name, p in model.model.language_model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.model.language_model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [Muon(matrices, MATRIX_RATE), torch.optim.AdamW(others, lr=OTHER_RATE, weight_decay=0.0, betas=(0.9, 0.98))]
    peaks = [args.rate * MATRIX_RATE, args.rate * OTHER_RATE]
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
        for optimizer, state in zip(optimizers, torch.load(args.resume.with_suffix(".optimizer")), strict=True):
            optimizer.load_state_dict(state)
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {sum(p.numel() for p in parameters) / 1e6:.2f} M trained",
        flush=True,
    )
    bank = SliceBank(model, args.seed, alike=10 * args.bank, mixed=args.bank)
    held_out = Samples(encoder, SliceBank(model, 777, alike=4, mixed=1), 777)

    batches = Samples(encoder, bank, args.seed + 1000 * rank).batches(args.trees, args.others, args.grounds, args.drills, args.drilling)
    started = time.monotonic()
    means: list[float] = []
    laid = LOOKING_BACK if args.drilling else (*LOOKING_BACK, *STAMPING)
    put_back = hold(model.model.language_model, laid)
    for step in range(1, args.steps + 1):
        if step == args.drilling + 1 > 1:
            digits = [encoder.word(digit) for digit in "0123456789"]
            loud = loudness(model, [held_out.point() for _ in range(16)], image_pad)
            lay_stamps(model.model.language_model, digits, loud / 2)
            lay_finding(model, encoder, [held_out.pointed() for _ in range(300)])
            share([parameter.data for parameter in parameters])
            put_back = hold(model.model.language_model, (*LOOKING_BACK, *STAMPING))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min(1.0, step / args.warmup, (args.steps - step) / max(1, args.cooldown) + 0.01)
        model.zero_grad()
        parts = [part for part in next(batches) if part]
        part_of = torch.tensor([number for number, part in enumerate(parts) for _ in part])
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            out = forward(model, [sample for part in parts for sample in part], image_pad)
            losses = functional.cross_entropy(out.logits, out.targets, reduction="none")
            # Every part counts alike, however many tokens it has.
            here = functional.one_hot(part_of[out.replies // BRANCHES], len(parts)).T * out.weights
            (here @ losses / here.sum(1)).mean().backward()
        share([parameter.grad for parameter in parameters if parameter.grad is not None])
        contents = [losses.detach()[row == 1].mean().item() for row in here]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            for optimizer in optimizers:
                optimizer.step()
        put_back()
        if step in (1, args.drilling + 1):
            means = contents
        means = [0.95 * old + 0.05 * new for old, new in zip(means, contents, strict=True)]
        if rank:
            continue
        if step % 25 == 0:
            print(f"step {step}  {time.monotonic() - started:.0f} s  content {' '.join(f'{mean:.4f}' for mean in means)}", flush=True)
        if step % 50 == 0 or step == args.steps:
            save(model, args.out)
            torch.save([optimizer.state_dict() for optimizer in optimizers], args.out.with_suffix(".optimizer"))
        if step % 250 == 0 or step == args.steps:
            held_out.rng.seed(777)
            print(f"held out: {examine(model, held_out, args.examine, image_pad)}", flush=True)


if __name__ == "__main__":
    main()

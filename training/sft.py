"""Supervised fine-tuning on trajectories: drills first, then every call of the model on the way to an answer, loss on the replies alone.

The vision encoder stays as the warm-up left it (:mod:`training.bank`), and several questions about one video are one sample
(:class:`training.language.Packed`). The checkpoint after the drills is kept as ``base.pt``: a model that can copy, look up and point, but
has seen no trajectory.
"""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.align import align, rescale
from training.bank import SliceIndex, embed_bank
from training.circuits import LOOKING_BACK, STAMPING, hold, lay_copying, lay_finding, lay_stamps
from training.config import SFT
from training.drills import Drills
from training.language import Batch, collate, forward, hidden_states
from training.model import IMAGE_PAD, keep, kept_step, new_model, resume, save
from training.muon import Muon
from training.runlog import Clock, Log
from training.samples import Samples, Stream
from training.streams import Interleaved
from training.tokens import VOCABULARY, Encoder

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

DRILLS: Final = ("copying", "lookup", "ordering", "pointing")  # parts of a batch of drills alone
PARTS: Final = ("look", "later", "ground", "drills")  # parts of a mixed one
_SMOOTHING: Final = 0.05  # of the logged losses
_FIRST: Final = 50  # steps that are logged each by itself, for comparing runs


def fresh_model(encoder: Encoder, vision: Path) -> Qwen3VLForConditionalGeneration:
    """A model with the warmed-up vision encoder and induction heads, on the CPU."""
    model = new_model(VOCABULARY, encoder.control)
    lay_copying(model.model.language_model, *map(encoder.word, (",", " after", " before")), start=encoder.control["<|im_start|>"])
    warm = torch.load(vision, map_location="cpu")
    model.model.visual.load_state_dict({name.removeprefix("visual."): value for name, value in warm.items() if name.startswith("visual.")})
    rescale(model)
    align(model, encoder)
    return model


def similar_for(device: torch.device) -> float:
    """How alike the lengths of samples in an attention block are to be; see :func:`training.language.collate`."""
    return 0.5 if device.type == "cuda" else 0.9


class SFTTrainer:
    """One run of SFT.

    Args:
        model: on its device.
        table: embeddings of the slice bank.
        bfloat16: matrix products in bfloat16.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, settings: SFT, table: Tensor, *, bfloat16: bool) -> None:
        self.model, self.settings, self.table, self.bfloat16 = model, settings, table, bfloat16
        model.model.visual.requires_grad_(False)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        language = model.model.language_model
        matrices = [parameter for parameter in language.layers.parameters() if parameter.ndim == 2]
        chosen = set(map(id, matrices))
        others = [parameter for parameter in self.parameters if id(parameter) not in chosen]
        self.optimizers = [Muon(matrices, settings.matrix_rate), torch.optim.AdamW(others, settings.other_rate, betas=(0.9, 0.98))]
        self._peaks = [settings.matrix_rate, settings.other_rate]
        self.hold_heads({})

    def hold_heads(self, more: dict[int, int]) -> None:
        """Put the aim of the look-back heads back after every step from now on."""
        self._put_back: Callable[[], None] = hold(self.model.model.language_model, (*LOOKING_BACK, *more))

    def step(self, batch: Batch, parts: int, rate: float) -> Tensor:
        """One optimizer step.

        Args:
            parts: of the batch; each counts alike, however many tokens it has.
            rate: learning rate, as a share of the peak.

        Returns:
            The content loss of each part.
        """
        for optimizer, peak in zip(self.optimizers, self._peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
        self.model.zero_grad()
        device = self.table.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
            out = forward(self.model, batch, self.table)
            losses = functional.cross_entropy(out.logits, out.targets, reduction="none")
            here = functional.one_hot(out.parts, parts).T * out.weights
            (here @ losses / here.sum(1).clamp(min=1e-6)).mean().backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        with torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
            for optimizer in self.optimizers:
                optimizer.step()
        self._put_back()
        content = (here == 1).float()
        return (content @ losses.detach()) / content.sum(1).clamp(min=1)


@torch.no_grad()
def lay_late(trained: Qwen3VLForConditionalGeneration, encoder: Encoder, drills: Drills, table: Tensor) -> None:
    """Lay the heads that tell when something is seen into a model that knows words and slices from its drills."""
    model, table = copy.deepcopy(trained).cpu(), table.cpu()
    image_pad = encoder.control[IMAGE_PAD]
    batch = collate([[drills.pointing() for _ in range(16)]], image_pad, similar=1)
    seen = hidden_states(model, batch, table, layers=1)[torch.from_numpy(batch.seen).long()]
    digits = [encoder.word(digit) for digit in "0123456789"]
    lay_stamps(model.model.language_model, digits, float(seen.square().mean().sqrt()) / 2)
    lay_finding(model, encoder, [drills.pointed() for _ in range(300)], table)
    trained.load_state_dict(model.state_dict())


def train_sft(
    settings: SFT,
    folder: Path,
    log: Log,
    *,
    seed: int,
    device: torch.device,
    workers: int,
    limit: float | None,
    bfloat16: bool = False,
    stop: int | None = None,
) -> None:
    """Train from ``vision.pt`` and ``tokenizer.json`` of a folder to ``base.pt`` and ``sft.pt``.

    Goes on from ``sft.part.pt`` if it exists.

    Args:
        workers: processes that write samples.
        limit: seconds.
        stop: the step to stop after; ``None`` for all.
    """
    torch.manual_seed(seed)
    tokenizer = folder / "tokenizer.json"
    encoder = Encoder(tokenizer, settings.form_weight)
    kept = folder / "sft.part.pt"
    step = kept_step(kept)
    drilled = max(0, settings.drills.steps - step)
    clock = Clock(settings.steps, limit, stop, least=settings.drills.steps + 1)  # with base.pt, which RL may start from
    make = partial(_stream, tokenizer, settings, f"{seed}/{step}", similar_for(device), drilled)
    with closing(Interleaved(make, settings.streams, workers)) as batches:
        index = SliceIndex(settings.alike, settings.mixed)
        model = fresh_model(encoder, folder / "vision.pt").to(device)
        trainer = SFTTrainer(model, settings, embed_bank(model, index, seed, workers), bfloat16=bfloat16)
        resume(kept, model, trainer.optimizers)
        log.begin(step)
        if drilled == 0:
            trainer.hold_heads(STAMPING)
        means: Tensor | None = None
        while not clock.over(step):
            step += 1
            if step == settings.drills.steps + 1:
                save(model, folder / "base.pt")
                lay_late(model, encoder, Drills(encoder, index, random.Random(seed)), trainer.table)
                trainer.hold_heads(STAMPING)
                means = None
            left = (1 - clock.progress(step)) / settings.cooldown + 0.01
            rate = min(1.0, step / settings.warmup, left if step > settings.drills.steps else 1.0)
            losses = trainer.step(next(batches), len(PARTS), rate)
            means = losses if means is None else means.lerp(losses, _SMOOTHING)
            if step % 25 == 0 or step <= _FIRST:
                names = DRILLS if step <= settings.drills.steps else PARTS
                values = (losses if step <= _FIRST else means).tolist()
                log.write(step=step, rate=rate, loss=dict(zip(names, values, strict=True)))
            if step % 500 == 0:
                keep(kept, step, model, trainer.optimizers)
    save(model, folder / "sft.pt")
    kept.unlink(missing_ok=True)
    samples = Samples(encoder, settings.model_copy(update={"teacher": type(settings.teacher)()}), "held out")
    log.write(step=step, saved="sft.pt", examined=examine(model, samples, trainer.table, settings.examine))


def _stream(tokenizer: Path, settings: SFT, seed: str, similar: float, drilled: int, number: int) -> Iterator[Batch]:
    # Streams take turns: the first ones have a batch of drills more where their number does not divide the steps.
    return Stream(tokenizer, settings, seed, number, similar).batches(len(range(number, drilled, settings.streams)))


@torch.no_grad()
def examine(model: Qwen3VLForConditionalGeneration, samples: Samples, table: Tensor, count: int) -> dict[str, str]:
    """Replies whose content is predicted without a mistake (teacher-forced), by role and kind."""
    entries = [samples.look() for _ in range(count)]
    for _ in range(count):
        entries += samples.later()
    right: dict[str, list[bool]] = defaultdict(list)
    image_pad = samples.encoder.control[IMAGE_PAD]
    for packed, tags in entries:
        out = forward(model, collate([[packed]], image_pad, similar=1), table)
        wrong = (out.logits.argmax(-1) != out.targets) & (out.weights == 1)
        for number, tag in enumerate(tags, start=1):
            right[tag].append(not wrong[out.replies == number].any().item())
    return {name: f"{sum(oks)}/{len(oks)}" for name, oks in sorted(right.items())}

"""The training forward pass against transformers' own, and a smoke training. Needs the ``train`` group: torch, transformers, tokenizers."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from training.model import CONTROL, IMAGE_PAD, SLICE_TOKENS, encode_slices, forward, new_model, pack, patches, positions  # noqa: E402
from training.muon import orthogonal  # noqa: E402
from training.vision import some_pairs, some_slices  # noqa: E402

CONTROL_IDS = {text: number for number, text in enumerate(CONTROL)}
PAD = CONTROL_IDS[IMAGE_PAD]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = new_model(64, CONTROL_IDS).eval()
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.normal_(merger.linear_fc2.weight, std=0.02)
    return model


@pytest.fixture(scope="module")
def frames():
    return some_slices(random.Random(0), np.random.default_rng(0), some_pairs(random.Random(0), 3))[0]


def prompt(slices: int) -> list[int]:
    start, end = CONTROL_IDS["<|vision_start|>"], CONTROL_IDS["<|vision_end|>"]
    ids = [20, 21]
    for number in range(slices):
        ids += [30 + number, start, *[PAD] * SLICE_TOKENS, end]
    return [*ids, 40, 41]


def test_slices_are_encoded_as_transformers_does(model, frames) -> None:
    flat = patches(frames).flatten(0, 1)
    theirs = model.model.visual(flat, grid_thw=torch.tensor([[1, 6, 6]] * len(frames)))
    ours, deepstack = encode_slices(model, patches(frames))
    torch.testing.assert_close(ours.flatten(0, 1), theirs.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(deepstack[0].flatten(0, 1), theirs.deepstack_features[0], atol=1e-5, rtol=1e-5)


def test_positions_and_logits_are_transformers_own(model, frames) -> None:
    for merger in model.model.visual.deepstack_merger_list:  # as it ships: silent
        torch.nn.init.zeros_(merger.linear_fc2.weight)
    ids = prompt(len(frames))
    vision = encode_slices(model, patches(frames), deepstack_too=False)[0]
    reply = [50, 51, 52]
    ours = forward(model, [pack(ids, [(reply, [1.0] * 3)], vision, PAD)], PAD).logits
    tokens = torch.tensor([ids + reply])
    theirs = model(
        input_ids=tokens,
        pixel_values=patches(frames).flatten(0, 1),
        image_grid_thw=torch.tensor([[1, 6, 6]] * len(frames)),
        mm_token_type_ids=(tokens == PAD).long(),
    ).logits[0, len(ids) - 1 : -1]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_packed_branches_do_not_see_each_other(model, frames) -> None:
    vision = encode_slices(model, patches(frames), deepstack_too=False)[0]
    branches = [([50, 51, 52], [0.0, 1.0, 1.0]), ([53, 54], [0.0, 1.0])]
    together = forward(model, [pack(prompt(3), branches, vision, PAD)], PAD).logits
    apart = [forward(model, [pack(prompt(3), [branch], vision, PAD)], PAD).logits for branch in branches]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)


def test_text_counts_on_behind_a_slice() -> None:
    places, following = positions(prompt(1), PAD)
    assert places[0].tolist() == [0, 1, 2, 3, *[4] * 9, 7, 8, 9]
    assert places[1, 4:13].tolist() == [4, 4, 4, 5, 5, 5, 6, 6, 6]
    assert places[2, 4:13].tolist() == [4, 5, 6, 4, 5, 6, 4, 5, 6]
    assert following == 10


@pytest.mark.parametrize("shape", [(32, 32), (48, 16), (16, 48)])
def test_updates_are_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert 0.4 < singular.min() <= singular.max() < 1.4


def run(*command: str) -> str:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True).stdout


TWO_PROCESSES = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_processes_share_what_they_found(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(
        """
import torch
from torch import distributed
from training.sft import share

distributed.init_process_group("gloo")
tensors = [torch.full((2,), 4.0 * distributed.get_rank()), torch.tensor(3.0)]
share(tensors)
print([tensor.tolist() for tensor in tensors])
"""
    )
    assert run(*TWO_PROCESSES, str(script)).split("\n")[:2] == ["[[2.0, 2.0], 3.0]"] * 2


def test_smoke_training(tmp_path: Path) -> None:
    """Every stage runs, and learns something."""
    warm = run("training.vision", "--steps", "50", "--batch", "16", "--out", str(tmp_path / "vision.pt"))
    losses = [float(line.split("loss ")[1].split()[0]) for line in warm.splitlines() if "loss" in line]
    assert losses[-1] < 7.5  # names at random cost 2 * (ln 6 + ln 8) = 7.7
    tuned = run(*TWO_PROCESSES, "-m", "training.sft", "--vision", str(tmp_path / "vision.pt"), "--steps", "25", "--cooldown", "5", "--warmup", "5", "--drilling", "10", "--drills", "4", "--out", str(tmp_path / "sft.pt"), "--bank", "1", "--examine", "2")  # fmt: skip  # noqa: E501
    assert float(tuned.split("content ")[1].split()[0]) < 6.5  # nothing known costs ln 1024 = 6.9
    assert (tmp_path / "sft.pt").is_file()

"""The vision encoder on batches of slices against transformers' own, positions, and Muon's updates."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.training.slices import CONTROL_IDS, PAD, prompt, three_slices  # noqa: E402
from training.language import positions  # noqa: E402
from training.model import encode_slices, new_model, patches  # noqa: E402
from training.muon import orthogonal  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    model = new_model(64, CONTROL_IDS).eval()
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.normal_(merger.linear_fc2.weight, std=0.02)
    return model


@pytest.fixture(scope="module")
def frames() -> Any:
    return three_slices()


def test_slices_are_encoded_as_transformers_does(model: Any, frames: Any) -> None:
    flat = patches(frames).flatten(0, 1)
    theirs = model.model.visual(flat, grid_thw=torch.tensor([[1, 6, 6]] * len(frames)))
    ours, deepstack = encode_slices(model, patches(frames))
    torch.testing.assert_close(ours.flatten(0, 1), theirs.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(deepstack[0].flatten(0, 1), theirs.deepstack_features[0], atol=1e-5, rtol=1e-5)


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

"""The path through llama.cpp against ``transformers``: same tokens, same positions, logits within the rounding of f16."""

from __future__ import annotations

import numpy as np
import pytest

from sage_cli.model.base import Progress, Reply
from sage_cli.model.llama import LlamaModel
from sage_cli.model.qwen import Item, VisionBlock, item_positions
from tests.golden import CASES, Case, expected
from tests.model.conftest import WRITERS, Load
from tests.model.prompts import golden_prompt

each_case = pytest.mark.parametrize(
    ("family", "case"),
    [pytest.param(family, case, id=f"{family}-{case.name}") for family, cases in CASES.items() for case in cases],
    indirect=["family"],
)


def flatten(items: list[Item]) -> tuple[list[int | None], np.ndarray]:
    """Token ids, ``None`` for vision tokens, and their positions, shape ``(3, n)``."""
    ids: list[int | None] = []
    columns: list[np.ndarray] = []
    start = 0
    for item in items:
        if isinstance(item, VisionBlock):
            ids += [None] * item.cells
            columns += [item.slice_positions(index, start)[:3] for index in range(len(item.slices))]
        else:
            ids.append(item)
            columns.append(np.full((3, 1), start))
        start += item_positions(item)
    return ids, np.concatenate(columns, axis=1)


def rendered(model: LlamaModel, case: Case) -> list[Item]:
    return model._template.render(golden_prompt(case.messages))


@each_case
def test_tokens_and_positions_are_those_of_transformers(load: Load, family: str, case: Case) -> None:
    model = load()
    truth = expected(family)[case.name]
    ids, positions = flatten(rendered(model, case))
    placeholders = {model._vocabulary.control("<|video_pad|>"), model._vocabulary.control("<|image_pad|>")}
    assert ids == [None if token in placeholders else token for token in truth.tokens]
    np.testing.assert_array_equal(positions, truth.positions)


@each_case
def test_logits_and_greedy_tokens_are_those_of_transformers(load: Load, family: str, case: Case) -> None:
    model = load()
    truth = expected(family)[case.name]
    logits = np.empty(0)
    for item in model.stream(golden_prompt(case.messages), max_tokens=len(truth.greedy)):
        match item:
            case Progress("prefill", done, total) if done == total:
                logits = model._opened()[0].logits().copy()
            case Reply(text, _, _):
                greedy = text
    # The KV cache is f16. The recorded greedy choices are at least this far from the next best.
    assert np.abs(logits - truth.logits).max() < 0.05
    assert greedy == b"".join(map(model._vocabulary.piece, truth.greedy)).decode("utf-8", "replace")


def test_every_family_has_cases() -> None:
    assert set(CASES) == set(WRITERS)

"""The training forward pass against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.training.slices import CONTROL_IDS, PAD, prompt, three_slices  # noqa: E402
from training.language import Cache, collate, forward, pack, positions  # noqa: E402
from training.model import encode_slices, new_model, patches  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return new_model(64, CONTROL_IDS).eval()


@pytest.fixture(scope="module")
def table(model: Any) -> Any:
    with torch.no_grad():
        return encode_slices(model, patches(three_slices()), deepstack_too=False)[0]


def theirs(model: Any, ids: list[int], vision: Any) -> Any:
    """Logits of transformers' forward, with its own positions."""
    given = torch.tensor([ids])
    embedded = model.model.language_model.embed_tokens(given)
    if vision is not None:
        embedded = embedded.masked_scatter((given == PAD)[..., None], vision)
    places = torch.from_numpy(positions(ids, PAD)[0]).long()
    with torch.no_grad():
        hidden = model.model.language_model(inputs_embeds=embedded, position_ids=places[:, None]).last_hidden_state[0]
        return model.lm_head(hidden)


@pytest.mark.parametrize("similar", [1.0, 0.3])
def test_logits_are_transformers_own(model: Any, table: Any, similar: float) -> None:
    replies = [[50, 51, 52], [53, 54]]
    tree = pack(prompt(3), [([45, *reply], [0.0] + [1.0] * len(reply)) for reply in replies], [0, 1, 2], PAD)
    other = pack([20], [([46, 55, 56], [0.0, 1.0, 1.0])], [], PAD)
    with torch.no_grad():
        out = forward(model, collate([[tree], [other]], PAD, similar=similar), table)
    expected = []
    for reply in replies:
        logits = theirs(model, [*prompt(3), 45, *reply], table)
        expected.append(logits[-len(reply) - 1 : -1])
    expected.append(theirs(model, [20, 46, 55, 56], None)[1:3])
    torch.testing.assert_close(out.logits, torch.cat(expected), atol=1e-4, rtol=1e-4)
    assert out.targets.tolist() == [50, 51, 52, 53, 54, 55, 56]
    assert out.parts.tolist() == [0] * 5 + [1] * 2


def test_decoding_in_pieces_gives_the_same_logits(model: Any, table: Any) -> None:
    ids = [[*prompt(3), 45, 50, 51, 52, 53], [20, 46, 55, 56, 57, 58]]
    starts = [len(ids[0]) - 3, len(ids[1]) - 3]
    cache = Cache(model, 2, 100)
    language = model.model.language_model
    longest = max(starts)

    def run(pieces: list[list[int]], before: list[int]) -> Any:
        new = max(map(len, pieces))
        given = torch.tensor([piece + [0] * (new - len(piece)) for piece in pieces])
        places = torch.zeros(3, 2, new, dtype=torch.long)
        for row, (piece, start) in enumerate(zip(pieces, before, strict=True)):
            every = positions(ids[row], PAD)[0]
            places[:, row, : len(piece)] = torch.from_numpy(every[:, start : start + len(piece)]).long()
        embedded = language.embed_tokens(given)
        if not any(before):
            embedded[given == PAD] = table.flatten(0, 1)
        return cache.extend(embedded, places, torch.tensor(before), max(start + new for start in before))

    with torch.no_grad():
        run([row[:start] for row, start in zip(ids, starts, strict=True)], [0, 0])
        assert longest == starts[0]
        cache.keep([0, 1])
        last = model.lm_head(run([row[start:] for row, start in zip(ids, starts, strict=True)], starts))
    torch.testing.assert_close(last[0], theirs(model, ids[0], table)[-3:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last[1], theirs(model, ids[1], None)[-3:], atol=1e-4, rtol=1e-4)

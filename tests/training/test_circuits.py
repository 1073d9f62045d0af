"""What is written into the nano model by hand does what it says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from training.circuits import HEAD, LAYER, lay_finding, lay_stamps  # noqa: E402
from training.model import IMAGE_PAD, SLICE_TOKENS, VISION_MARK, VISION_RMS, Packed, forward, new_model, pack  # noqa: E402
from training.tokens import VOCABULARY, Encoder, train_tokenizer  # noqa: E402
from training.world import SHAPES, Thing, some_things  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path: Path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    train_tokenizer(0, questions=400).save(str(path))
    return Encoder(path)


def test_a_head_finds_what_was_named_and_when_it_was_seen(encoder: Encoder) -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    model = new_model(VOCABULARY, encoder.control)
    language = model.model.language_model
    words = language.embed_tokens.weight.detach()

    def pointed() -> tuple[Packed, list[Thing], list[int]]:
        """Slices that say in words what they show, then their shapes in another order."""
        things = some_things(rng, 4)
        seconds = sorted(rng.sample(range(10, 60), 4))
        seen = torch.stack([words[encoder.plain(f" {thing.colour}")[0]] + words[encoder.plain(f" {thing.shape}")[0]] for thing in things])
        seen[:, VISION_MARK] = 4 * VISION_RMS
        text = [token for thing in rng.sample(things, 4) for token in encoder.plain(f" {thing.shape} at")]
        stem = encoder.frames([second + 0.5 for second in seconds])
        vision = seen[:, None].expand(-1, SLICE_TOKENS, -1)
        return pack(stem, [(text, [0.0, *[1.0] * (len(text) - 1)])], vision, encoder.control[IMAGE_PAD]), things, seconds

    lay_stamps(language, [encoder.plain(digit)[0] for digit in "0123456789"], VISION_RMS)
    lay_finding(model, encoder, [pointed() for _ in range(150)])
    heard: list[torch.Tensor] = []
    language.layers[LAYER].self_attn.o_proj.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    shapes = {encoder.plain(f" {shape}")[0]: shape for shape in SHAPES}
    for _ in range(10):
        packed, things, seconds = pointed()
        heard.clear()
        with torch.no_grad():
            forward(model, [packed], encoder.control[IMAGE_PAD])
        told = heard[0].view(len(packed.ids), -1)[:, HEAD * language.config.head_dim :]
        when = {thing.shape: second for thing, second in zip(things, seconds, strict=True)}
        asked = [at for at in range(1, len(packed.ids)) if packed.ids[at - 1] in shapes]
        assert len(asked) == 4
        for at in asked:
            second = when[shapes[packed.ids[at - 1]]]
            assert (int(told[at, :10].argmax()), int(told[at, 10:20].argmax())) == divmod(second, 10)

"""What is written into the nano model by hand does what it says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from transformers import Qwen3VLForConditionalGeneration  # noqa: E402

from training.circuits import HEAD, LAYER, lay_copying, lay_finding, lay_stamps  # noqa: E402
from training.language import Packed, collate, forward, pack  # noqa: E402
from training.model import IMAGE_PAD, SLICE_TOKENS, VISION_MARK, VISION_RMS, new_model  # noqa: E402
from training.tokens import VOCABULARY, Encoder, train_tokenizer  # noqa: E402
from training.world import COLOURS, SHAPES, Thing, some_things  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path: Path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    train_tokenizer(0, questions=1500).save(str(path))
    return Encoder(path)


@pytest.fixture
def model(encoder: Encoder) -> Qwen3VLForConditionalGeneration:
    """Fresh weights that can copy."""
    torch.manual_seed(0)
    model = new_model(VOCABULARY, encoder.control)
    lay_copying(model.model.language_model, *map(encoder.word, (",", " after", " before")), start=encoder.control["<|im_start|>"])
    return model


def logits(model: Qwen3VLForConditionalGeneration, encoder: Encoder, prompt: list[int], reply: list[int]) -> Any:
    """Of every token of the reply, ``(reply, vocabulary)``."""
    weights = [0.0] * (1 + len(prompt)) + [1.0] * len(reply)
    branch = [encoder.control["<|im_start|>"], *prompt, *reply], weights
    sample = pack([], [branch], [], encoder.control[IMAGE_PAD])
    with torch.no_grad():
        return forward(model, collate([[sample]], encoder.control[IMAGE_PAD], similar=1), None).logits


def test_fresh_weights_can_copy(model: Qwen3VLForConditionalGeneration, encoder: Encoder) -> None:
    """Random tokens that come again rank among the first few of a vocabulary, before any training."""
    rng = random.Random(0)
    some, between = ([rng.randrange(encoder.plain_tokens) for _ in range(count)] for count in (12, 10))
    said = logits(model, encoder, some + between + some[:1], some[1:])
    assert (said > said.gather(1, torch.tensor(some[1:])[:, None])).sum(1).median() < 8


@pytest.mark.parametrize("form", ["after", "before"])
def test_fresh_weights_know_what_comes_before_and_after(model: Qwen3VLForConditionalGeneration, encoder: Encoder, form: str) -> None:
    """Of the colours in a list they say the right one, before any training."""
    rng = random.Random(0)
    right = 0
    for _ in range(40):
        things = some_things(rng, 4)
        asked, answer = (things[1], things[2]) if form == "after" else (things[2], things[1])
        text = f"Which shape comes {form} the {asked.shape}?\nShapes: {', '.join(map(str, things))}. what comes {form} {asked.shape} is"
        colours = [encoder.word(f" {thing.colour}") for thing in things]
        said = logits(model, encoder, encoder.plain(text), [encoder.word(f" {answer.colour}")])
        right += things[int(said[0, colours].argmax())] == answer
    assert right > 30


def test_a_head_finds_what_was_named_and_when_it_was_seen(model: Qwen3VLForConditionalGeneration, encoder: Encoder) -> None:
    rng = random.Random(0)
    language = model.model.language_model
    words = language.embed_tokens.weight.detach()

    every = [Thing(shape, colour) for shape in SHAPES for colour in COLOURS]
    table = torch.stack([words[encoder.word(f" {thing.colour}")] + words[encoder.word(f" {thing.shape}")] for thing in every])
    table[:, VISION_MARK] = 4 * VISION_RMS
    table = table[:, None].expand(-1, SLICE_TOKENS, -1)

    def pointed() -> tuple[Packed, list[Thing], list[int]]:
        """Slices that say in words what they show, then their shapes in another order."""
        things = some_things(rng, 4)
        seconds = sorted(rng.sample(range(10, 60), 4))
        slices = [every.index(thing) for thing in things]
        text = [token for thing in rng.sample(things, 4) for token in encoder.plain(f" {thing.shape} at")]
        stem = encoder.frames([second + 0.5 for second in seconds])
        return pack(stem, [(text, [0.0, *[1.0] * (len(text) - 1)])], slices, encoder.control[IMAGE_PAD]), things, seconds

    lay_stamps(language, [encoder.word(digit) for digit in "0123456789"], VISION_RMS)
    lay_finding(model, encoder, [pointed() for _ in range(150)], table)
    heard: list[Any] = []
    language.layers[LAYER].self_attn.o_proj.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    shapes = {encoder.word(f" {shape}"): shape for shape in SHAPES}
    for _ in range(10):
        packed, things, seconds = pointed()
        heard.clear()
        with torch.no_grad():
            forward(model, collate([[packed]], encoder.control[IMAGE_PAD], similar=1), table)
        told = heard[0][:, HEAD * language.config.head_dim :]
        when = {thing.shape: second for thing, second in zip(things, seconds, strict=True)}
        asked = [at for at in range(1, len(packed.ids)) if packed.ids[at - 1] in shapes]
        assert len(asked) == 4
        for at in asked:
            second = when[shapes[packed.ids[at - 1]]]
            assert (int(told[at, :10].argmax()), int(told[at, 10:20].argmax())) == divmod(second, 10)

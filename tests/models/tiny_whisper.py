"""Write a small Whisper, and a Silero, in whisper.cpp's file format: nothing downloaded, nothing trained, numpy only.

The Silero is random noise. The Whisper says known words.

Its weights are random except for one thing: the last decoder layer's MLP is an associative memory from a token to what may follow it. So
the model "hears" a fixed grammar of segments (``<|0.00|> slot slot slot <|5.60|>``, ...), each slot one of a few words, ends by itself
as a trained model does, and is sure of what it says. Which of the words stands in a slot depends on the audio, through random
cross-attention: another window gives another text, the same window the same text.

With the dimensions of a released model (``BASE``) it costs exactly what that model costs, which makes timings honest without a download.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MAGIC = 0x67676D6C
VOCABULARY = 51864  # token ids are fixed by whisper.cpp, so even a tiny model has a row for every one of them
END, START, BEGIN = (50256, 50257, 50363)  # <|endoftext|>, <|startoftranscript|>, <|0.00|> of an English-only model
TRANSLATE, TRANSCRIBE = 50357, 50358
LETTERS = 256  # the first tokens of the vocabulary are the bytes
RATE, CHUNK_SECONDS, FFT, SECONDS_PER_STAMP = 16000, 30, 400, 0.02


@dataclass(frozen=True)
class Shape:
    """Dimensions of a model, and the grammar it speaks.

    Attributes:
        width, heads, audio_layers, text_layers: of the transformer. Not two text layers: whisper.cpp takes that for a distilled
            model and drops all timestamps.
        segments, slots, words: a window holds so many segments of so many slots, each filled by one of so many words.
        stride: seconds from the start of one segment to the start of the next.
        audio_context: 50 for every second that it hears at once.
        text_context: a decode ends after half as many tokens, less four.
        loops: it never leaves the first slot, like a stuck model.
    """

    width: int = 64
    heads: int = 1
    audio_layers: int = 1
    text_layers: int = 1
    mels: int = 80
    segments: int = 5
    slots: int = 4
    words: int = 3
    stride: float = 5.6
    audio_context: int = 1500
    text_context: int = 448
    loops: bool = False

    @property
    def slot_words(self) -> list[list[str]]:
        """The possible words of each slot, segment by segment."""
        syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
        names = [a + b for a in syllables for b in syllables[::7]]
        return [names[n * self.words : (n + 1) * self.words] for n in range(self.segments * self.slots)]


TINY = Shape()
BASE = Shape(width=512, heads=8, audio_layers=6, text_layers=6, segments=7, slots=11, words=2, stride=4.0)


def write_whisper(path: Path, shape: Shape = TINY, *, multilingual: bool = False, language: str = "de", seed: int = 0) -> Path:
    """Write a model.

    Args:
        path: the file to write, by custom ``ggml-*.bin``.
        multilingual: with language and task tokens; it then "detects" ``language``.
        seed: of the random weights; another seed gives other texts.
    """
    shift = int(multilingual)
    grammar = _Grammar.of(shape, shift, LANGUAGES[language])
    words = [f" {word}".encode() for slot in shape.slot_words for word in slot]
    vocabulary = [bytes([n]) for n in range(LETTERS)] + words
    with path.open("wb") as file:
        audio = (shape.audio_context, shape.width, shape.heads, shape.audio_layers)
        text = (shape.text_context, shape.width, shape.heads, shape.text_layers)
        file.write(struct.pack("<12i", MAGIC, VOCABULARY + shift, *audio, *text, shape.mels, 1))
        filters = mel_filters(shape.mels)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        file.write(struct.pack("<i", len(vocabulary)))
        for token in vocabulary:
            file.write(struct.pack("<i", len(token)) + token)
        for name, tensor in _tensors(shape, VOCABULARY + shift, grammar, np.random.default_rng(seed)):
            _write_tensor(file, name, tensor)
    return path


def write_silero(path: Path, *, seed: int = 0) -> Path:
    """Write a voice activity detector with random weights; its detections are meaningless, but it detects both speech and silence."""
    random = np.random.default_rng(seed)
    convolutions = [(129, 128, 3), (128, 64, 3), (64, 64, 3), (64, 128, 3)]
    with path.open("wb") as file:
        file.write(struct.pack("<2i", MAGIC, 10) + b"silero-16k" + struct.pack("<3i", 6, 2, 0))
        file.write(struct.pack("<3i", 512, 64, 4) + b"".join(struct.pack("<3i", *shape) for shape in convolutions))
        file.write(struct.pack("<4i", 128, 128, 128, 1))
        for layer, (inputs, outputs, taps) in enumerate(convolutions):
            name = f"_model.encoder.{layer}.reparam_conv"
            _write_tensor(file, f"{name}.weight", _random(random, outputs, inputs, taps, scale=0.3))
            _write_tensor(file, f"{name}.bias", _random(random, outputs))
        for name in ("ih", "hh"):
            _write_tensor(file, f"_model.decoder.rnn.weight_{name}", _random(random, 512, 128, scale=3.0), half=False)
            _write_tensor(file, f"_model.decoder.rnn.bias_{name}", _random(random, 512))
        _write_tensor(file, "_model.decoder.decoder.2.weight", _random(random, 128, scale=30.0), half=True)
        _write_tensor(file, "_model.decoder.decoder.2.bias", np.array(-2.0, np.float32))
        _write_tensor(file, "_model.stft.forward_basis_buffer", _random(random, 258, 1, 256), half=True)
    return path


def _random(random: np.random.Generator, *size: int, scale: float = 1.0) -> Array:
    return np.asarray(random.standard_normal(size) * scale / np.sqrt(size[-1]), np.float32)


LANGUAGES = {"en": 0, "zh": 1, "de": 2}  # whisper.cpp's order


def mel_filters(mels: int) -> Array:
    """Triangular filters, evenly spaced on the mel scale up to 8 kHz: shape ``(mels, FFT // 2 + 1)``."""

    def to_mel(hertz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hertz / 700.0))

    corners = 700.0 * (10.0 ** (np.linspace(0.0, to_mel(RATE / 2), mels + 2) / 2595.0) - 1.0)
    bins = np.linspace(0.0, RATE / 2, FFT // 2 + 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(min=0.0)
    return (triangles * 2.0 / (high - low)).astype(np.float32)


@dataclass
class _Grammar:
    """What may follow each token: ``rules[token]`` is a list of equally likely next tokens."""

    tokens: list[int]
    rules: dict[int, list[int]] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, shape: Shape, shift: int, language: int) -> _Grammar:
        def stamp(seconds: float) -> int:
            return BEGIN + shift + round(seconds / SECONDS_PER_STAMP)

        grammar = cls([])
        first = [START + shift]
        if shift:
            grammar.rules[START + shift] = [START + shift + 1 + language]
            first = [TRANSLATE + shift, TRANSCRIBE + shift]
        word = LETTERS
        previous = first
        for segment in range(shape.segments):
            opening, closing = (stamp(segment * shape.stride + 0.02 * (segment > 0)), stamp((segment + 1) * shape.stride))
            for token in previous:
                grammar.rules[token] = [opening]
            previous = [opening]
            for _ in range(shape.slots):
                choice = list(range(word, word + shape.words))
                word += shape.words
                for token in previous:
                    grammar.rules[token] = choice
                previous = choice
                grammar.words += choice
            for token in previous:
                grammar.rules[token] = [closing]
            previous = [closing]
        grammar.rules[previous[0]] = [END + shift]
        if shape.loops:
            grammar.rules |= {token: [token] for token in range(LETTERS, LETTERS + shape.words)}
        grammar.tokens = sorted({*grammar.rules, *(token for choice in grammar.rules.values() for token in choice)})
        return grammar


def _tensors(shape: Shape, rows: int, grammar: _Grammar, random: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Names and weights, in whisper.cpp's names. Matrices are ``(outputs, inputs)``."""
    width, hidden = shape.width, 4 * shape.width
    if len(grammar.rules) > hidden:
        raise ValueError(f"{len(grammar.rules)} rules need more than {hidden} hidden units")

    def noise(*size: int, scale: float = 1.0) -> Array:
        return _random(random, *size, scale=scale)

    def zeros(*size: int) -> Array:
        return np.zeros(size, np.float32)

    def norm(name: str) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", np.ones(width, np.float32)
        yield f"{name}.bias", zeros(width)

    def attention(name: str, value: Array, out: Array) -> Iterator[tuple[str, Array]]:
        yield from norm(f"{name}_ln")
        yield f"{name}.query.weight", noise(width, width)
        yield f"{name}.query.bias", zeros(width)
        yield f"{name}.key.weight", noise(width, width)
        yield f"{name}.value.weight", value
        yield f"{name}.value.bias", zeros(width)
        yield f"{name}.out.weight", out
        yield f"{name}.out.bias", zeros(width)

    def mlp(name: str, up: Array, bias: Array, down: Array) -> Iterator[tuple[str, Array]]:
        yield from norm(f"{name}_ln")
        yield f"{name}.0.weight", up
        yield f"{name}.0.bias", bias
        yield f"{name}.2.weight", down
        yield f"{name}.2.bias", zeros(width)

    yield "encoder.positional_embedding", noise(shape.audio_context, width)
    yield "encoder.conv1.weight", noise(width, shape.mels, 3, scale=0.5)
    yield "encoder.conv1.bias", zeros(width, 1)
    yield "encoder.conv2.weight", noise(width, width, 3)
    yield "encoder.conv2.bias", zeros(width, 1)
    for layer in range(shape.audio_layers):
        block = f"encoder.blocks.{layer}"
        yield from attention(f"{block}.attn", noise(width, width), noise(width, width))
        yield from mlp(f"{block}.mlp", noise(hidden, width), zeros(hidden), noise(width, hidden))
    yield from norm("encoder.ln_post")

    directions = {token: _unit(random, width) for token in grammar.tokens}
    embedding = zeros(rows, width)
    for token, direction in directions.items():
        embedding[token] = EMBEDDING * direction
    yield "decoder.positional_embedding", zeros(shape.text_context, width)
    yield "decoder.token_embedding.weight", embedding
    word_directions = np.stack([directions[token] for token in grammar.words], axis=1)
    for layer in range(shape.text_layers):
        block, last = f"decoder.blocks.{layer}", layer == shape.text_layers - 1
        yield from attention(f"{block}.attn", noise(width, width), zeros(width, width))
        taste = word_directions @ noise(len(grammar.words), width, scale=TASTE)
        yield from attention(f"{block}.cross_attn", noise(width, width), taste if last else zeros(width, width))
        up, bias, down = zeros(hidden, width), zeros(hidden), zeros(width, hidden)
        if last:
            for unit, (token, choice) in enumerate(grammar.rules.items()):
                up[unit], bias[unit] = directions[token], (MARGIN - 1) * np.sqrt(width)
                target = sum(directions[following] for following in choice) / np.sqrt(len(choice))
                down[:, unit] = (NEXT * target - EMBEDDING * directions[token]) / (MARGIN * np.sqrt(width))
        yield from mlp(f"{block}.mlp", up, bias, down)
    yield from norm("decoder.ln")


# Sizes that make the memory work. The layer norm makes a token's own direction sqrt(width) long: its unit stands MARGIN of that over the
# bias, and no other token's does. The next token then outweighs the present one and the 51864 unused rows, whose logits are all zero.
EMBEDDING, NEXT, MARGIN, TASTE = 5.0, 8.0, 0.45, 0.2


def _unit(random: np.random.Generator, width: int) -> Array:
    """A random direction without a mean, which a layer norm would take away."""
    signs = np.repeat(np.array([1.0, -1.0], np.float32), width // 2)
    return np.asarray(random.permutation(signs) / np.sqrt(width), np.float32)


def _write_tensor(file: BinaryIO, name: str, tensor: Array, *, half: bool | None = None) -> None:
    """Matrices and kernels in half precision, the rest in single, as whisper.cpp's converters do."""
    if half is None:
        half = tensor.ndim > 1 and "positional" not in name and not name.endswith("bias")
    encoded = name.encode()
    file.write(struct.pack("<3i", tensor.ndim, len(encoded), int(half)))
    file.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)) + encoded)
    file.write(tensor.astype(np.float16 if half else np.float32).tobytes())

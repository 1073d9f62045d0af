"""The nano whisper: Whisper's architecture, small, trained on espeak-ng's voices saying what can be said in the synthetic world.

It knows words, not letters: every word of the vocabulary is one token, so there is nothing to misspell. Besides the world's sentences it
hears strings of random words, which no language model could guess. Windows are what ``sage_cli.speech`` cuts (:mod:`training.sounds`), and
targets are what whisper.cpp asks for: a pair of times for every sentence, and for one that the window's end cuts its start alone, upon
which it is heard again with the next window.

Where in the window each word is, is known; one attention head of the decoder is taught to look there (guided attention), and the others
follow. Without it, finding the way through a window of several sentences takes many times the steps.

    python -m training whisper --preset nano --out build/nano
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration

from training.config import Whisper
from training.model import keep, resume, save
from training.muon import Muon
from training.runlog import Clock, Log
from training.sounds import Heard, Utterance, noise, record, stream, windows
from training.speech import SAMPLE_RATE, TEST_VOICES, TRAIN_VOICES, all_sentences, held_out
from training.words import word_errors

AUDIO_CONTEXT: Final = 256  # encoder positions, 5.1 s: whisper.cpp pads every window to it
TEXT_CONTEXT: Final = 448
MELS: Final = 80
FFT, HOP = 400, 160
BLANK: Final = " [BLANK_AUDIO]"  # what released models write where nobody speaks
STAMP: Final = 0.1  # seconds; timestamps are trained at this grain, though the format has 0.02
FIRST_STAMP: Final = 1.0  # whisper.cpp lets no window begin later
POSITIONS: Final = 50  # of the encoder in a second
GUIDED: Final = (1, 0)  # decoder layer and head that is taught where to look
KEPT: Final = 500  # steps between checkpoints
UNUSED_ROWS: Final = 50_700  # the format has a row for each of Whisper's tokens; those not used have logits of zero


# ---- vocabulary ----------------------------------------------------------------------------------------------------


def words() -> list[str]:
    """Every word that can be said, with the space before it."""
    said = sorted({word for sentence in all_sentences() for word in re.findall(r"[A-Za-z]+", sentence)})
    return [f" {word}" for word in said]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Compact token ids for training: texts first, then the control tokens, then the timestamps.

    Texts are the words, the same words without their space (the first one of a prompt), and punctuation.
    """

    texts: tuple[str, ...]

    @classmethod
    def build(cls) -> Vocabulary:
        spaced = words()
        return cls((*spaced, *(word[1:] for word in spaced), ".", ",", BLANK))

    @property
    def end(self) -> int:
        return len(self.texts)

    @property
    def start(self) -> int:
        return len(self.texts) + 1

    @property
    def previous(self) -> int:
        return len(self.texts) + 2

    @property
    def begin(self) -> int:
        """``<|0.00|>``; a later time is so many grains of :data:`STAMP` on."""
        return len(self.texts) + 3

    @property
    def size(self) -> int:
        return self.begin + round(AUDIO_CONTEXT * 0.02 / STAMP) + 1

    def tokens(self, text: str) -> list[int]:
        return [self.texts.index(piece) for piece in re.findall(r" ?[A-Za-z]+|[.,]", text)]


# ---- data ----------------------------------------------------------------------------------------------------------


def mel_filters() -> NDArray[np.float32]:
    """Triangles evenly spaced on the mel scale, shape ``(80, 201)``. They travel in the model's file."""
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), MELS + 2) / 2595) - 1)
    bins = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(min=0)
    return (triangles * 2 / (high - low)).astype(np.float32)


def log_mel(sounds: Sequence[NDArray[np.float32]], positions: int) -> Tensor:
    """whisper.cpp's features: ``(batch, 80, 2 * positions)``, the sounds padded with silence to that length."""
    frames = 2 * positions
    padded = np.zeros((len(sounds), (frames - 1) * HOP + FFT), np.float32)
    for row, sound in zip(padded, sounds, strict=True):
        air = np.pad(sound[: frames * HOP], (FFT // 2, 0), mode="reflect")[: padded.shape[1]]
        row[: len(air)] = air
    spectrum = torch.stft(torch.from_numpy(padded), FFT, HOP, window=torch.hann_window(FFT), center=False, return_complex=True)
    mel = (_FILTERS @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


_FILTERS: Final = torch.from_numpy(mel_filters())


def word_salad(rng: random.Random, count: int) -> list[str]:
    """Strings of random words, spoken as sentences."""
    pool = words()
    return ["".join(rng.choices(pool, k=rng.randint(2, 5))).strip() + "." for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Target:
    """A window's tokens, and where in it each is to be found.

    Attributes:
        before: the prompt: nothing of it is predicted.
        tokens: from the start token to the end token.
        places: for each of ``tokens`` but the first, seconds from and to; ``None`` for what is nowhere.
    """

    before: list[int]
    tokens: list[int]
    places: list[tuple[float, float] | None]


def target(heard: Heard, vocabulary: Vocabulary) -> Target:
    """What whisper.cpp shall decode of a window."""
    tokens, places = [vocabulary.start], list[tuple[float, float] | None]()

    def add(token: int, place: tuple[float, float] | None) -> None:
        tokens.append(token)
        places.append(place)

    latest = 0
    for sentence in heard.said:
        latest = max(latest, math.floor(sentence.start / STAMP))
        if not places:
            latest = min(latest, round(FIRST_STAMP / STAMP))  # whisper.cpp takes none later
        add(vocabulary.begin + latest, (sentence.start - 0.1, sentence.start + 0.3))
        if not sentence.whole:
            break
        spoken = vocabulary.tokens(f" {sentence.text}")
        lengths = np.cumsum([0, *(len(vocabulary.texts[token]) for token in spoken)]) / sum(
            len(vocabulary.texts[token]) for token in spoken
        )
        edges = sentence.start + lengths * (sentence.end - sentence.start)
        for token, first, last in zip(spoken, edges[:-1], edges[1:], strict=True):
            add(token, (first - 0.1, last + 0.15))
        latest = max(latest + 1, math.ceil(sentence.end / STAMP))
        add(vocabulary.begin + latest, (sentence.end - 0.3, sentence.end + 0.1))
    if not heard.said:
        add(vocabulary.begin, None)
        add(vocabulary.texts.index(BLANK), None)
        add(vocabulary.begin + math.floor(len(heard.sound) / SAMPLE_RATE / STAMP), None)
    add(vocabulary.end, None)
    before = [vocabulary.previous, *vocabulary.tokens(heard.before)] if heard.before else []
    return Target(before, tokens, places)


# ---- model ---------------------------------------------------------------------------------------------------------


def new_whisper(vocabulary: Vocabulary) -> WhisperForConditionalGeneration:
    """An untrained nano whisper. Not two decoder layers: whisper.cpp takes that for a distilled model and drops all times."""
    config = WhisperConfig(
        vocab_size=vocabulary.size,
        num_mel_bins=MELS,
        d_model=96,
        encoder_layers=4,
        encoder_attention_heads=3,
        encoder_ffn_dim=384,
        decoder_layers=3,
        decoder_attention_heads=3,
        decoder_ffn_dim=384,
        max_source_positions=AUDIO_CONTEXT,
        max_target_positions=TEXT_CONTEXT,
        pad_token_id=vocabulary.end,
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        dropout=0.0,
    )
    return WhisperForConditionalGeneration(config)


def attend(attention: Any, hidden: Tensor, other: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention from ``hidden`` to ``other``, and its weights, ``(batch, heads, m, n)``. On a CPU, spelled out is fastest at this size."""

    def heads(value: Tensor) -> Tensor:
        return value.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)

    query = heads(attention.q_proj(hidden) * attention.scaling)
    scores = query @ heads(attention.k_proj(other)).transpose(2, 3)
    weights = (scores if mask is None else scores + mask).softmax(3)
    out = weights.to(query.dtype) @ heads(attention.v_proj(other))
    return attention.out_proj(out.transpose(1, 2).flatten(2)), weights


def encode(model: WhisperForConditionalGeneration, mel: Tensor) -> Tensor:
    """The encoder on windows of any length: ``transformers``' own takes full ones only. ``(batch, 80, 2 n)`` to ``(batch, n, width)``."""
    encoder = model.model.encoder
    hidden = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        normed = layer.self_attn_layer_norm(hidden)
        hidden = hidden + attend(layer.self_attn, normed, normed)[0]
        hidden = hidden + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    return encoder.layer_norm(hidden)


def decode(model: WhisperForConditionalGeneration, heard: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token logits, ``(batch, m, size + 1)``: the last column stands for the zero logits of all unused rows together.

    And where the guided head looks, ``(batch, m, n)``.
    """
    decoder = model.model.decoder
    length = tokens.shape[1]
    causal = torch.full((length, length), -torch.inf, device=tokens.device).triu(1)
    hidden = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[:length]
    look = hidden
    for number, layer in enumerate(decoder.layers):
        normed = layer.self_attn_layer_norm(hidden)
        hidden = hidden + attend(layer.self_attn, normed, normed, causal)[0]
        found, weights = attend(layer.encoder_attn, layer.encoder_attn_layer_norm(hidden), heard)
        if number == GUIDED[0]:
            look = weights[:, GUIDED[1]]
        hidden = hidden + found
        hidden = hidden + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(hidden))))
    out = (decoder.layer_norm(hidden) @ decoder.embed_tokens.weight.T).float()
    return torch.cat([out, out.new_full((*out.shape[:2], 1), math.log(UNUSED_ROWS))], dim=2), look.float()


# ---- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of like length.

    Attributes:
        mel: ``(batch, 80, 2 n)``.
        inputs: decoder input, ``(batch, m)``.
        targets: the next tokens, ``(batch, m)``; -100 where nothing is to be predicted.
        places: encoder positions where a token is to be found, ``(batch, m, n)``; all false for what is nowhere.
    """

    mel: Tensor
    inputs: Tensor
    targets: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(value.to(device) for value in (self.mel, self.inputs, self.targets, self.places)))


class Batches:
    """Batches without end.

    Args:
        utterances: what can be heard.
    """

    def __init__(self, utterances: list[Utterance], vocabulary: Vocabulary, seed: str) -> None:
        self.utterances, self.vocabulary, self.rng = utterances, vocabulary, random.Random(seed)
        self._windows = self.cut()
        self._singles = self.cut(single=True)

    def next(self, size: int, *, short: bool) -> Batch:
        """So many windows: of one sentence each, and as short as they are, or of any number, padded as whisper.cpp pads them."""
        heard = list(islice(self._singles if short else self._windows, size))
        longest = max(len(window.sound) for window in heard) // (2 * HOP) + self.rng.randint(1, 60)
        return self.collate(heard, min(AUDIO_CONTEXT, longest) if short else AUDIO_CONTEXT)

    def collate(self, heard: Sequence[Heard], positions: int) -> Batch:
        """Windows as one batch."""
        rows = [target(window, self.vocabulary) for window in heard]
        length = max(len(row.before) + len(row.tokens) for row in rows) - 1
        inputs = torch.full((len(rows), length), self.vocabulary.end)
        targets = torch.full((len(rows), length), -100)
        places = torch.zeros((len(rows), length, positions), dtype=torch.bool)
        for number, row in enumerate(rows):
            every, first = torch.tensor(row.before + row.tokens), len(row.before)
            inputs[number, : len(every) - 1] = every[:-1]
            targets[number, first : len(every) - 1] = every[first + 1 :]
            for at, place in enumerate(row.places, first):
                if place is not None:
                    places[number, at, max(0, round(place[0] * POSITIONS)) : max(1, round(place[1] * POSITIONS))] = True
        return Batch(log_mel([window.sound for window in heard], positions), inputs, targets, places)

    def cut(self, *, single: bool = False) -> Iterator[Heard]:
        """Windows without end; with ``single``, of one sentence each."""
        rng = self.rng
        while True:
            if rng.random() < 0.02:
                yield noise(rng)
            count = 1 if single or rng.random() < 0.3 else rng.randint(2, 12)
            sound, said = stream(rng, rng.sample(self.utterances, count))
            cut = windows(rng, sound, said, AUDIO_CONTEXT * 2 * HOP, gate=rng.random() < 0.9)
            for heard in cut:
                if rng.random() < 0.1:  # not what was really said before
                    heard = replace(heard, before=" ".join(u.text for u in rng.sample(self.utterances, rng.randint(1, 3))))
                if heard.said:  # a rest of a sentence is not
                    yield heard


def loss(model: WhisperForConditionalGeneration, batch: Batch, guidance: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of the tokens, with ``guidance`` times that of the guided head's place; and the former alone."""
    out, look = decode(model, encode(model, batch.mel), batch.inputs)
    told = functional.cross_entropy(out.flatten(0, 1), batch.targets.flatten())
    somewhere = batch.places.any(2)
    mass = (look * batch.places).sum(2)[somewhere]
    return told - guidance * (mass + 1e-4).log().mean(), told.detach()


def hear(model: WhisperForConditionalGeneration, vocabulary: Vocabulary, heard: Heard) -> str:
    """Greedy text of one window, without times."""
    with torch.no_grad():
        encoded = encode(model, log_mel([heard.sound], AUDIO_CONTEXT).to(model.device))
        tokens = [*target(heard, vocabulary).before, vocabulary.start]
        while len(tokens) < 160 and tokens[-1] != vocabulary.end:
            tokens.append(int(decode(model, encoded, torch.tensor([tokens], device=model.device))[0][0, -1, :-1].argmax()))
    return "".join(vocabulary.texts[token] for token in tokens[tokens.index(vocabulary.start) :] if token < vocabulary.end).strip()


def word_error_rate(model: WhisperForConditionalGeneration, vocabulary: Vocabulary, heard: Sequence[Heard]) -> float:
    """Of windows, in this module's own arithmetic; :mod:`training.evaluate` has whisper.cpp's."""
    pairs = [(" ".join(sentence.text for sentence in window.said if sentence.whole), hear(model, vocabulary, window)) for window in heard]
    wrong, total = np.sum([word_errors(*pair) for pair in pairs], axis=0)
    return float(wrong / total)


class Recordings:
    """What espeak-ng says for training and for testing, kept in a folder.

    Args:
        seed: of voices, speeds and random words.
    """

    def __init__(self, settings: Whisper, seed: int, folder: Path) -> None:
        known = [text for text in all_sentences() if not held_out(text)]
        salad = word_salad(random.Random(seed), settings.salads)
        self.training = record(TRAIN_VOICES, known, settings.readings, seed, folder / "known.npz")
        self.training += record(TRAIN_VOICES, salad, settings.salad_readings, seed, folder / "salad.npz")
        unknown = [text for text in all_sentences() if held_out(text)]
        self.testing = record(TEST_VOICES, unknown, len(TEST_VOICES), seed, folder / "test.npz")


def train_whisper(
    settings: Whisper, folder: Path, log: Log, *, seed: int, device: torch.device, limit: float | None, bfloat16: bool = False
) -> None:
    """Train to ``whisper.pt`` of a folder. Goes on from ``whisper.part.pt`` if it exists.

    Args:
        limit: seconds.
        bfloat16: matrix products in bfloat16.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
    """
    torch.manual_seed(seed)
    vocabulary = Vocabulary.build()
    recordings = Recordings(settings, seed, folder / "recordings")
    tests = list(islice(Batches(recordings.testing, vocabulary, "test").cut(), settings.examine))
    clock = Clock(settings.steps, limit)
    model = new_whisper(vocabulary).to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "proj_out" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    peaks = (settings.matrix_rate, settings.other_rate)
    optimizers = [Muon(matrices, peaks[0]), torch.optim.AdamW(others, lr=peaks[1], weight_decay=0.0, betas=(0.9, 0.98))]
    step = resume(part := folder / "whisper.part.pt", model, optimizers)
    log.begin(step)
    batches = Batches(recordings.training, vocabulary, f"{seed}/{step}")
    mean = 0.0
    while not clock.over(step):
        step += 1
        left = (1 - clock.progress(step)) / settings.decay + 0.01
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min(1.0, step / settings.warmup, left)
        batch = batches.next(settings.batch, short=clock.progress(step) * settings.steps <= settings.short).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            whole, told = loss(model, batch, settings.guidance)
        model.zero_grad()
        whole.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for optimizer in optimizers:
            optimizer.step()
        mean = told.item() if mean == 0.0 else 0.98 * mean + 0.02 * told.item()
        if step % 25 == 0 or step <= 5:
            log.write(step=step, loss=told.item(), mean=mean)
        if step % KEPT == 0:
            keep(part, step, model, optimizers)
    save(model, folder / "whisper.pt")
    part.unlink(missing_ok=True)
    log.write(step=step, saved="whisper.pt", word_error_rate=word_error_rate(model, vocabulary, tests))

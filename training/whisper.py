"""The nano whisper: Whisper's architecture, small, trained on espeak-ng's voices saying what can be said in the synthetic world.

It knows words, not letters: every word of the vocabulary is one token, so there is nothing to misspell. Besides the world's sentences it
hears strings of random words, which no language model could guess. Windows are what ``sage_cli.speech`` cuts: sentences side by side with
short pauses. Training goes from one sentence to whole windows, because the encoder's cost grows with the square of the length.

    python -m training.whisper --steps 6000 --long 1500 --out /tmp/nano/whisper.pt
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration

from training.muon import Muon
from training.speech import SAMPLE_RATE, TEST_VOICES, TRAIN_VOICES, all_sentences, held_out, speak
from training.words import word_errors

AUDIO_CONTEXT: Final = 750  # encoder positions, 15 s: whisper.cpp pads every window to it
TEXT_CONTEXT: Final = 448
MELS: Final = 80
FFT, HOP = 400, 160
BLANK: Final = " [BLANK_AUDIO]"  # what released models write where nobody speaks
STAMP: Final = 0.2  # seconds; timestamps are trained at this grain, though the format has 0.02
MATRIX_RATE: Final = 5e-3
OTHER_RATE: Final = 2e-3
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


_FILTERS: Final = mel_filters()
_HANN: Final = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)


def log_mel(sound: NDArray[np.float32], positions: int) -> NDArray[np.float32]:
    """whisper.cpp's features: ``(80, 2 * positions)``, the sound padded with silence to that length."""
    frames = 2 * positions
    padded = np.pad(sound, (FFT // 2, 0), mode="reflect")
    padded = np.pad(padded, (0, max(0, frames * HOP + FFT - len(padded))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[: frames * HOP : HOP]
    power = np.abs(np.fft.rfft(windows * _HANN, axis=1)).astype(np.float32) ** 2
    mel = np.log10(np.maximum(power @ _FILTERS.T, 1e-10)).T
    return (np.maximum(mel, mel.max() - 8) + 4) / 4


@dataclass(frozen=True, slots=True)
class Utterance:
    text: str
    sound: NDArray[np.float32]


def record(voices: tuple[str, ...], texts: list[str], seed: int, workers: int = 2) -> list[Utterance]:
    """Every text once in some of the voices, at some speed and pitch."""
    rng = random.Random(seed)
    jobs = [
        (text, voice, rng.randint(135, 185), rng.randint(35, 65)) for text in texts for voice in rng.sample(voices, min(8, len(voices)))
    ]
    with ThreadPoolExecutor(workers) as pool:
        return [
            Utterance(job[0], sound.astype(np.float16)) for job, sound in zip(jobs, pool.map(lambda job: speak(*job), jobs), strict=True)
        ]


def word_salad(rng: random.Random, count: int) -> list[str]:
    """Strings of random words, spoken as sentences."""
    pool = words()
    return ["".join(rng.choices(pool, k=rng.randint(2, 5))).strip() + "." for _ in range(count)]


def window(rng: random.Random, utterances: list[Utterance], vocabulary: Vocabulary) -> tuple[NDArray[np.float32], list[int]]:
    """Utterances side by side, and the tokens of what is said, times included."""
    noise = np.random.default_rng(rng.getrandbits(32))
    quiet = rng.choice((0.0, 0.0005, 0.001, 0.003))
    pieces, tokens, at = [np.zeros(int(rng.uniform(0.05, 0.45) * SAMPLE_RATE), np.float32)], [], 0
    volume = rng.uniform(0.3, 1.1)
    for utterance in utterances:
        at = sum(map(len, pieces))
        sound = utterance.sound.astype(np.float32)
        start, end = at / SAMPLE_RATE, (at + len(sound)) / SAMPLE_RATE
        tokens += [
            vocabulary.begin + math.floor(start / STAMP),
            *vocabulary.tokens(f" {utterance.text}"),
            vocabulary.begin + math.ceil(end / STAMP),
        ]
        pieces += [volume * sound, np.zeros(int(rng.uniform(0.3, 0.8) * SAMPLE_RATE), np.float32)]
    sound = np.concatenate(pieces)
    if not utterances:
        sound = np.zeros(int(rng.uniform(1, 4) * SAMPLE_RATE), np.float32)
        quiet = 10 ** rng.uniform(-4, -1.5)
        tokens = [vocabulary.begin, vocabulary.texts.index(BLANK), vocabulary.begin + math.floor(len(sound) / SAMPLE_RATE / STAMP)]
    return sound + noise.normal(0, 1, len(sound)).astype(np.float32) * quiet, tokens


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


def encode(model: WhisperForConditionalGeneration, mel: Tensor) -> Tensor:
    """The encoder on windows of any length: ``transformers``' own takes full ones only. ``(batch, 80, 2 n)`` to ``(batch, n, width)``."""
    encoder = model.model.encoder
    hidden = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        output = layer(hidden, None)
        hidden = output[0] if isinstance(output, tuple) else output
    return encoder.layer_norm(hidden)


def logits(model: WhisperForConditionalGeneration, heard: Tensor, tokens: Tensor) -> Tensor:
    """Next-token logits, ``(batch, length, size + 1)``: the last column stands for the zero logits of all unused rows together."""
    hidden = model.model.decoder(input_ids=tokens, encoder_hidden_states=heard, use_cache=False).last_hidden_state
    out = hidden @ model.model.decoder.embed_tokens.weight.T
    return torch.cat([out, out.new_full((*out.shape[:2], 1), math.log(UNUSED_ROWS))], dim=2)


class Batches:
    """Training batches of windows.

    Args:
        utterances: what can be heard.
    """

    def __init__(self, utterances: list[Utterance], vocabulary: Vocabulary, seed: int) -> None:
        self.utterances, self.vocabulary, self.rng = utterances, vocabulary, random.Random(seed)

    def next(self, size: int, *, long: bool) -> tuple[Tensor, Tensor, Tensor]:
        """``mel (batch, 80, 2 n)``, decoder input ``(batch, m)`` and targets ``(batch, m)`` with -100 where nothing is to be predicted."""
        rng, vocabulary = self.rng, self.vocabulary
        rows = []
        for _ in range(size):
            count = rng.choice((1, 1, 1, 2, 3, 4, 5)) if long else 1
            chosen = [] if rng.random() < 0.03 else rng.sample(self.utterances, count)
            sound, tokens = window(rng, chosen, vocabulary)
            while len(sound) > AUDIO_CONTEXT * 2 * HOP:
                chosen = chosen[:-1]
                sound, tokens = window(rng, chosen, vocabulary)
            before = []
            if rng.random() < 0.4:
                said = " ".join(utterance.text for utterance in rng.sample(self.utterances, rng.randint(1, 3)))
                before = [vocabulary.previous, *vocabulary.tokens(said)]
            rows.append((sound, before, [vocabulary.start, *tokens, vocabulary.end]))
        positions = AUDIO_CONTEXT if long else max(len(sound) for sound, _, _ in rows) // (2 * HOP) + rng.randint(1, 60)
        mel = torch.from_numpy(np.stack([log_mel(sound, positions) for sound, _, _ in rows]))
        length = max(len(before) + len(tokens) for _, before, tokens in rows) - 1
        inputs = torch.full((size, length), vocabulary.end)
        targets = torch.full((size, length), -100)
        for row, (_, before, tokens) in enumerate(rows):
            every = torch.tensor(before + tokens)
            inputs[row, : len(every) - 1] = every[:-1]
            targets[row, len(before) : len(every) - 1] = every[len(before) + 1 :]
        return mel, inputs, targets


def hear(model: WhisperForConditionalGeneration, vocabulary: Vocabulary, sound: NDArray[np.float32]) -> str:
    """Greedy text of one window, without times."""
    with torch.no_grad():
        heard = encode(model, torch.from_numpy(log_mel(sound, AUDIO_CONTEXT))[None])
        tokens = [vocabulary.start]
        while len(tokens) < 80 and tokens[-1] != vocabulary.end:
            tokens.append(int(logits(model, heard, torch.tensor([tokens]))[0, -1, :-1].argmax()))
    return "".join(vocabulary.texts[token] for token in tokens if token < vocabulary.end).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--long", type=int, default=1500, help="of them, steps at the end with whole windows")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--salad", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    vocabulary = Vocabulary.build()

    started = time.monotonic()
    known = [text for text in all_sentences() if not held_out(text)]
    heard = record(TRAIN_VOICES, known + word_salad(rng, args.salad), args.seed)
    tests = record(TEST_VOICES, [text for text in all_sentences() if held_out(text)], args.seed)
    print(f"{len(heard)} utterances recorded in {time.monotonic() - started:.0f} s, {vocabulary.size} tokens", flush=True)
    batches = Batches(heard, vocabulary, args.seed)

    model = new_whisper(vocabulary)
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "proj_out" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    optimizers = [Muon(matrices, MATRIX_RATE), torch.optim.AdamW(others, lr=OTHER_RATE, weight_decay=0.0, betas=(0.9, 0.98))]
    started = time.monotonic()
    mean = 0.0
    for step in range(1, args.steps + 1):
        for optimizer, peak in zip(optimizers, (MATRIX_RATE, OTHER_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = peak * min(1.0, step / 100, 1.6 * (1 - step / args.steps) + 0.01)
        mel, inputs, targets = batches.next(args.batch, long=step > args.steps - args.long)
        out = logits(model, encode(model, mel), inputs)
        loss = functional.cross_entropy(out.flatten(0, 1), targets.flatten())
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"step {step}  {time.monotonic() - started:.0f} s  loss {mean:.3f}", flush=True)
        if step % 500 == 0 or step == args.steps:
            torch.save(model.state_dict(), args.out.with_suffix(".part"))
            args.out.with_suffix(".part").replace(args.out)
            sample = random.Random(1).sample(tests, min(24, len(tests)))
            pairs = [(test.text, hear(model, vocabulary, np.pad(test.sound.astype(np.float32), 3000))) for test in sample]
            errors = [word_errors(*pair) for pair in pairs]
            rate = sum(wrong for wrong, _ in errors) / sum(total for _, total in errors)
            print(f"held out: word error rate {rate:.3f}  {pairs[:3]}", flush=True)


if __name__ == "__main__":
    main()

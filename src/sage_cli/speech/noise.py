"""Steady noise out of a window before it is decoded.

Whisper, the small models above all, mishears speech in noise: what a fan or a tape adds to every band hides the weak sounds. So each
band of the spectrum is lowered where it holds little more than the level that never leaves it: a Wiener filter whose noise is estimated
from the quiet moments of each band (minimum statistics: Martin 2001, doi:10.1109/89.928915). Speech is in no band all the time.

It is lowered a little only: full suppression leaves warbling tones, which a decoder takes for speech. Sound without noise stays as it is.
FFmpeg's ``afftdn`` learns the noise as it goes along, which takes it seconds; here all of a window is known, and nothing before it counts.
"""

from __future__ import annotations

import numpy as np

from sage_cli.speech.whisper import Samples

_FRAME, _HOP = 512, 128  # samples of 16 kHz: 32 ms, four frames deep
_FLOOR = 0.2  # no band is lowered further, which is 14 dB
_QUIET = 15  # percent of the time in which a band holds noise alone
_MEAN = 1.5  # times the power in the quietest moments: about the mean power of the noise
_SMOOTH = 5  # frames over which power is averaged

_HANN = np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME).astype(np.float32) ** 2


def without_noise(samples: Samples) -> Samples:
    """The same sound with less steady noise in it; equal for equal samples.

    Args:
        samples: mono at 16 kHz, a few seconds or more.
    """
    padded = np.pad(samples, (_FRAME, _FRAME - len(samples) % _HOP))
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP] * _HANN, axis=1)
    around = np.pad(np.abs(spectra) ** 2, ((_SMOOTH // 2, _SMOOTH // 2), (0, 0)), mode="edge")
    power = np.lib.stride_tricks.sliding_window_view(around, _SMOOTH, axis=0).mean(axis=-1)
    noise = _MEAN * np.percentile(power, _QUIET, axis=0)
    gains = np.maximum(1 - noise / np.maximum(power, 1e-12), _FLOOR)
    frames = np.fft.irfft(spectra * gains, n=_FRAME, axis=1) * _HANN
    added = np.zeros(len(padded))
    for first in range(_FRAME // _HOP):  # frames this far apart do not overlap
        stretch = frames[first :: _FRAME // _HOP].ravel()
        added[first * _HOP : first * _HOP + len(stretch)] += stretch
    weight = np.sum(_HANN**2) / _HOP
    return np.asarray(added[_FRAME : _FRAME + len(samples)] / weight, np.float32)

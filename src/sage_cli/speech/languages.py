"""Detect the language, and where it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage_cli.speech.whisper import RATE, Samples, Whisper
from sage_cli.speech.windows import Window

SURE = 0.5  # probability from which a detected language counts
_DOUBT = 0.3  # probability below which a language may have ended
_PROBE = 8.0  # seconds that are enough to tell
_PIECE = 6.0  # seconds that are heard at once in the middle of a window
_SHORTEST = 1.5  # seconds of speech below which nothing can be told


class LanguageFinder:
    """Follows the language from window to window.

    Args:
        whisper: a multilingual model.
    """

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    def of_window(self, window: Window, before: str | None) -> tuple[str, float | None]:
        """The language at the start of a window, and where it changes.

        A change is looked for at pauses. The end of the window is examined first, then what is between, in pieces of some seconds: each
        costs a run of the encoder. If a piece is hardly in the language of the start, bisection finds the pause before it. The rest of the
        window may be too short to tell its language: the next window begins there, and holds more of it.

        Args:
            before: the language of the window before; it holds where the model is not sure.

        Returns:
            Whisper's code, and the seconds of the window at which another language begins; ``None`` if none does.
        """
        samples = window.samples
        pauses = [pause for pause in window.pauses() if _SHORTEST <= pause <= window.seconds - _SHORTEST]
        edges = [0.0, *pauses, window.seconds]
        # The start may be short, so more than the first stretch is heard unless the window is all there is.
        heard = min(window.seconds, max(_PROBE, edges[1]))
        first, found = self._best(samples, 0.0, heard)
        language = first if found[first] >= SURE or before is None else before
        for low, high in _pieces(edges, heard):
            other, found = self._best(samples, edges[low], edges[high])
            if other != language and (found[other] >= SURE or found[language] < _DOUBT):
                return language, self._border(samples, edges[: high + 1], language)
        return language, None

    def _border(self, samples: Samples, edges: Sequence[float], language: str) -> float:
        """The edge at which another language begins, which the last stretch is in."""
        low, high = 0, len(edges) - 2
        while high - low > 1:
            middle = (low + high) // 2
            other, _ = self._best(samples, edges[middle], edges[middle + 1])
            low, high = (middle, high) if other == language else (low, middle)
        return edges[high]

    def _best(self, samples: Samples, start: float, end: float) -> tuple[str, dict[str, float]]:
        """The most likely language between two times, in seconds, and how likely each is."""
        found = self._whisper.language_probabilities(samples[round(start * RATE) : round(end * RATE)])
        return max(found, key=found.__getitem__), found


def _pieces(edges: Sequence[float], heard: float) -> Iterator[tuple[int, int]]:
    """The pieces of a window to examine, as numbers of edges: the last stretch, then those after the first ``heard`` seconds."""
    last = len(edges) - 2
    if last == 0:
        return
    yield last, last + 1
    low = next((number for number, edge in enumerate(edges[:last]) if edge >= heard - _SHORTEST), last)
    for high in range(low + 1, last + 1):
        if edges[high] - edges[low] >= _PIECE or high == last:
            yield low, high
            low = high

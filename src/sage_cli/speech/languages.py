"""Which language is spoken, and where it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage_cli.speech.whisper import RATE, Samples, Whisper
from sage_cli.speech.windows import Window

SURE = 0.5  # probability from which a detected language counts
_PROBE = 8.0  # seconds that are enough to tell
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

        A change is looked for at pauses. The end of the window is heard first, and what lies between only in pieces of some seconds: each
        look costs a run of the encoder. Where one of them is in another language, bisection finds the pause before it.

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
        first, sure = self._best(samples, 0.0, heard)
        language = first if sure or before is None else before
        for low, high in _pieces(edges, heard):
            other, sure = self._best(samples, edges[low], edges[high])
            if sure and other != language:
                return language, self._border(samples, edges[: high + 1], language, other)
        return language, None

    def _border(self, samples: Samples, edges: Sequence[float], language: str, other: str) -> float:
        """The edge at which another language begins, which the last stretch is in."""
        low, high = 0, len(edges) - 2
        while high - low > 1:
            middle = (low + high) // 2
            found = self._probabilities(samples, edges[middle], edges[middle + 1])
            low, high = (low, middle) if found[other] > found[language] else (middle, high)
        return edges[high]

    def _best(self, samples: Samples, start: float, end: float) -> tuple[str, bool]:
        """The most likely language between two times, in seconds, and whether the model is sure of it."""
        found = self._probabilities(samples, start, end)
        best = max(found, key=found.__getitem__)
        return best, found[best] >= SURE

    def _probabilities(self, samples: Samples, start: float, end: float) -> dict[str, float]:
        return self._whisper.language_probabilities(samples[round(start * RATE) : round(end * RATE)])


def _pieces(edges: Sequence[float], heard: float) -> Iterator[tuple[int, int]]:
    """What is to be heard of a window, as numbers of edges: its last stretch, then from the first edge after ``heard`` seconds on, pieces
    of some seconds."""
    last = len(edges) - 2
    if last == 0:
        return
    yield last, last + 1
    low = next((number for number, edge in enumerate(edges[:last]) if edge >= heard - _SHORTEST), last)
    for high in range(low + 1, last + 1):
        if edges[high] - edges[low] >= _PROBE / 2 or high == last:
            yield low, high
            low = high

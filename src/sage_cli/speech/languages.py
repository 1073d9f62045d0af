"""Which language is spoken, and where it changes."""

from __future__ import annotations

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

        A change is looked for at the pauses, between the start and the end of the window, by bisection.

        Args:
            before: the language of the window before; it holds where the model is not sure.

        Returns:
            Whisper's code, and the seconds of the window at which another language begins; ``None`` if none does.
        """
        samples = window.samples
        pauses = [pause for pause in window.pauses() if _SHORTEST <= pause <= window.seconds - _SHORTEST]
        edges = [0.0, *pauses, window.seconds]
        # The start may be short, so more than the first stretch is heard unless the window is all there is.
        first, sure = self._best(samples, 0.0, min(window.seconds, max(_PROBE, edges[1])))
        language = first if sure or before is None else before
        low, high = 0, len(edges) - 2  # the last stretch
        if high == 0:
            return language, None
        other, sure = self._best(samples, edges[high], edges[-1])
        if not sure or other == language:
            return language, None
        while high - low > 1:
            middle = (low + high) // 2
            found = self._probabilities(samples, edges[middle], edges[middle + 1])
            if found[other] > found[language]:
                high = middle
            else:
                low = middle
        return language, edges[high]

    def _best(self, samples: Samples, start: float, end: float) -> tuple[str, bool]:
        """The most likely language between two times, in seconds, and whether the model is sure of it."""
        found = self._probabilities(samples, start, end)
        best = max(found, key=found.__getitem__)
        return best, found[best] >= SURE

    def _probabilities(self, samples: Samples, start: float, end: float) -> dict[str, float]:
        return self._whisper.language_probabilities(samples[round(start * RATE) : round(end * RATE)])

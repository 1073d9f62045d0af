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
        first = self._at(samples, 0.0, edges[1] if len(edges) == 2 else min(window.seconds, max(_PROBE, edges[1]))) or before
        if first is None:
            return self._whisper.language(samples)[0], None
        low, high = 0, len(edges) - 2  # the last stretch
        if high == 0 or self._differs(samples, edges, high, first) is None:
            return first, None
        while high - low > 1:
            middle = (low + high) // 2
            if self._differs(samples, edges, middle, first) is None:
                low = middle
            else:
                high = middle
        return first, edges[high]

    def _differs(self, samples: Samples, edges: list[float], stretch: int, language: str) -> str | None:
        """The language of a stretch between pauses if it surely is another one."""
        found = self._at(samples, edges[stretch], min(edges[-1], max(edges[stretch + 1], edges[stretch] + _SHORTEST)))
        return found if found != language else None

    def _at(self, samples: Samples, start: float, end: float) -> str | None:
        """The language between two times, in seconds; ``None`` where the model is not sure."""
        code, probability = self._whisper.language(samples[round(start * RATE) : round(end * RATE)])
        return code if probability >= SURE else None

"""Speech of videos for many agents at once: one speech model per process, and transcripts kept beside the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from sage_cli.speech import Progress, Transcriber, Transcript, TranscriptCache
from sage_cli.video import Video


class Hearing:
    """What hears videos; see :data:`training.qwen.record.Hear`.

    Args:
        model: a whisper model in whisper.cpp's format.
        folder: of transcripts, which later stages and other processes use again.
    """

    def __init__(self, model: Path, folder: Path) -> None:
        self._transcriber, self._cache, self._lock = Transcriber(model), TranscriptCache(folder), Lock()

    def __call__(self, video: Video) -> Heard:
        return Heard(Transcript(self._transcriber, video, video.id, self._cache), self._lock)


class Heard:
    """The speech of one video. Agents take turns: the model decodes one window at a time."""

    def __init__(self, transcript: Transcript, lock: Lock) -> None:
        self._transcript, self._lock = transcript, lock

    @property
    def source(self) -> str:
        return self._transcript.source

    def is_cached(self, start: float, end: float) -> bool:
        return self._transcript.is_cached(start, end)

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        with self._lock:
            found = list(self._transcript.parts(start, end))
        return iter(found)

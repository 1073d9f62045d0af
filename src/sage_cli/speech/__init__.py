"""Speech to text on this machine: whisper.cpp in windows of constant memory, cut at silence."""

from sage_cli.speech.cache import Remembering, TranscriptCache
from sage_cli.speech.segment import Segment, Word
from sage_cli.speech.transcriber import Checkpoint, Part, Transcriber

__all__ = ["Checkpoint", "Part", "Remembering", "Segment", "Transcriber", "TranscriptCache", "Word"]

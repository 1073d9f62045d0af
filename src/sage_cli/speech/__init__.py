"""Speech to text on this machine: whisper.cpp in windows of constant memory, cut at silence."""

from sage_cli.speech.cache import TranscriptCache
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.segment import Progress, Segment, Word
from sage_cli.speech.transcriber import Checkpoint, Part, Transcriber
from sage_cli.speech.transcript import Sound, Transcript

__all__ = [
    "Checkpoint",
    "Part",
    "Progress",
    "Segment",
    "Sound",
    "SpeechOptions",
    "Transcriber",
    "Transcript",
    "TranscriptCache",
    "Word",
]

"""Transcripts as text, one module a format."""

from sage_cli.speech.formats.base import About, Format
from sage_cli.speech.formats.csv import Csv
from sage_cli.speech.formats.json import Json
from sage_cli.speech.formats.jsonl import Jsonl
from sage_cli.speech.formats.lrc import Lrc
from sage_cli.speech.formats.md import Md
from sage_cli.speech.formats.srt import Srt
from sage_cli.speech.formats.tsv import Tsv
from sage_cli.speech.formats.txt import Txt
from sage_cli.speech.formats.vtt import Vtt
from sage_cli.text import lines

FORMATS: dict[str, type[Format]] = {kind.suffix: kind for kind in (Txt, Srt, Vtt, Json, Jsonl, Csv, Tsv, Lrc, Md)}

__all__ = ["FORMATS", "About", "Format", "has_text"]


def has_text(transcript: str, format: str) -> bool:
    """Whether a transcript in a format holds any segment: one without has the fewest lines."""
    empty, about = FORMATS[format](), About("", "", 0.0, "")
    return len(lines(transcript)) > len(lines(empty.head(about) + empty.foot(about)))

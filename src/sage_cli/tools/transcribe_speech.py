"""transcribe-speech: the speech in a time span, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from sage_cli.timecode import format_clock
from sage_cli.tools.base import Arguments, EvidenceSpan, Outcome, Tool, ToolNotice, ToolProgress, ToolRun
from sage_cli.tools.schema import Schema, clock, constant, record
from sage_cli.tools.workspace import Workspace
from sage_cli.video import SilentError

if TYPE_CHECKING:
    from sage_cli.speech.segment import Segment

_NO_SOUND: Final = "The video has no sound, so there is no speech to transcribe."
_NO_SPEECH: Final = "Nobody speaks in this part of the video, so there is nothing to transcribe."


class TranscribeSpeechArguments(Arguments):
    video_path: str
    timestamp_start: str
    timestamp_end: str


class TranscribeSpeech(Tool[TranscribeSpeechArguments]):
    name = "transcribe-speech"
    arguments = TranscribeSpeechArguments

    def schema(self, workspace: Workspace) -> Schema:
        start = end = clock(workspace.start, workspace.end)
        if workspace.transcript_first:
            start, end = constant(format_clock(workspace.start)), constant(format_clock(math.ceil(workspace.end)))
        return record(video_path=constant(workspace.video_path), timestamp_start=start, timestamp_end=end)

    def span(self, arguments: TranscribeSpeechArguments, workspace: Workspace) -> tuple[float, float]:
        return workspace.window(arguments)[:2]

    def run(self, arguments: TranscribeSpeechArguments, workspace: Workspace) -> ToolRun:
        start, end, notes = workspace.window(arguments)
        for note in notes:
            yield ToolNotice(note)
        subtitles = workspace.subtitles
        if not workspace.video.has_audio and not subtitles:
            workspace.video.check_audio()
            return Outcome({"transcript": _NO_SOUND}, "no audio track", text=workspace.prompts.render("no_sound"))
        transcriber = subtitles or workspace.transcriber
        segments: list[Segment] = []
        yield ToolProgress("speech", 0, round(end - start))
        for part in transcriber.parts(start, end):
            segments += part.segments
            yield ToolProgress("speech", round(part.seconds - start), round(end - start))
        transcript = dict(enumerate(_entries(segments, workspace.prompts.style.transcript_entry_s)))
        evidence = (EvidenceSpan(start, end, "subtitles read" if subtitles else "speech transcribed"),)
        if not transcript:
            if not workspace.video.has_video and end - start > workspace.end - workspace.start - 1:  # models give times in whole seconds
                raise SilentError(workspace.video)
            return Outcome({"transcript": _NO_SPEECH}, "no speech", evidence, workspace.prompts.render("no_speech"))
        # The transcript is a string: the models were trained on the dictionary's Python notation.
        result = workspace.noted({"transcript": str(transcript)}, notes)
        words = sum(len(segment.text.split()) for segment in segments)
        return Outcome(result, f"{words} words in {len(segments)} segment{'s'[: len(segments) != 1]} from {transcriber.source}", evidence)


def _entries(segments: Sequence[Segment], longest: float) -> Iterator[dict[str, str]]:
    """Segments as entries of at most ``longest`` seconds, with a leading blank as in the models' training data; with 0, every segment
    unchanged."""
    from sage_cli.speech.merge import entries

    blank = " " if longest else ""
    for entry in entries(segments, longest):
        yield {"text": f"{blank}{entry.text}", "start": _short(entry.start), "end": _short(entry.end)}


def _short(seconds: float) -> str:
    """``MM:SS``, or ``HH:MM:SS`` from an hour on."""
    text = format_clock(seconds)
    return text.removeprefix("00:") if seconds < 3600 else text

"""transcribe-speech: what is said in a stretch of the video, sentence by sentence."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from sage_cli.timecode import format_clock
from sage_cli.tools.base import Arguments, Looked, Outcome, Tool, ToolNotice, ToolProgress, ToolRun
from sage_cli.tools.schema import Schema, clock, constant, record
from sage_cli.tools.workspace import Workspace

LONGEST_S: Final = 600.0


class TranscribeSpeechArguments(Arguments):
    video_path: str = Field(description="Path of the video.")
    timestamp_start: str = Field(description="Where to begin (HH:MM:SS).")
    timestamp_end: str = Field(description="Where to end (HH:MM:SS).")


class TranscribeSpeech(Tool[TranscribeSpeechArguments]):
    name = "transcribe-speech"
    description = (
        "Speech recognition: the words spoken in a stretch of the video, in segments with their times. "
        "The end must be less than 10 minutes after the start."
    )
    arguments = TranscribeSpeechArguments

    def schema(self, workspace: Workspace) -> Schema:
        when = clock(workspace.start, workspace.end)
        return record(video_path=constant(workspace.video_path), timestamp_start=when, timestamp_end=when)

    def span(self, arguments: TranscribeSpeechArguments, workspace: Workspace) -> tuple[float, float]:
        return workspace.window(arguments, LONGEST_S)[:2]

    def run(self, arguments: TranscribeSpeechArguments, workspace: Workspace) -> ToolRun:
        start, end, notes = workspace.window(arguments, LONGEST_S)
        for note in notes:
            yield ToolNotice(note)
        if not workspace.video.has_audio:
            return Outcome({"transcript": "The video has no sound, so there is no speech to transcribe."}, "no audio track")
        transcriber = workspace.transcriber
        transcript: dict[int, dict[str, str]] = {}
        yield ToolProgress("speech", 0, round(end - start))
        for number, segment in enumerate(transcriber.segments(start, end)):
            transcript[number] = {"text": segment.text.strip(), "start": _short(segment.start), "end": _short(segment.end)}
            yield ToolProgress("speech", round(min(segment.end, end) - start), round(end - start))
        looked = (Looked(start, end, "speech transcribed"),)
        if not transcript:
            return Outcome(
                {"transcript": "Nobody speaks in this part of the video, so there is nothing to transcribe."}, "no speech", looked
            )
        # The transcript is a string: the models were trained on the dictionary's Python notation.
        result = {"transcript": str(transcript)} | ({"note": "; ".join(notes)} if notes else {})
        words = sum(len(segment["text"].split()) for segment in transcript.values())
        return Outcome(result, f"{words} words in {len(transcript)} segments", looked)


def _short(seconds: float) -> str:
    """``MM:SS``, or ``HH:MM:SS`` from an hour on."""
    text = format_clock(seconds)
    return text.removeprefix("00:") if seconds < 3600 else text

"""transcribe-speech: the speech in a time span, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sage_cli.model.base import Text
from sage_cli.timecode import format_clock
from sage_cli.tools.base import EvidenceSpan, Outcome, ToolNotice, ToolProgress, ToolRun, What, WindowArguments, WindowTool
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import Schema, clock, constant, record, text
from sage_cli.tools.workspace import Workspace, most, thin
from sage_cli.video import SilentError

if TYPE_CHECKING:
    from sage_cli.speech.merge import Entry
    from sage_cli.speech.segment import Segment

_NO_SOUND: Final = "The video has no sound, so there is no speech to transcribe."
_NO_SPEECH: Final = "Nobody speaks in this part of the video, so there is nothing to transcribe."

# A transcript of more than half of the context is given in passages, which take a quarter: of a long recording they hold what a question
# needs, and the rest only costs time and attention.
_WHOLE: Final = 2
_PART: Final = 4
_KNOWN: Final = 0.5  # the share of a question's words; of `benchmarks.speech_questions`' 0.56 to 1 are in its talks, translated 0 to 0.38
_SAMPLE: Final = 500  # characters that tell a language
_PASSAGES: Final = (
    "The transcript is too long to be read at once: these are passages of it, {}. All that is said in a shorter stretch can be read by "
    "calling again for it."
)


class TranscribeSpeech(WindowTool[WindowArguments]):
    name = "transcribe-speech"
    title = "Listened"
    arguments = WindowArguments

    def schema(self, workspace: Workspace) -> Schema:
        start = end = clock(workspace.start, workspace.end)
        if workspace.transcript_whole:
            start, end = constant(format_clock(workspace.start)), constant(format_clock(math.ceil(workspace.end)))
        return record(video_path=constant(workspace.video_path), timestamp_start=start, timestamp_end=end)

    def run(self, arguments: WindowArguments, workspace: Workspace) -> ToolRun:
        start, end, notes = workspace.window(arguments)
        yield from map(ToolNotice, notes)
        subtitles = workspace.subtitles
        if not workspace.video.has_audio and not subtitles:
            workspace.video.check_audio()
            return Outcome({"transcript": _NO_SOUND}, "no audio track", text=workspace.prompts.render("no_sound"))
        if subtitles and subtitles.choice:
            yield ToolNotice(subtitles.choice.text, subtitles.choice.advice, media=True)
        transcriber = subtitles or workspace.transcriber
        segments: list[Segment] = []
        yield ToolProgress("speech", 0, round(end - start))
        for part in transcriber.parts(start, end):
            segments += part.segments
            yield ToolProgress("speech", round(part.seconds - start), round(end - start))
        what: What = "subtitles read" if subtitles else "speech transcribed"
        said, sentences = _entries(segments, workspace.prompts.style.transcript_entry_s), _entries(segments, 0.0)
        evidence: tuple[EvidenceSpan, ...] = (EvidenceSpan(start, end, what, tuple(sentences)),)
        if not said:
            if not workspace.video.has_video and end - start > workspace.end - workspace.start - 1:  # models give times in whole seconds
                raise SilentError(workspace.video)
            return Outcome({"transcript": _NO_SPEECH}, "no speech", evidence, workspace.prompts.render("no_speech"))
        words = sum(len(segment.text.split()) for segment in segments)
        summary = f"{words} words in {len(segments)} segment{'s'[: len(segments) != 1]} from {transcriber.source}"
        shown = dict(enumerate(said))
        if not workspace.holds(_notation(shown, workspace), _WHOLE):
            workspace.searched, translated = yield from _question(said, segments, workspace)
            shown, which = _passages(said, workspace.searched, workspace)
            which += translated
            evidence = tuple(_examined(entry, what, sentences) for entry in shown.values())
            if len(shown) < len(said):
                share = f"{len(shown)} of {len(said)} passages"
                yield ToolNotice(f"the transcript is too long to be read at once: the model reads {share}, {which}")
                notes = [*notes, _PASSAGES.format(which)]
        # A string: the models were trained on the dictionary's Python notation.
        return Outcome(workspace.noted({"transcript": _notation(shown, workspace)}, notes), summary, evidence)


def _entries(segments: Sequence[Segment], longest: float) -> list[Entry]:
    from sage_cli.speech.merge import entries

    return list(entries(segments, longest))


def _examined(entry: Entry, what: What, sentences: Sequence[Entry]) -> EvidenceSpan:
    return EvidenceSpan(entry.start, entry.end, what, tuple(one for one in sentences if entry.start <= one.start < entry.end))


def _notation(entries: Mapping[int, Entry], workspace: Workspace) -> str:
    """Entries by number in Python's notation; merged ones with a leading blank, as in the models' training data."""
    blank = " " if workspace.prompts.style.transcript_entry_s else ""
    values = [{"text": f"{blank}{entry.text}", "start": _short(entry.start), "end": _short(entry.end)} for entry in entries.values()]
    return str(dict(zip(entries, values, strict=True)))


def _question(
    entries: Sequence[Entry], segments: Sequence[Segment], workspace: Workspace
) -> Generator[ToolProgress | ToolNotice, None, tuple[str, str]]:
    """What to look for, and how it was found: where most words of the question are nowhere in the transcript, it is most likely in another
    language, and the model translates it. Its own words stay: names are the same."""
    from sage_cli.speech.codes import english_name
    from sage_cli.speech.passages import known
    from sage_cli.speech.segment import Spoken

    asked = workspace.asked
    if not workspace.prompts.style.translates or known([entry.text for entry in entries], asked) >= _KNOWN:
        return asked, ""
    spoken = Spoken()
    for segment in segments:
        spoken.add(segment)
    if not (language := english_name(spoken.language or "")):
        told = " ".join(entry.text for entry in entries)[:_SAMPLE]
        language = yield from _reply("language", 40, workspace, told=told)
    translation = yield from _reply("translation", len(asked) + 200, workspace, language=language, query=asked)
    if known([asked], translation) == 1:  # it was in that language
        return asked, ""
    return f"{asked}\n{translation}", f' (in {language}: "{translation}")'


def _reply(name: str, limit: int, workspace: Workspace, **values: str) -> Generator[ToolProgress | ToolNotice, None, str]:
    """The model's reply of so many characters at most to the prompt of that name; what it is unable to put into JSON counts, too."""
    prompt = workspace.question(Text(workspace.prompts.render(name, **values)))
    reply = yield from workspace.ask(prompt, max_tokens=limit, schema=record(**{name: text(limit)}))
    try:
        said = str(json_object(reply.text, (name,))[name])
    except (ValueError, KeyError):
        said = reply.text[:limit]
    return " ".join(said.replace('"', "'").split())


def _passages(entries: Sequence[Entry], question: str, workspace: Workspace) -> tuple[dict[int, Entry], str]:
    """As many entries as fit, and which they are: those that have most to do with the question, each with the one before and the one after
    it, or, where none has, some of all parts."""
    from sage_cli.speech.passages import ranked

    order = ranked([entry.text for entry in entries], question)

    def chosen(count: int) -> dict[int, Entry]:
        found = [number for best in order[:count] for number in (best - 1, best, best + 1)]
        near = set(found if order else thin(range(len(entries)), count))
        return {number: entry for number, entry in enumerate(entries) if number in near}

    count = most(len(order or entries), lambda count: workspace.holds(_notation(chosen(count), workspace), _PART))
    return chosen(max(1, count)), "those nearest to the question" if order else "spread evenly, because none has a word of the question"


def _short(seconds: float) -> str:
    """``MM:SS``, or ``HH:MM:SS`` from an hour on."""
    text = format_clock(seconds)
    return text.removeprefix("00:") if seconds < 3600 else text

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from sage_cli.agent.events import Span
from sage_cli.agent.evidence import rested_on
from sage_cli.prompts import PACKS, Prompts
from sage_cli.speech.merge import Entry
from sage_cli.speech.segment import Progress, Segment
from sage_cli.tools import ToolError, TranscribeSpeech, Workspace, complete
from sage_cli.tools.base import EvidenceSpan, Outcome, ToolNotice, Watched, WindowArguments
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, accepts


class Listener:
    """Hears the given words, and keeps what it was given to hear."""

    source = "a script"

    def __init__(self, *segments: tuple[float, float, str], language: str = "en") -> None:
        self.said = [Segment(start, end, text, 1.0, language=language) for start, end, text in segments]
        self.heard: list[tuple[float, float]] = []

    def is_cached(self, start: float, end: float) -> bool:
        return False

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        self.heard.append((start, end))
        yield from (Progress((one,), min(one.end, end)) for one in self.said)


def arguments(start: str = "00:05", end: str = "00:15", path: str = "holiday.mp4") -> WindowArguments:
    return WindowArguments(video_path=path, timestamp_start=start, timestamp_end=end)


def test_gives_the_segments_as_a_string_of_a_dictionary(video: Video) -> None:
    listener = Listener((5.2, 7.9, "It's here."), (3661.0, 3662.5, 'He said "go".'))
    with Workspace(ScriptedModel(), video, transcriber=lambda: listener) as workspace:
        outcome = complete(TranscribeSpeech().run(arguments(), workspace))
    assert list(outcome.result) == ["transcript"]
    assert ast.literal_eval(outcome.result["transcript"]) == {
        0: {"text": " It's here.", "start": "00:05", "end": "00:07"},
        1: {"text": ' He said "go".', "start": "01:01:01", "end": "01:01:02"},
    }
    said = (Entry(5.2, 7.9, "It's here."), Entry(3661.0, 3662.5, 'He said "go".'))
    assert outcome.evidence == (EvidenceSpan(5.0, 15.0, "speech transcribed", said),)
    assert outcome.summary == "5 words in 2 segments from a script"
    assert listener.heard == [(5.0, 15.0)]


@pytest.mark.parametrize(
    ("pack", "text"),
    [
        ("sage-mm", "Hmm, we might have been given a video with no verbal speech, so there is nothing to transcribe."),  # as in training
        ("general", "{'transcript': 'Nobody speaks in this part of the video, so there is nothing to transcribe.'}"),
        ("nano", "{'transcript': 'Nobody speaks in this part of the video, so there is nothing to transcribe.'}"),  # as in training
    ],
)
def test_silence_is_a_result(video: Video, pack: str, text: str) -> None:
    with Workspace(ScriptedModel(), video, prompts=Prompts(pack), transcriber=Listener) as workspace:
        outcome = complete(TranscribeSpeech().run(arguments(), workspace))
    assert "Nobody speaks" in outcome.result["transcript"]
    assert str(outcome) == text


def test_a_video_without_sound_is_a_result_and_needs_no_speech_model(silent: Video) -> None:
    with Workspace(ScriptedModel(), silent) as workspace:
        outcome = complete(TranscribeSpeech().run(arguments("00:01", "00:05", "silent.mp4"), workspace))
    assert "no sound" in outcome.result["transcript"]
    assert str(outcome) == (
        "{'transcript': 'Hmm, we might have been given a video with the verbal speech removed, so we cannot transcribe it.'}"
    )
    assert outcome.evidence == ()


def test_without_a_speech_model_the_call_fails(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace, pytest.raises(ToolError, match="not available"):
        complete(TranscribeSpeech().run(arguments(), workspace))


def test_the_speech_model_is_loaded_once(video: Video) -> None:
    loaded: list[Listener] = []

    def load() -> Listener:
        loaded.append(Listener())
        return loaded[-1]

    with Workspace(ScriptedModel(), video, transcriber=load) as workspace:
        complete(TranscribeSpeech().run(arguments(), workspace))
        complete(TranscribeSpeech().run(arguments("00:20", "00:25"), workspace))
    assert len(loaded) == 1


@pytest.mark.parametrize("pack", PACKS)
def test_a_repaired_time_is_said_to_the_user_and_to_models_that_were_not_trained(video: Video, pack: str) -> None:
    with Workspace(ScriptedModel(), video, prompts=Prompts(pack), transcriber=lambda: Listener((1.0, 2.0, "Hi."))) as workspace:
        run = TranscribeSpeech().run(arguments("00:15", "00:05"), workspace)
        first = next(run)
        outcome = complete(run)
    assert isinstance(first, ToolNotice)
    assert outcome.result.get("note") == (first.text if pack == "general" else None)


def test_the_schema_keeps_to_this_video_and_its_length(video: Video) -> None:
    with Workspace(ScriptedModel(), video, span=(10.0, 20.0)) as workspace:
        schema = TranscribeSpeech().schema(workspace)
    text = '{{"video_path": "{}", "timestamp_start": "{}", "timestamp_end": "{}"}}'
    assert accepts(schema, text.format("holiday.mp4", "00:10", "00:00:20"))
    assert not accepts(schema, text.format("other.mp4", "00:10", "00:00:20"))
    assert not accepts(schema, text.format("holiday.mp4", "00:09", "00:00:20"))
    assert not accepts(schema, text.format("holiday.mp4", "00:10", "00:21"))


# An hour, in which someone speaks every other half minute; a token is a character.
_LONG = [(60.0 * minute, 60.0 * minute + 30, f"Number {minute} is said here, and much else besides.") for minute in range(60)]
_LONG[40] = (2400.0, 2430.0, "The tomatoes are planted along the south wall.")


def passages(
    pack: str, question: str, *replies: str, context: int = 8000, language: str = "en", strict: bool = True
) -> tuple[dict[int, dict[str, str]], Outcome, list[str]]:
    video = SimpleNamespace(label="talk.mp4", copied=False, has_audio=True, has_video=True, duration=3600.0, width=64, height=48, fps=30.0)
    listener = Listener(*_LONG, language=language)
    with Workspace(
        ScriptedModel(*replies, context_size=context, strict=strict),
        cast("Video", video),
        prompts=Prompts(pack),
        transcriber=lambda: listener,
        asked=question,
    ) as workspace:
        items = Watched(TranscribeSpeech().run(arguments("00:00:00", "01:00:00", "talk.mp4"), workspace))
        notices = [item.text for item in items if isinstance(item, ToolNotice)]
    return ast.literal_eval(items.result.result["transcript"]), items.result, notices


@pytest.mark.parametrize("pack", PACKS)
def test_of_a_transcript_that_is_too_long_the_model_reads_what_the_question_is_about(pack: str) -> None:
    """Regression: it read the beginning alone, whatever the question was."""
    read, outcome, notices = passages(pack, "Where are the tomatoes?")
    assert list(read) == [39, 40, 41]
    assert "south wall" in read[40]["text"]
    assert read[40]["start"] == "40:00"
    said = [Entry(*_LONG[minute]) for minute in (39, 40, 41)]
    assert outcome.evidence == tuple(EvidenceSpan(one.start, one.end, "speech transcribed", (one,)) for one in said)
    assert outcome.summary == "539 words in 60 segments from a script"
    assert ["reads 3 of 60 passages" in notice for notice in notices] == [True]
    assert ("nearest to the question" in outcome.result.get("note", "")) == (pack == "general")  # trained models know no notes


def test_passages_take_a_quarter_of_the_context() -> None:
    read, outcome, _ = passages("general", "Number?")
    assert 1000 < len(str(read)) <= 2000
    assert len(outcome.evidence) == len(read)
    assert len(passages("general", "Number?", context=20_000)[0]) == 60


def test_without_a_word_in_common_the_passages_are_spread_evenly() -> None:
    read, outcome, notices = passages("nano", "Was ist das?")  # which cannot translate
    assert "note" not in outcome.result
    assert all("spread evenly" in text for text in notices)
    assert {0, 59} < set(read)
    assert len(read) > 10


TRANSLATION = '{"translation": "Where are the tomatoes?"}'


@pytest.mark.parametrize("pack", ["sage-mm", "general"])
@pytest.mark.parametrize(("language", "replies"), [("en", (TRANSLATION,)), ("", ('{"language": "English"}', TRANSLATION))])
def test_a_question_in_another_language_is_translated(pack: str, language: str, replies: tuple[str, ...]) -> None:
    read, _, notices = passages(pack, "Wo sind die Tomaten?", *replies, language=language)
    assert list(read) == [39, 40, 41]
    assert ['nearest to the question (in English: "Where are the tomatoes?")' in notice for notice in notices] == [True]


def test_a_question_of_few_known_words_that_needs_no_translation_is_not_told_as_one() -> None:
    _, _, notices = passages("general", "Please summarize everything.", '{"translation": "Summarize everything, please!"}')
    assert [notice.endswith("spread evenly, because none has a word of the question") for notice in notices] == [True]


def test_the_evidence_of_passages_has_their_sentences() -> None:
    """Regression: passages of half a minute, of which people saw the beginning."""
    said = [(5.0 * number, 5.0 * number + 5, f"We then went on with number {number} of the work.") for number in range(700)]
    said[604] = (3020.0, 3025.0, "The treasure is under the oak tree.")
    video = SimpleNamespace(label="talk.mp4", copied=False, has_audio=True, has_video=True, duration=3600.0, width=64, height=48, fps=30.0)
    with Workspace(
        ScriptedModel(context_size=8000),
        cast("Video", video),
        prompts=Prompts("general"),
        transcriber=lambda: Listener(*said),
        asked="The treasure?",
    ) as workspace:
        outcome = complete(TranscribeSpeech().run(arguments("00:00:00", "01:00:00", "talk.mp4"), workspace))
    (found,) = rested_on(outcome.evidence, "Where is the treasure?", "Under the oak tree.")
    assert (found.span, found.said) == (Span(3020.0, 3025.0), "The treasure is under the oak tree.")


def test_a_translation_that_helps_nothing_does_no_harm() -> None:
    read, outcome, notices = passages("general", "Was ist das?", "What?\nI cannot", strict=False)  # a server that takes no schema
    assert all('spread evenly, because none has a word of the question (in English: "What? I cannot")' in text for text in notices)
    assert outcome.result["note"]
    assert {0, 59} < set(read)

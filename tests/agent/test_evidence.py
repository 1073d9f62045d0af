from __future__ import annotations

import pytest

from sage_cli.agent.events import Evidence, Span
from sage_cli.agent.evidence import merged, rested_on
from sage_cli.speech.merge import Entry
from sage_cli.tools.base import EvidenceSpan


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9, "clip analyzed"), (1, 3, "event grounded")], [(1, 3, "event grounded"), (5, 9, "clip analyzed")]),
        ([(5, 9, "clip analyzed"), (5, 9, "clip analyzed")], [(5, 9, "clip analyzed")]),
        ([(8, 12, "clip analyzed"), (5, 9, "clip analyzed"), (12.5, 13, "clip analyzed")], [(5, 13, "clip analyzed")]),
        ([(8, 12, "clip analyzed"), (1, 3, "clip analyzed")], [(1, 3, "clip analyzed"), (8, 12, "clip analyzed")]),
        ([(1, 9, "speech transcribed"), (3, 4, "speech transcribed")], [(1, 9, "speech transcribed")]),
        ([(1, 5, "event grounded"), (3, 9, "clip analyzed")], [(1, 5, "event grounded"), (3, 9, "clip analyzed")]),
        ([(1, 5, "frames extracted"), (1.2, 4.8, "frames analyzed")], [(1.2, 4.8, "frames analyzed")]),
        ([(1, 5, "frames extracted"), (7, 8, "frames analyzed")], [(1, 5, "frames extracted"), (7, 8, "frames analyzed")]),
        ([(7, 8, "frames extracted"), (1, 5, "frames analyzed")], [(1, 5, "frames analyzed"), (7, 8, "frames extracted")]),
    ],
)
def test_each_span_appears_once_in_time_order(spans: list[tuple[float, float, str]], expected: list[tuple[float, float, str]]) -> None:
    given = merged(EvidenceSpan(*item) for item in spans)  # type: ignore[arg-type]
    assert given == tuple(Evidence(Span(start, end), what) for start, end, what in expected)  # type: ignore[arg-type]


SAID = (
    Entry(6.0, 10.0, "Welcome back to the garden club."),
    Entry(24.0, 28.0, "We plant the tomatoes along the south wall, because it keeps them warm."),
    Entry(48.0, 52.0, "My neighbour gave me twelve young pepper plants this morning."),
    Entry(75.0, 79.0, "Never water the beds at noon."),
    Entry(188.0, 192.0, "Of those pepper plants, five died in the frost last night."),
    Entry(206.0, 209.0, "Next week we talk about roses. Goodbye."),
)
WHOLE = EvidenceSpan(0.0, 212.0, "speech transcribed", SAID)
SEEN = EvidenceSpan(30.0, 40.0, "clip analyzed")


@pytest.mark.parametrize(
    ("question", "answer", "spans"),
    [
        ("Where are the tomatoes planted?", "Along the south wall.", [(24.0, 28.0)]),
        ("How many pepper plants were there, and how many died?", "Twelve, and five died.", [(48.0, 52.0), (188.0, 192.0)]),
        ("Wo wachsen die Tomaten?", "An der S\u00fcdwand.", [(0.0, 212.0)]),  # in another language
        (
            "What is it about?",
            "The garden club: tomatoes at a wall, pepper plants, frost, water for beds, roses next week.",
            [(0.0, 212.0)],
        ),
    ],
)
def test_of_a_transcript_an_answer_rests_on_the_sentences_that_say_it(question: str, answer: str, spans: list[tuple[float, float]]) -> None:
    """Regression: on all that was transcribed, which was the whole video in short ones."""
    seen, *rests = sorted(rested_on([SEEN, WHOLE], question, answer), key=lambda one: one.what)
    assert seen == Evidence(Span(30.0, 40.0), "clip analyzed")
    quotes = {(entry.start, entry.end): entry.text for entry in SAID}
    assert rests == [Evidence(Span(*span), "speech transcribed", quotes.get(span, "")) for span in spans]


def test_passages_of_a_long_transcript_are_told_apart() -> None:
    passages = [EvidenceSpan(entry.start, entry.end, "subtitles read", (entry,)) for entry in SAID]
    assert rested_on(passages, "Who gave the peppers?", "A neighbour.") == (Evidence(Span(48.0, 52.0), "subtitles read", SAID[2].text),)
    assert rested_on(passages, "?", "!") == tuple(Evidence(Span(entry.start, entry.end), "subtitles read") for entry in SAID)


def test_sentences_that_follow_each_other_are_one_span_with_both_quotes() -> None:
    said = (Entry(0.0, 4.0, "Red apples."), Entry(4.5, 8.0, "Green apples."), *SAID[4:])
    assert rested_on([EvidenceSpan(0.0, 212.0, "speech transcribed", said)], "Which apples?", "Red and green apples.") == (
        Evidence(Span(0.0, 8.0), "speech transcribed", "Red apples. Green apples."),
    )


def test_two_transcripts_quote_a_sentence_once_and_in_time_order() -> None:
    said = (Entry(0.0, 4.0, "Red apples."), Entry(4.5, 8.0, "Green apples."), *SAID[4:])
    calls = [EvidenceSpan(4.0, 212.0, "subtitles read", said[1:]), EvidenceSpan(0.0, 212.0, "subtitles read", said)]
    assert rested_on(calls, "Which apples?", "Red and green apples.") == (
        Evidence(Span(0.0, 8.0), "subtitles read", "Red apples. Green apples."),
    )

"""Segments that people can read, and entries for a model."""

from __future__ import annotations

import random
import textwrap
from itertools import pairwise

import pytest

from sage_cli.speech.cues import present, readable
from sage_cli.speech.lines import DEFAULT, Layout, columns, wrap
from sage_cli.speech.merge import entries
from sage_cli.speech.phrases import Placed, segments
from sage_cli.speech.segment import Segment, Word

TEXT = (
    "If you would like to learn more technical information about the system, dial two now. In order for this test to work, you will "
    "need to be connected to the internet, and have at least a modem. Finally, you can press the pound key to disconnect."
)


def speech(text: str = TEXT, pace: float = 0.3, start: float = 10.0) -> Segment:
    words = tuple(Word(start + n * pace, start + (n + 1) * pace - 0.02, word, 0.9) for n, word in enumerate(text.split()))
    return Segment(words[0].start, words[-1].end, text, 0.9, words, speaker_turn=True, language="de")


@pytest.mark.parametrize("layout", [DEFAULT, Layout(20, 1, 3.0), Layout(30, 3, 100.0), Layout(1000, 1, 5.0)])
def test_cues_keep_to_the_limits_and_lose_nothing(layout: Layout) -> None:
    whole = speech()
    cues = list(readable(whole, layout))
    assert " ".join(cue.text for cue in cues) == TEXT
    assert [word for cue in cues for word in cue.words] == list(whole.words)
    for cue in cues:
        lines = wrap(cue.text, layout)
        assert len(lines) <= layout.lines
        assert max(map(len, lines)) <= layout.width
        assert cue.end - cue.start <= layout.seconds + 1e-9
        assert (cue.start, cue.end, cue.language) == (cue.words[0].start, cue.words[-1].end, "de")
    assert [cue.speaker_turn for cue in cues] == [False] * (len(cues) - 1) + [True]


def test_cues_break_at_sentences_and_commas() -> None:
    cues = [cue.text for cue in readable(speech())]
    assert all(text[-1] in ".," for text in cues)
    either = "One two three four five six seven, eight nine ten eleven. Twelve thirteen fourteen fifteen sixteen seventeen."
    assert next(readable(speech(either, pace=0.5))).text.endswith("eleven.")


def test_no_cue_flashes_by_where_another_place_would_do() -> None:
    text = "Yes. One two three four five six seven eight nine ten, eleven twelve thirteen fourteen fifteen sixteen seventeen."
    assert [cue.text[-4:] for cue in readable(speech(text))] == ["ten,", "een."]


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ([("hm", 0.0, 0.9), ("a" * 100, 1.0, 1.9), ("hm", 2.0, 2.9)], [0.9, 1.9, 2.9]),
        ([("hm", 0.0, 0.9), ("hmmm", 1.0, 29.0), ("hm", 29.1, 30.0)], [0.9, 8.0, 30.0]),
        ([("hmmm", 1.0, 29.0)], [8.0]),
    ],
    ids=["long", "slow", "alone"],
)
def test_a_word_beyond_the_limits_is_a_cue_of_its_own(words: list[tuple[str, float, float]], ends: list[float]) -> None:
    """For as long as one may last."""
    texts = [text for text, _, _ in words]
    said = tuple(Word(start, end, text, 0.9) for text, start, end in words)
    cues = list(readable(Segment(said[0].start, said[-1].end, " ".join(texts), 0.9, said)))
    assert ([cue.text for cue in cues], [cue.end for cue in cues]) == (texts, ends)


def test_a_pause_is_a_good_place_to_break() -> None:
    words = [Word(n * 0.5 + (2.0 if n >= 9 else 0.0), n * 0.5 + 0.45 + (2.0 if n >= 9 else 0.0), f"word{n}", 0.9) for n in range(18)]
    whole = Segment(0.0, words[-1].end, " ".join(word.text for word in words), 0.9, tuple(words))
    cues = list(readable(whole))
    assert [cue.words[0].text for cue in cues] == ["word0", "word9"]
    assert not any(cue.speaker_turn for cue in cues)


def test_what_fits_stays_as_it_is() -> None:
    short = speech("Press one, or hold.")
    assert list(readable(short)) == [short]
    assert list(readable(Segment(1.0, 2.0, "no words", 0.5))) == [Segment(1.0, 2.0, "no words", 0.5)]


def test_scripts_without_spaces_are_divided_too() -> None:
    words = tuple(Word(n * 0.2, n * 0.2 + 0.2, "水曜日"[n % 3], 0.9) for n in range(120))
    cues = list(readable(Segment(0.0, 24.0, "".join(word.text for word in words), 0.9, words, language="ja")))
    assert "".join(cue.text for cue in cues) == "".join(word.text for word in words)
    assert all(cue.end - cue.start <= 7.0 + 1e-9 for cue in cues)


JAPANESE = "すべての人間は自由である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。"
CHINESE = "人人生而自由\uff0c在尊严和权利上一律平等。他们赋有理性和良心\uff0c并应以兄弟关系的精神相对待。"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며"


@pytest.mark.parametrize("text", [JAPANESE, CHINESE, KOREAN])
@pytest.mark.parametrize("spoken", [False, True])
def test_wide_characters_count_twice(text: str, spoken: bool) -> None:
    letters = [(number, letter) for number, letter in enumerate(text) if letter != " "]
    words = tuple(Word(number * 0.1, number * 0.1 + 0.1, letter, 0.9) for number, letter in letters) if spoken else ()
    cues = list(readable(Segment(0.0, len(text) * 0.1, text, 0.9, words)))
    assert "".join(cue.text for cue in cues).replace(" ", "") == text.replace(" ", "")
    for cue in cues:
        lines = wrap(cue.text)
        assert len(lines) <= 2
        assert all(columns(line) <= 42 and line[0] not in "、。\uff0c" for line in lines)
    assert all(cue.text[-1] in "、。\uff0c." or cue is cues[-1] for cue in cues)


def test_turns_that_need_more_lines_in_any_case_stay_apart() -> None:
    assert wrap("- One two\n- Six", Layout(20, 1)) == ["- One two - Six"]
    assert wrap("- One two\n- Six seven", Layout(11, 1)) == ["- One two", "- Six seven"]


def test_lines_without_spaces_end_after_a_clause_or_a_phrase() -> None:
    assert wrap("人間は理性と良心を授けられており、互いに行動") == ["人間は理性と良心を授けられており、", "互いに行動"]
    assert wrap("互いに同胞の精神をもって行動しなければならない。") == ["互いに同胞の精神をもって", "行動しなければならない。"]
    assert wrap("모든 인간은 태어날 때부터 자유로우며 그 존엄과") == ["모든 인간은 태어날 때부터", "자유로우며 그 존엄과"]
    assert wrap("水水水。", Layout(6)) == ["水水", "水。"]
    assert wrap("水水「火」", Layout(6)) == ["水水", "「火」"]
    assert columns("e\u0301é\u200bｱ水") == 5
    assert wrap("水曜日", Layout(1, 2)) == ["水", "曜", "日"]


def test_a_cue_of_subtitles_keeps_its_time_and_is_divided_by_its_text() -> None:
    slow = Segment(1.0, 12.0, "A long look at the sea.", 1.0)
    assert list(readable(slow)) == [slow]
    for text in (TEXT, "水曜日" * 60):
        cues = list(readable(Segment(1.0, 31.0, text, 1.0)))
        assert (cues[0].start, round(cues[-1].end, 6)) == (1.0, 31.0)
        assert all(round(a.end, 6) == round(b.start, 6) for a, b in pairwise(cues))
        assert all(len(wrap(cue.text)) <= 2 and not cue.words for cue in cues)
        assert "".join(cue.text for cue in cues).replace(" ", "") == text.replace(" ", "")


def test_present_gives_the_part_and_the_words_on_demand() -> None:
    whole = [speech()]
    cues = list(present(whole, 0.0, 100.0))
    assert cues == list(readable(whole[0]))
    assert list(present(whole, 14.0, 16.0)) == [cue for cue in cues if cue.start < 16 and cue.end > 14]
    assert all(not cue.words for cue in present(whole, 0.0, 100.0, words=False))


def test_lines_of_a_cue_are_balanced() -> None:
    lines = wrap("Finally, you can press the pound key to disconnect")
    assert len(lines) == 2
    assert abs(len(lines[0]) - len(lines[1])) <= 10
    assert wrap("") == [""]
    assert wrap("a" * 100) == ["a" * 42, "a" * 42, "a" * 16]
    rng = random.Random(0)
    for _ in range(200):
        text = " ".join("x" * rng.randint(1, 12) for _ in range(rng.randint(1, 20)))
        lines = wrap(text, Layout(width=20))
        longest = max(map(len, lines))
        assert " ".join(lines) == text
        assert longest <= 20
        assert len(lines) == len(textwrap.wrap(text, 20))
        assert (
            len(lines) == 1
            or len(textwrap.wrap(text, longest - 1, break_long_words=False)) > len(lines)
            or longest in map(len, text.split())
        )


def placed(text: str, gaps: dict[int, float] | None = None, stamps: tuple[int, ...] = ()) -> list[Placed]:
    words, now = [], 0.0
    for number, word in enumerate(text.split()):
        now += (gaps or {}).get(number, 0.0)
        words.append(Placed(Word(now, now + 0.3, word, 0.9), f" {word}", number in stamps, turn=False))
        now += 0.3
    return words


def test_segments_are_sentences_and_what_lies_between_pauses() -> None:
    found = [segment.text for segment in segments(placed("One two three four five six. Seven eight", {3: 1.0}), "en")]
    assert found == ["One two three", "four five six. Seven eight"]
    found = [segment.text for segment in segments(placed("This is quite a long sentence now. And more"), "en")]
    assert found == ["This is quite a long sentence now.", "And more"]
    assert [s.text for s in segments(placed("Yes. No.", stamps=(1,)), "en")] == ["Yes.", "No."]


def test_entries_for_a_model_are_few_and_at_most_thirty_seconds() -> None:
    rng = random.Random(0)
    said, now = [], 0.0
    for _ in range(40):
        said.append(speech(" ".join(["word"] * rng.randint(3, 90)), 0.4, now))
        now = said[-1].end + rng.choice([0.2, 0.5, 5.0])
    found = list(entries(said))
    assert len(found) < 40
    assert all(entry.end - entry.start <= 30.05 for entry in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert " ".join(entry.text for entry in found) == " ".join(segment.text for segment in said)
    assert all(round(time, 1) == time for entry in found for time in (entry.start, entry.end))


def test_entries_of_scripts_without_spaces_have_none() -> None:
    said = [
        Segment(0.0, 1.0, "水曜日です。", 1.0),
        Segment(1.0, 2.0, "はい。", 1.0),
        Segment(2.0, 3.0, "OK.", 1.0),
        Segment(3.0, 4.0, "Yes.", 1.0),
    ]
    assert [entry.text for entry in entries(said)] == ["水曜日です。はい。 OK. Yes."]

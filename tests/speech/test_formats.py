"""Every format against a golden file, and the golden file against a parser that is not ours."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import srt
import webvtt
from markdown_it import MarkdownIt

from sage_cli.session.options import declared
from sage_cli.speech import Segment, Word
from sage_cli.speech.cues import present
from sage_cli.speech.formats import FORMATS, About, has_text
from sage_cli.speech.lines import DEFAULT, Layout

GOLDEN = Path(__file__).parent / "golden"
LONG = "One hour later, a sentence that is so long that no screen would want to hold all of it at a time."
ABOUT = About("talks/A talk & <more>.mp4", "A talk & <more>.mp4", 360010.5, "ggml-tiny.bin")
SEGMENTS = [
    Segment(0.0, 2.4996, "Hello, there.", 0.91, (Word(0.0, 1.1, "Hello,", 0.9), Word(1.1, 2.4996, "there.", 0.92))),
    Segment(2.5, 4.0, 'She said "a --> b", <i>1 & 2</i>;\n\nthen left.', 0.5, speaker_turn=True),
    Segment(7.25, 9.0, "Größe 水曜日 *star* [x] | #1 `y`", 0.333333),
    Segment(
        3661.001,
        3667.0,
        LONG,
        0.8,
        tuple(Word(3661.001 + n * 0.285, 3661.286 + n * 0.285, word, 0.8) for n, word in enumerate(LONG.split())),
    ),
    Segment(360000.0, 360002.0, "=A1\tafter a hundred hours", 0.99, language="de"),
]
SHOWN = list(present(SEGMENTS, 0.0, ABOUT.duration))
TEXTS = [" ".join(segment.text.split()) for segment in SHOWN]


def written(name: str, layout: Layout | None = None) -> str:
    format = FORMATS[name](layout or DEFAULT)
    about = About(ABOUT.video, ABOUT.media, ABOUT.duration, ABOUT.model, language="de")
    shown = present(SEGMENTS, 0.0, ABOUT.duration, layout or DEFAULT)
    return format.head(ABOUT) + "".join(format.segment(segment) for segment in shown) + format.foot(about)


def empty(name: str) -> str:
    format = FORMATS[name]()
    return format.head(ABOUT) + format.foot(ABOUT)


def shown(name: str, number: int) -> str:
    """What a subtitle shows: a change of speaker is marked."""
    return TEXTS[number] + (" [SPEAKER_TURN]" if SHOWN[number].speaker_turn else "")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_line_end_in_the_file_s_name_breaks_no_head(name: str) -> None:
    heads = [FORMATS[name]().head(About(media, media, 1.0, "m")) for media in ("a b.mp4", "a\nb.mp4")]
    assert heads[0] == heads[1] or json.loads(f"{heads[1]}]}}")["video"] == "a\nb.mp4"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_control_character_is_written(name: str) -> None:
    """JSON escapes those of ASCII."""
    hostile = "a\x1b]0;b\x07.mp4" if name.startswith("json") else "a\x1b]0;b\x07\x9bc.mp4"
    format, about = FORMATS[name](), About(hostile, hostile, 1.0, "m")
    text = format.head(about) + format.segment(Segment(0.0, 1.0, hostile, 1.0)) + format.foot(about)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_the_command_line_knows_them_all() -> None:
    assert set(declared()["format"].choices) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_transcript_with_text_is_told_from_one_without(name: str) -> None:
    assert has_text(written(name), name)
    assert has_text(present_alone(name), name)
    assert not has_text(empty(name), name)
    assert not has_text("", name)


def present_alone(name: str) -> str:
    """A transcript of one segment."""
    format = FORMATS[name]()
    return format.head(ABOUT) + format.segment(SHOWN[0]) + format.foot(ABOUT)


@pytest.mark.parametrize("name", FORMATS)
def test_golden(name: str) -> None:
    assert written(name) == (GOLDEN / f"transcript.{name}").read_bytes().decode()


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_golden_in_short_lines(name: str) -> None:
    assert written(name, Layout(width=32, lines=2)) == (GOLDEN / f"short-lines.{name}").read_bytes().decode()


def test_srt_is_read_back() -> None:
    cues = list(srt.parse(written("srt")))
    assert [cue.index for cue in cues] == [1, 2, 3, 4, 5, 6]
    for number, cue in enumerate(cues):
        assert cue.start.total_seconds() == pytest.approx(SHOWN[number].start, abs=0.0006)
        assert SHOWN[number].end - 0.0006 <= cue.end.total_seconds() <= SHOWN[number].end + 1.0006
        assert " ".join(cue.content.split()) == shown("srt", number).replace("-->", "->")
    assert list(srt.parse(empty("srt"))) == []


@pytest.mark.parametrize("name", ["srt", "vtt", "txt"])
def test_the_turns_of_a_dialogue_stay_apart(name: str) -> None:
    format, talk = FORMATS[name](), Segment(1.0, 2.0, "- Are you coming?\n- No, I am not.", 1.0)
    written = "".join(format.segment(cue) for cue in present([talk], 0.0, 9.0)) + format.foot(ABOUT)
    assert ("- Are you coming? - No, I am not.\n" if name == "txt" else "- Are you coming?\n- No, I am not.\n") in written


def test_a_dialogue_that_needs_several_cues_is_divided_between_its_turns() -> None:
    turns = (
        "- A line of dialogue that is too long for a line of a cue, by a few words",
        "- And so is this one, by as many words",
    )
    shown = present([Segment(1.0, 3.5, "\n".join(turns), 1.0)], 0.0, 9.0)
    assert [cue.text.strip() for cue in shown] == [*turns]


def converted(name: str, cues: Sequence[Segment], layout: Layout = DEFAULT) -> str:
    format = FORMATS[name](layout, written=True)
    shown = present(cues, 0.0, 99.0, layout, on_screen=format.on_screen)
    return format.head(ABOUT) + "".join(format.segment(cue) for cue in shown) + format.foot(ABOUT)


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_words_stay_on_screen_for_a_moment_and_cues_that_somebody_wrote_for_as_long_as_they_say(name: str) -> None:
    said = [Segment(1.0, 1.3, "Yes.", 1.0), Segment(1.6, 1.9, "No.", 1.0), Segment(9.0, 9.2, "Ä" * 42, 1.0)]
    for written, ends in ((False, [1.52, 1.6 + 5 / 6, 10.2]), (True, [1.3, 1.9, 9.2])):
        format = FORMATS[name](written=written)
        text = format.head(ABOUT) + "".join(format.segment(cue) for cue in said) + format.foot(ABOUT)
        found = re.findall(r"--> 00:00:(\d\d[.,]\d{3})", text)
        assert [float(time.replace(",", ".")) for time in found] == pytest.approx(ends, abs=0.0006)


NAMED = Segment(1.0, 8.0, f"R&D <1>: {LONG}", 1.0, speaker="R&D <1>")


def test_a_speaker_is_a_voice_in_vtt_and_a_name_before_the_words_elsewhere() -> None:
    cues = converted("vtt", [NAMED]).split("\n\n")[1:-1]
    assert len(cues) == 2
    assert all(cue.split("\n", 1)[1].startswith("<v R&amp;D &lt;1&gt;>") and cue.endswith("</v>") for cue in cues)
    assert "R&amp;D &lt;1&gt;: " not in "".join(cues)
    assert "\nR&D <1>: One hour" in converted("srt", [NAMED])
    assert "R&D <1>: One hour" in converted("lrc", [NAMED])
    for name in ("csv", "tsv", "txt", "json", "jsonl"):
        assert f"R&D <1>: {LONG}" in converted(name, [NAMED])  # in one piece: the speaker of another one would be unknown
    (record,) = json.loads(converted("json", [NAMED]))["segments"]
    assert record["speaker"] == "R&D <1>"


@pytest.mark.parametrize("seconds", [0.4, 1.6, 2.0, 9.0])
def test_a_cue_without_the_time_for_several_has_more_lines(seconds: float) -> None:
    layout = Layout(20, 1)
    cues = list(srt.parse(converted("srt", [Segment(1.0, 1.0 + seconds, LONG, 1.0)], layout)))
    shown = [(cue.end - cue.start).total_seconds() for cue in cues]
    assert sum(shown) == pytest.approx(seconds, abs=0.01)
    assert all(time >= 0.83 for time in shown) or len(cues) == 1
    assert all(len(line) <= 20 for cue in cues for line in cue.content.splitlines())
    assert " ".join(" ".join(cue.content.split()) for cue in cues) == LONG


def test_vtt_is_read_back() -> None:
    cues = webvtt.from_string(written("vtt")).captions
    assert len(cues) == 6
    for number, cue in enumerate(cues):
        assert cue.start_in_seconds == int(SHOWN[number].start)
        # The parser takes tags away, as a browser does, and leaves the escapes.
        assert " ".join(cue.text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").split()) == shown("vtt", number)
    assert webvtt.from_string(empty("vtt")).captions == []


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_short_lines_keep_the_text_and_the_order(name: str) -> None:
    text = written(name, Layout(width=32, lines=2))
    if name == "srt":
        read = [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in srt.parse(text)]
    else:
        read = [(cue.start_in_seconds, cue.end_in_seconds, cue.text) for cue in webvtt.from_string(text).captions]
    assert len(read) > len(SEGMENTS)
    assert all(
        len(line) <= 32 + len("<lang de></lang>") and content.count("\n") <= 1 for *_, content in read for line in content.split("\n")
    )
    assert all(a[1] <= b[0] + 0.001 for a, b in pairwise(read))
    assert LONG in " ".join(content.replace("\n", " ") for *_, content in read)


def test_json_is_read_back() -> None:
    read = json.loads(written("json"))
    assert {name: read[name] for name in ("video", "duration", "model", "language")} == {
        "video": ABOUT.video,
        "duration": ABOUT.duration,
        "model": "ggml-tiny.bin",
        "language": "de",
    }
    assert [segment["text"] for segment in read["segments"]] == [segment.text for segment in SHOWN]
    assert read["segments"][0]["words"][1] == {"start": 1.1, "end": 2.5, "text": "there.", "confidence": 0.92}
    assert read["segments"][1]["speaker_turn"] is True
    nothing = json.loads(empty("json"))
    assert (nothing["segments"], nothing["language"]) == ([], None)


def test_jsonl_is_read_back() -> None:
    lines = written("jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [{"video": ABOUT.video, **one} for one in json.loads(written("json"))["segments"]]
    assert empty("jsonl") == ""


def test_csv_is_read_back() -> None:
    rows = list(csv.DictReader(written("csv").splitlines()))
    assert [row["text"] for row in rows] == [shown("csv", number) for number in range(len(SHOWN))]
    assert [float(row["start"]) for row in rows] == pytest.approx([segment.start for segment in SHOWN], abs=0.0006)


def test_tsv_is_read_back() -> None:
    header, *rows = [line.split("\t") for line in written("tsv").splitlines()]
    assert header == ["start", "end", "text"]
    assert [(int(row[0]), int(row[1]), row[2]) for row in rows][:2] == [(0, 2500, "Hello, there."), (2500, 4000, shown("tsv", 1))]
    assert all(len(row) == 3 for row in rows)


def test_lrc_is_read_back() -> None:
    lines = re.findall(r"^\[(\d+):(\d\d)\.(\d\d)\](.*)$", written("lrc"), re.MULTILINE)
    times = [int(minutes) * 60 + int(seconds) + int(hundredths) / 100 for minutes, seconds, hundredths, _ in lines]
    assert times == sorted(times)
    assert [text for *_, text in lines if text] == [shown("lrc", number) for number in range(len(SHOWN))]
    assert [time for time, (*_, text) in zip(times, lines, strict=True) if not text] == [4.0, 9.0, 3667.27, 360002.0]


def test_md_is_read_back() -> None:
    tokens = [token for token in MarkdownIt().parse(written("md")) if token.type == "inline"]
    kinds = {"text": "{}", "softbreak": "\n"}
    plain = ["".join(kinds.get(child.type, "").format(child.content) for child in token.children or []) for token in tokens]
    assert plain[0] == ABOUT.media
    assert plain[1] == f"00:00:00 {TEXTS[0]}\n{shown('md', 1)}"
    assert plain[2:] == [f"00:00:07 {TEXTS[2]}", f"01:01:01 {TEXTS[3]}\n{TEXTS[4]}", f"100:00:00 {TEXTS[5]}"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_piece_ends_a_line(name: str) -> None:
    """So that what stands in a file or a terminal is whole lines at any time (JSON's separators come first)."""
    format = FORMATS[name]()
    pieces = [format.head(ABOUT), *(format.segment(segment) for segment in SEGMENTS)]
    if name != "json":
        assert all(piece.endswith("\n") for piece in pieces if piece)

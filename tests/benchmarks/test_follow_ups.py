"""The talks that ``benchmarks.speech_questions`` and ``benchmarks.follow_ups`` ask about, and how they count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.follow_ups import table
from benchmarks.speech_questions import make_long, read, right, talks
from sage_cli.video import Video


@pytest.mark.parametrize("talk", talks(), ids=lambda talk: str(talk["title"]))
def test_the_talk_says_what_is_right(talk: dict[str, Any]) -> None:
    said = " ".join(text for _, text in talk["said"])
    first, follow_up = talk["conversation"]
    for question, answer in (first, follow_up, *((question, answer) for _, question, answer in talk["ask"] if answer)):
        assert right({"right": answer}, said), question
        assert not right({"right": answer}, question)
        assert not right({"right": answer}, None)
    assert not right({"right": follow_up[1]}, first[0])


def test_turns_are_counted_apart(tmp_path: Path) -> None:
    def row(video: str, turn: int, answer: str | None) -> str:
        return json.dumps({"video_path": video, "turn": turn, "right": ["red"], "answer": answer})

    rows = [row("a", 0, "Red."), row("a", 1, "It is red."), row("b", 0, "red"), row("b", 1, None), row("c", 0, "blue"), row("c", 1, "blue")]
    (tmp_path / "run.jsonl").write_text("\n".join(rows) + "\n")
    counted = table([tmp_path / "run.jsonl"])
    assert "| right, first question | 2/3 (67 %) |" in counted
    assert "| right, follow-up | 1/3 (33 %) |" in counted
    assert "| right, follow-up to a right answer | 1/2 (50 %) |" in counted
    assert "| follow-ups without an answer | 1/3 (33 %) |" in counted


def test_one_long_recording_holds_all_talks_between_the_words_of_a_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"word{number}" for number in range(200)))
    make_long(tmp_path / "set", text)
    said = " ".join((tmp_path / "set" / "long.srt").read_text().split())
    assert all(sentence in said for talk in talks() for _, sentence in talk["said"])
    assert "word0 " in said
    assert "word199" in said
    rows = read(tmp_path / "set" / "set.jsonl")
    assert len(rows) == 40
    assert {row["video_path"] for row in rows} == {"long.flac"}
    video = Video(tmp_path / "set" / "long.flac")
    assert abs(video.duration - rows[0]["duration"]) < 20
    make_long(tmp_path / "german", text, "de")
    german = read(tmp_path / "german" / "set.jsonl")
    assert [row["id"] for row in german] == [row["id"] for row in rows if row["right"]]
    assert german[0]["question"] == "Wo sind die Tomaten gepflanzt?"

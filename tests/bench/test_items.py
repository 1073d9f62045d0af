"""Every layout a question set comes in, with the records as they are published."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sage_cli.bench.items import bucket, read_dataset
from sage_cli.bench.judges import choice
from sage_cli.errors import UsageError

OPTIONS = "Which is it?\n Answer the question based on the following options: \n (A) Cheddar\n (B) Brie\n (C) Gouda"


def write(path: Path, *rows: dict[str, Any]) -> str:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_sage_bench(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"video_id": "a-_1", "question": OPTIONS, "gt_answer": "Brie", "ques_type": "mcq", "difficulty": "very hard", "modality": "both"},
        {"video_id": "b", "question": "Why?", "gt_answer": "So.", "ques_type": "open-ended", "difficulty": "easy", "modality": "verbal"},
    ]
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a-_1.mp4").touch()
    dataset = read_dataset(write(tmp_path / f"sage_bench{suffix}", *rows), videos)
    first, second = dataset.items
    assert (dataset.name, dataset.answered) == ("sage_bench", False)
    assert (first.path, first.reference, first.letter, first.options) == (videos / "a-_1.mp4", "Brie", "B", ("Cheddar", "Brie", "Gouda"))
    assert first.question == OPTIONS
    assert (first.ques_type, first.difficulty, first.modality) == ("mcq", "very hard", "both")
    assert (second.ques_type, second.options, second.letter, second.path) == ("open_ended", (), None, None)
    assert dataset.missing == (second,)


def test_minerva(tmp_path: Path) -> None:
    row = {
        "key": "x:1",
        "video_id": "x",
        "question": "How many?",
        "answer_choice_0": "One",
        "answer_choice_1": "Two",
        "answer_choice_2": "Three",
        "answer_choice_3": "Four",
        "answer_choice_4": "Five",
        "answer_id": 3,
        "answer": "Four",
        "question_type": ["Counting", "Temporal Reasoning"],
    }
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.mp4").touch()
    (item,) = read_dataset(write(tmp_path / "minerva.json", row)).items
    assert (item.id, item.letter, item.reference, item.kind) == ("x:1", "D", "Four", "Counting, Temporal Reasoning")
    assert item.path == tmp_path / "x" / "x.mp4"
    assert item.question.startswith("How many?\n")
    assert "\n(A) One\n(B) Two\n(C) Three\n(D) Four\n(E) Five" in item.question
    assert item.ques_type == "mcq"


CHEESES = ("Cheddar", "Brie", "Gouda")
# Records with the names of published sets; the right option is the second one.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Video-MME": {
        "video_id": "001",
        "videoID": "x",
        "duration": "short",
        "question_id": "001-1",
        "task_type": "Counting",
        "options": ["A. Cheddar.", "B. Brie.", "C. Gouda."],
        "answer": "B",
    },
    "NExT-QA": {"video": "x", "qid": 0, "type": "CW", "a0": "Cheddar", "a1": "Brie", "a2": "Gouda", "answer": 1},
    "MLVU": {"video": "x.mp4", "duration": 408.6, "candidates": [*CHEESES], "answer": "Brie", "question_type": "plotQA"},
    "LongVideoBench": {
        "video_id": "x",
        "video_path": "x.mp4",
        "id": "x_0",
        "candidates": [*CHEESES],
        "correct_choice": 1,
        "question_category": "S2E",
    },
    "LongVideoBench, as a table": {
        "video_path": "x.mp4",
        **{f"option{number}": text for number, text in enumerate([*CHEESES, "N/A", "N/A"])},
        "correct_choice": 1,
    },
    "EgoSchema": {"q_uid": "x", **{f"option {number}": text for number, text in enumerate(CHEESES)}, "answer": 1},
    "MMBench": {"video": "x", "index": 7, "A": "Cheddar", "B": "Brie", "C": "Gouda", "answer": "B"},
    "numbers from 1": {"video": "x", **{f"option_{number}": text for number, text in enumerate(CHEESES, 1)}, "answer": 2},
    "Python's list": {"video": "x", "options": str([*CHEESES]), "answer": "Brie"},
    "in a line": {"video": "x", "options": "A. Cheddar, B. Brie, C. Gouda", "answer": "B"},
}


@pytest.mark.parametrize("suffix", [".json", ".csv", ".tsv"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_sets_that_others_publish(name: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    row = {"question": "Which?", **PUBLISHED[name]}
    path = tmp_path / f"set{suffix}"
    if suffix == ".json":
        write(path, row)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, row, delimiter="\t" if suffix == ".tsv" else ";")
            table.writeheader()
            table.writerow({key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()})
    (item,) = read_dataset(str(path)).items
    assert (item.path, [text.rstrip(".") for text in item.options], item.letter) == (tmp_path / "x.mp4", [*CHEESES], "B")
    assert item.question.endswith(f"(A) {item.options[0]}\n(B) {item.options[1]}\n(C) {item.options[2]}")


def test_open_questions_of_others(tmp_path: Path) -> None:
    (tmp_path / "v_x.mp4").touch()
    rows: list[dict[str, Any]] = [
        {"video_name": "v_x", "question_id": "v_x_1", "question": "Is it red?", "answer": "yes", "type": 3},
        {"video": "v_x", "question": "Is it red?", "answer": True},
        {"video": "v_x", "question": "Who?", "answer": "B"},
    ]
    dataset = read_dataset(write(tmp_path / "set.json", *rows))
    assert [(item.path, item.options, item.reference) for item in dataset.items] == [
        (tmp_path / "v_x.mp4", (), reference) for reference in ("yes", "yes", "B")
    ]
    assert dataset.notices == ("in 1 of 3 questions, the first of them record 3, the right answer is a letter, but there are no options",)


def test_numbers_within_a_video_name_no_question(tmp_path: Path) -> None:
    rows = [{"video": video, "qid": 0, "question_id": f"{video}-1", "question": "Who?", "answer": "Ana"} for video in ("v", "w")]
    assert [item.id for item in read_dataset(write(tmp_path / "set.json", *rows)).items] == ["v-1", "w-1"]
    assert [item.id for item in read_dataset(write(tmp_path / "set.json", *rows, *rows)).items] == ["0", "1", "2", "3"]


def test_a_table_beside_a_question_set_is_something_else(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", {"video": "v", "question": "Who?", "answer": "Ana"})
    (tmp_path / "videos.csv").write_text("name,license\nv,none\n")
    assert read_dataset(str(tmp_path)).items[0].reference == "Ana"


def test_plain_records(tmp_path: Path) -> None:
    (tmp_path / "c.webm").touch()
    rows: list[dict[str, Any]] = [
        {"video": "c.webm", "question": "Who?", "answer": "Ana"},
        {"video": "c.webm", "question": "Which?", "options": ["red", "blue"], "answer": "B", "duration": "01:30"},
        {"video": f"{'signed' * 60}.mp4", "question": "Who?", "answer": "Ana"},
    ]
    plain, listed, missing = read_dataset(write(tmp_path / "mine.jsonl", *rows)).items
    assert missing.path is None
    assert (plain.id, plain.reference, plain.path, plain.ques_type) == ("0", "Ana", tmp_path / "c.webm", "open_ended")
    assert (listed.letter, listed.reference, listed.duration) == ("B", "blue", 90.0)
    assert listed.question.endswith("(A) red\n(B) blue")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
def test_a_byte_order_mark_is_no_part_of_the_file(suffix: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / f"set{suffix}"
    write(path, {"video": "v", "question": "Wer?", "answer": "Jürgen"})
    path.write_bytes(path.read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    assert read_dataset(str(path)).items[0].reference == "Jürgen"


def test_published_results_are_answered_questions(tmp_path: Path) -> None:
    row = {
        "index": 0,
        "question": OPTIONS,
        "answer": "It is Brie.",
        "correct_answer": None,
        "full_answer": "Brie",
        "is_correct": True,
        "used_tool_calls": True,
        "tool_call_types": {"verbal_transcript": 1},
        "duration": 706,
        "video_path": "data/x/x.mp4",
    }
    dataset = read_dataset(write(tmp_path / "results.json", row))
    assert dataset.answered
    assert dataset.items[0].given == row
    assert (dataset.items[0].letter, dataset.items[0].reference) == ("B", "Brie")


def test_every_layout_of_options(tmp_path: Path) -> None:
    layouts: list[dict[str, Any]] = [
        {"question": OPTIONS, "gt_answer": "Brie"},
        {"question": "Which? options: (A) Cheddar\n (B) Brie\n (C) Gouda", "gt_answer": "Brie"},
        {"question": "Which?\n (A) A) Cheddar\n (B) B) Brie\n (C) C) Gouda", "gt_answer": "Brie"},
        {"question": "Which?\n (A) A) Cheddar\n (B) B) Brie\n (C) C) Gouda", "gt_answer": "B) Brie"},
        {"question": "Which?\n1. Cheddar\n2. Brie\n3. Gouda", "gt_answer": "2"},
        {"question": "Which?", "options": {"A": "Cheddar", "B": "Brie", "C": "Gouda"}, "answer": "B"},
        {"question": "Which?", "options": {"0": "Cheddar", "1": "Brie", "2": "Gouda"}, "answer": "1"},
        {"question": "Which?", "options": ["A. Cheddar", "B. Brie", "C. Gouda"], "answer": "(B) Brie"},
        {"question": "Which?", "choices": {"text": ["Cheddar", "Brie", "Gouda"], "label": ["1", "2", "3"]}, "answer": "2"},
        {
            "question": "Which?",
            "options": [{"id": "A", "text": "Cheddar"}, {"id": "B", "text": "Brie"}, {"id": "C", "text": "Gouda"}],
            "answer": "B",
        },
        {"question": "Which?", "options": '["Cheddar", "Brie", "Gouda"]', "answer": "brie"},
        {"question": "Which?", "options": ["Cheddar", "Brie", "Gouda"], "answer_id": 1},
        {"question": "Which?", "options": ["Cheddar", "Brie", "Gouda"], "correct_answer": "B", "answer": "whatever"},
        {"question": "Which?", "answer_choice_0": "Cheddar", "answer_choice_2": "Brie", "answer_choice_3": "Gouda", "answer_id": "2"},
    ]
    for row in layouts:
        (item,) = read_dataset(write(tmp_path / "s.jsonl", {"video": "v"} | row)).items
        assert (item.options, item.letter, item.reference, item.open) == (("Cheddar", "Brie", "Gouda"), "B", "Brie", False), row
        assert "Brie" in item.question
        for answer in ("Brie", "It is brie.", "2" if item.numbered else "(B)"):
            assert choice(item, answer).correct, (row, answer)
        for answer in ("Gouda", "cheddar or gouda", "3" if item.numbered else "c) Gouda", "I cannot tell"):
            assert not choice(item, answer).correct, (row, answer)


def test_questions_without_options_are_open_whatever_they_are_called(tmp_path: Path) -> None:
    rows = [
        {"video": "v", "question": "How many?", "gt_answer": "seven", "ques_type": "mcq"},
        {"video": "v", "question": "Say (A) who\n(B) why", "gt_answer": "both", "ques_type": "open-ended"},
        {"video": "v", "question": "Which?\n(A) x\n(B) y", "gt_answer": "neither", "ques_type": "mcq"},
    ]
    items = read_dataset(write(tmp_path / "s.jsonl", *rows)).items
    assert [item.open for item in items] == [True] * 3
    assert choice(items[0], "The number is seven.").correct
    assert choice(items[0], "7").correct
    assert not choice(items[0], "Not seven.").correct
    assert not choice(items[0], "Seventeen.").correct


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        ({"duration": -1}, None),
        ({"duration": "-1"}, None),
        ({"duration": float("nan")}, None),
        ({"duration": float("inf")}, None),
        ({"duration": ""}, None),
        ({"duration": "unknown"}, None),
        ({"duration": 0}, None),
        ({"duration": "706"}, 706.0),
        ({"duration": "00:11:46"}, 706.0),
        ({"video_duration": "11:46", "duration_seconds": 706.5}, 706.5),
        ({"duration": -1, "video_duration": "706.0"}, 706.0),
    ],
)
def test_durations_as_they_are_written(tmp_path: Path, row: dict[str, Any], seconds: float | None) -> None:
    dataset = read_dataset(write(tmp_path / "s.jsonl", {"video": "v", "question": "Why?", "answer": "So."} | row))
    assert dataset.items[0].duration == seconds


def test_a_result_s_answer_is_never_its_own_reference(tmp_path: Path) -> None:
    row = {"video_path": "v", "question": "Why?", "answer": "So.", "full_answer": None, "num_attempts": 1}
    with pytest.raises(UsageError, match="there is no gt_answer or full_answer"):
        read_dataset(write(tmp_path / "results.jsonl", row))


def test_filters_and_limit(tmp_path: Path) -> None:
    rows = [
        {"video": "v", "question": str(n), "answer": "x", "modality": "both" if n % 2 else "visual", "duration": 100 * n} for n in range(20)
    ]
    dataset = read_dataset(write(tmp_path / "s.jsonl", *rows))
    assert [item.index for item in dataset.select(["modality=both", "duration=600-1200"], 2).items] == [7, 9]
    assert [item.index for item in dataset.select(["duration=1700-"], None).items] == [17, 18, 19]
    for wrong, said in (("modality=smell", "visual"), ("mood=good", "KEY=VALUE"), ("duration=long", "600-1200")):
        with pytest.raises(UsageError, match=said):
            dataset.select([wrong], None)


def test_buckets_are_the_papers() -> None:
    assert [bucket(at) for at in (0, 59.9, 60, 600, 1199, 2400, 9999)] == [
        "0-60 s",
        "0-60 s",
        "60-180 s",
        "600-1200 s",
        "600-1200 s",
        "2400+ s",
        "2400+ s",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.jsonl", '{"question": "Why?", "answer": "x"}', "record 1: there is no video"),
        ("x.jsonl", '{"video": "v", "answer": "x"}', "there is no question"),
        ("x.jsonl", '{"video": "v", "question": "Why?"}', "there is no gt_answer or full_answer or answer"),
        ("x.jsonl", "{", "cannot be read"),
        ("x.jsonl", '{"video": "v", "question": "Why?", "answer": "x"}\n\n{"video": oops}\n', r"cannot be read \(line 3, column 11: "),
        ("x.jsonl", '{"video": "v", "question": "Why?", "answer": NaN}', "there is no gt_answer"),
        (
            "x.jsonl",
            '{"video": "v", "question": "Why?", "options": ["a", "b"], "answer_index": 7}',
            "record 1: answer_index 7 is not one of 2 options",
        ),
        (
            "x.jsonl",
            '{"video": "v", "question": "Why?", "answer_choice_0": "a", "answer_choice_1": "b", "answer_id": 2}',
            "answer_id 2 is not one of 2 options",
        ),
        ("x.json", "7", "list of objects"),
        ("x.jsonl", "\n", "contains no questions"),
        ("x.txt", "a,b", "a question set is one of"),
        ("x.csv", "a,b", "contains no questions"),
        ("x.csv", "video,question,answer\nv,Why?,so,that", "line 2 has more fields than the first line"),
        ("x.jsonl", f'{{"video": "v", "question": "?", "options": ["a", "b"], "answer_index": 1{"0" * 400}}}', "is not one of 2"),
        ("x.parquet", "PAR0", "cannot be read"),
    ],
)
def test_what_is_no_question_set_is_told_in_a_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=said) as error:
        read_dataset(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_questions_that_are_not_scored_by_their_options_are_told(tmp_path: Path) -> None:
    row = {"video": "v", "question": "Which?", "options": ["red star", "b"]}
    write(tmp_path / "good.jsonl", row | {"answer": "A"}, row | {"answer": "red star"}, row | {"ques_type": "open_ended", "answer": "Z"})
    assert read_dataset(str(tmp_path / "good.jsonl")).notices == ()
    write(tmp_path / "bad.jsonl", row | {"answer": "B"}, row | {"answer": "Z"}, row | {"options": ["red", "red"], "answer": "red"})
    unclear, twice = read_dataset(str(tmp_path / "bad.jsonl")).notices
    assert unclear.startswith("in 2 of 3 questions, the first of them record 2, the right answer is not exactly one of the options")
    assert twice == "in 1 of 3 questions, the first of them record 3, an option is listed twice"


def test_a_table_may_begin_with_a_column_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "pandas.csv").write_text(",video,question,answer\n0,v,Why?,so\n1,v,Who?,me\n")
    assert [item.question for item in read_dataset(str(tmp_path / "pandas.csv")).items] == ["Why?", "Who?"]


def test_a_folder_holds_one_question_set(tmp_path: Path) -> None:
    row = {"video": "v", "question": "Why?", "answer": "x"}
    write(tmp_path / "train.parquet", row)
    for number in range(2):
        write(tmp_path / f"test-{number}.parquet", row | {"question": str(number)})
    assert [item.question for item in read_dataset(str(tmp_path)).items] == ["0", "1"]
    write(tmp_path / "test.jsonl", row)
    with pytest.raises(UsageError, match="name the file"):
        read_dataset(str(tmp_path))

"""Twenty questions whose figures were worked out by hand."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from sage_cli.bench.report import Report, compare, summarize
from sage_cli.bench.tables import markdown, tables
from sage_cli.report.bench import bench_page as page

# is_correct, duration, type, difficulty, calls (tool, ok), seconds
ROWS: list[tuple[bool | None, float, str, str, list[tuple[str, bool]], float]] = [
    *[(True, 30.0, "mcq", "easy", [], 2.0)] * 4,
    *[(False, 30.0, "open_ended", "easy", [], 2.0)] * 1,
    *[(True, 700.0, "open_ended", "hard", [("ground-event", True), ("analyze", True)], 10.0)] * 6,
    *[(False, 700.0, "open_ended", "hard", [("ground-event", False)], 20.0)] * 6,
    *[(True, 3000.0, "mcq", "very hard", [], 4.0)] * 2,
    (None, 3000.0, "open_ended", "very hard", [], 4.0),
]


def records() -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 100, "prompt_reused": 40, "output_tokens": 50, "output_forced": 20, "images": 8, "images_reused": 2}
    times = {"load_s": 0.0, "encode_s": 1.0, "prefill_s": 0.5, "decode_s": 0.25}
    return [
        {
            "index": index,
            "id": f"q{index}",
            "question": f"Question {index}?",
            "video_path": f"v{index % 4}.mp4",
            "is_correct": right,
            "none_prediction": index == 4,
            "duration": duration,
            "ques_type": type,
            "difficulty": difficulty,
            "modality": None,
            "used_tool_calls": bool(calls),
            "tool_calls": [{"tool": tool, "ok": ok, "repeated": False} for tool, ok in calls],
            "turns": len(calls) + 1,
            "seconds": seconds,
            "usage": usage | times,
            "error": "its process was ended by SIGABRT" if index == 16 else None,
        }
        for index, (right, duration, type, difficulty, calls, seconds) in enumerate(ROWS)
    ]


@pytest.fixture
def report() -> Report:
    return summarize(
        "twenty <questions>", records(), settings={"model": "m", "frames": 8, "tools": ["analyze"], "judge": "choice"}, missing=["gone.mp4"]
    )


def test_the_figures_are_those_worked_out_by_hand(report: Report) -> None:
    share = report.accuracy
    assert (share.right, share.total) == (12, 19)  # the one that was not judged does not count
    # (12 + 1.9207) / (19 + 3.8415) +- 1.96 / 22.8415 * sqrt(12 * 7 / 19 + 0.9604)
    assert (share.low, share.high) == pytest.approx((0.4104, 0.8085), abs=1e-4)
    assert (report.asked, report.unjudged, report.unanswered) == (20, 1, 1)
    assert report.failed == (("q16", "its process was ended by SIGABRT"),)
    one_video = summarize("run", [{**record, "id": "v1", "error": "gone"} for record in records()[:5]])
    assert ("failed", "5") in next(tables(one_video)).rows
    assert {value: (s.right, s.total) for value, s in report.by["duration"].items()} == {
        "0-60 s": (4, 5),
        "600-1200 s": (6, 12),
        "2400+ s": (2, 2),
    }
    assert [*report.by["duration"]] == ["0-60 s", "600-1200 s", "2400+ s"]
    assert {value: (s.right, s.total) for value, s in report.by["ques_type"].items()} == {"mcq": (6, 6), "open_ended": (6, 13)}
    assert [*report.by["difficulty"]] == ["easy", "hard", "very hard"]
    assert "modality" not in report.by
    assert (report.single.right, report.single.total, report.multi.right, report.multi.total) == (6, 7, 6, 12)
    assert {tool: (use.calls, use.failed) for tool, use in report.tools.items()} == {"ground-event": (12, 6), "analyze": (6, 0)}
    assert report.turns == {1: 8, 2: 6, 3: 6}
    assert report.seconds is not None
    assert (report.seconds.mean, report.seconds.median, report.seconds.p90, report.seconds.most) == pytest.approx((10.1, 10.0, 20.0, 20.0))
    assert report.tokens == {
        "prompt_tokens": 2000,
        "prompt_reused": 800,
        "output_tokens": 1000,
        "output_forced": 400,
        "images": 160,
        "images_reused": 40,
    }
    assert report.stages["encode_s"] == 20.0


def other() -> list[dict[str, Any]]:
    """Another run, in another order and from another folder: it gets two of ours wrong and five more right."""
    changed = records()
    for index in (0, 5):
        changed[index]["is_correct"] = False
    for index in (11, 12, 13, 14, 15):
        changed[index]["is_correct"] = True
    for record in changed:
        record["video_path"] = f"/else/where/{record['video_path']}"
    return changed[::-1]


def test_two_runs_are_compared_question_by_question() -> None:
    ours = records()
    comparison = compare(ours, other(), summarize("other", other()))
    pairs = comparison.overall
    assert (pairs.both, pairs.only_first, pairs.only_second, pairs.neither) == (10, 2, 5, 2)
    # 2 * (1 + 7 + 21) / 2**7
    assert pairs.p == pytest.approx(0.453125)
    assert pairs.gain == pytest.approx(-100 * 3 / 19)
    hard = comparison.by["difficulty"]["hard"]
    assert (hard.both, hard.only_first, hard.only_second, hard.neither) == (5, 1, 5, 1)
    assert hard.p == pytest.approx(0.21875)
    assert comparison.unpaired == 0
    assert compare(ours[:15], other(), summarize("other", other())).unpaired == 4


def test_judges_are_held_against_labels() -> None:
    labelled = [record | {"label": record["is_correct"] if index else False} for index, record in enumerate(records())]
    report = summarize("x", labelled)
    assert report.agreement is not None
    assert (report.agreement.right, report.agreement.total) == (18, 19)
    assert report.disputed == ("q0",)


def test_published_results_tell_less() -> None:
    row = {
        "index": 0,
        "question": "Why?",
        "is_correct": True,
        "tool_call_types": {"verbal_transcript": 2},
        "used_tool_calls": True,
        "duration": 61,
    }
    report = summarize("published", [row])
    assert (report.tools["transcribe-speech"].calls, report.tools["transcribe-speech"].failed) == (2, None)
    assert (report.seconds, report.tokens, report.turns) == (None, {}, {})
    assert "| transcribe-speech | 2 | - | - |" in markdown(report)
    ElementTree.fromstring(_xml(page(report)))


def test_the_same_figures_in_every_form(report: Report) -> None:
    report = Report(**{**_fields(report), "comparison": compare(records(), other(), summarize("other run", other()))})
    text, html, data = markdown(report), page(report), json.loads(json.dumps(report.as_json()))
    assert data["accuracy"] == {"value": 12 / 19, "right": 12, "total": 19, "low": report.accuracy.low, "high": report.accuracy.high}
    assert data["comparison"]["overall"]["only_second"] == 5
    assert data["missing"] == ["gone.mp4"]
    titles = [
        "Overall",
        "Comparison",
        "Video duration",
        "Question type",
        "Difficulty",
        "Horizon",
        "Tool calls",
        "Cost",
        "Failures",
        "Missing videos",
    ]
    assert [table.title for table in tables(report)] == titles
    assert next(table.columns for table in tables(report) if table.title == "Cost") == ("", "total", "per question")
    without_costs = summarize("answers of others", [{"question": "Why?", "answer": "b", "is_correct": True}])
    assert [table.title for table in tables(without_costs)] == ["Overall", "Horizon"]
    for said in ("12/19", "gone.mp4", "ended by SIGABRT", "600-1200 s", "2 : 5", "0.4531"):
        assert said in text
        assert said in html


def test_questions_answers_and_verdicts_are_listed() -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": "a",
            "question": "Which <one>?",
            "answer": "Red | blue",
            "full_answer": "Red",
            "is_correct": False,
            "evaluation_reasoning": "no",
        },
        {"id": "b", "question": "Why?", "answer": "So.", "full_answer": "So.", "is_correct": True},
        {"id": "c", "question": "Who?", "answer": " ", "full_answer": "Ana", "is_correct": False},
        {"id": "d", "question": "How?", "answer": "x", "full_answer": "y", "is_correct": None},
        {"id": "e", "question": "When?", "answer": None, "full_answer": "y", "is_correct": False, "error": "killed"},
    ]
    report = summarize("x", rows)
    assert [one.verdict for one in report.answers] == ["wrong", "right", "no answer", "not judged", "failed"]
    assert r"| wrong | Which \<one\>? | Red \| blue | Red |" in markdown(report)
    cells = [cell.text for cell in ElementTree.fromstring(_xml(page(report))).iter("td")]
    assert {"Which <one>?", "Red | blue", "not judged", "Ana"} <= {*cells}
    assert json.loads(json.dumps(report.as_json()))["answers"][0] == {
        "id": "a",
        "question": "Which <one>?",
        "answer": "Red | blue",
        "reference": "Red",
        "verdict": "wrong",
        "reasoning": "no",
    }


def _fields(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__dataclass_fields__}


def _xml(html: str) -> str:
    """HTML written so that it is XML too, but for its head."""
    return html[html.index("<body>") : html.index("</body>") + len("</body>")]

"""All published layouts of results files give the same figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage_cli.bench.records import complete, read_records, said
from sage_cli.bench.report import compare, summarize
from sage_cli.errors import UsageError
from sage_cli.report.bench import bench_page

CALL = {"arguments": {"query": "x"}, "rationale": None, "args_validity": True, "result": {}}
STEPS = [
    {"tool_calls": {"unified_web_search_#1": CALL}},
    {"tool_calls": {"unified_web_search_#2": CALL}},
    {"tool_calls": {"perform_reasoning_#1": CALL | {"args_validity": False}}},
]
BASE = {"question": "Why?", "answer": "So.", "full_answer": "So.", "path": "v.mp4", "is_correct": True, "id": "q"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "iterative_reasoner": {"complete_results": {"context_vlm": [{}], "iterative_reasoner": STEPS}, "time_taken": 12.5},
    "search_llm": {"complete_results": {"search_llm": [step | {"search_results": {}} for step in STEPS], "num_search_calls": 3}},
    "attempts": {"complete_results": [{"search_llm": []}, {"search_llm": STEPS}]},
    "calls in a list": {
        "complete_results": {
            "search_llm": [{"tool_calls": [{"name": name, **call} for name, call in step["tool_calls"].items()]} for step in STEPS]
        }
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_turns_and_tools_of_every_layout(layout: str) -> None:
    report = summarize("x", [BASE | LAYOUTS[layout]])
    assert report.turns == {4: 1}
    assert {tool: (use.calls, use.failed, use.repeated) for tool, use in report.tools.items()} == {
        "web-search": (2, 0, 1),
        "analyze": (1, 1, 0),
    }
    assert (report.multi.total, report.single.total) == (1, 0)


def test_a_record_without_a_trace_says_what_it_says() -> None:
    report = summarize("x", [BASE | {"used_tool_calls": True, "tool_call_types": {"unified_web_search": 2}}, BASE])
    assert (report.turns, report.multi.total, report.single.total) == ({}, 1, 1)
    assert report.tools["web-search"].calls == 2


@pytest.mark.parametrize(
    "answer", [None, "", " ", "\n\t", [], "Could not produce an answer after 5 attempts", "could not produce an answer"]
)
def test_nothing_is_no_answer(answer: object) -> None:
    record = BASE | {"answer": answer, "none_prediction": False, "is_correct": False}
    assert said(record) is None
    assert complete(record)["none_prediction"] is True
    report = summarize("x", [record])
    assert report.unanswered == 1
    assert report.answers[0].verdict == "no answer"


@pytest.mark.parametrize("duration", [-1, float("nan"), "-1", "x", 0])
def test_durations_that_say_nothing_fall_in_no_bucket(duration: object) -> None:
    report = summarize("x", [BASE | {"duration": duration}, BASE | {"duration": "706"}])
    assert {bucket: share.total for bucket, share in report.by["duration"].items()} == {"600-1200 s": 1}


@pytest.mark.parametrize("odd", [7, "?", "1e999", float("nan"), [], [7], [{}], {}, {"a": "b"}], ids=str)
@pytest.mark.parametrize("name", ["is_correct", "error", "turns", "tool_calls", "tool_call_types", "used_tool_calls", "seconds", "usage"])
def test_fields_of_other_programs_are_not_counted(name: str, odd: object) -> None:
    records: list[dict[str, Any]] = [BASE | {name: odd}, BASE]
    report = summarize("x", records)
    report = replace(report, comparison=compare(records, records, report))
    assert "<svg" in bench_page(report) or "<table" in bench_page(report)
    assert (report.asked, report.accuracy.right, report.tools, report.tokens.get("images", 0)) == (2, report.accuracy.total, {}, 0)


def test_what_is_no_results_file(tmp_path: Path) -> None:
    for content in (b"{", b"[1]", b"\xff", b"7\n"):
        (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(UsageError, match="not a results file"):
            read_records(tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps([BASE]), encoding="utf-8-sig")
    assert read_records(tmp_path / "results.json") == [BASE]
    with pytest.raises(UsageError, match=r"missing.json: No such file or directory: give the folder of a run, or a results file"):
        read_records(tmp_path / "missing.json")

from __future__ import annotations

from sage_cli.agent.results import KEPT, Call, Results
from sage_cli.tools.base import Outcome


def call(name: str = "verbal_transcript", start: str = "00:01", span: tuple[float, float] = (1.0, 2.0)) -> Call:
    return Call(name, {"video_path": "a.mp4", "timestamp_start": start}, span)


def test_results_are_numbered_by_tool_and_shown_in_pythons_notation() -> None:
    results = Results()
    results.add(call(), Outcome({"transcript": "it's"}, ""))
    results.add(call("perform_reasoning"), "no such thing")
    results.add(call(span=(3.0, 4.0)), Outcome({"transcript": None}, ""))
    assert [(result.key, result.output) for result in results.kept()] == [
        ("verbal_transcript_#1", "{'transcript': \"it's\"}"),
        (
            "perform_reasoning_#1",
            "Error executing perform_reasoning_#1: no such thing\n for argument {'video_path': 'a.mp4', 'timestamp_start': '00:01'}",
        ),
        ("verbal_transcript_#2", "{'transcript': None}"),
    ]


def test_steps_without_a_call_are_counted_if_they_asked_for_one_and_else_only_the_last_is_kept() -> None:
    results = Results()
    results.add_nothing(asked=False)
    results.add_nothing(asked=True)
    results.add(call(), "no such thing")
    results.add_nothing(asked=True)
    results.add_nothing(asked=False)
    assert [result.key for result in results.kept()] == ["None_#1", "verbal_transcript_#1", "None_#2", "None"]
    # As SAGE's models were trained to read it.
    assert {result.key: result.output for result in results.kept() if "None" in result.key} == {
        "None_#1": "No tool calls found",
        "None_#2": "No tool calls found",
        "None": "No tool calls found but a final answer was not returned.",
    }


def test_the_newest_are_kept_by_age_and_not_by_name() -> None:
    results = Results()
    for number in range(12):
        results.add(call(span=(number, number + 1)), "")
    assert [result.key for result in results.kept()] == [f"verbal_transcript_#{number}" for number in range(3, 13)]


def test_a_call_is_recognized_by_what_it_means() -> None:
    results = Results()
    first = Outcome({"transcript": "first"}, "")
    results.add(call(start="00:01"), first)
    assert results.earlier(call(start="00:00:01")) is first
    assert results.earlier(call(start="00:01", span=(1.0, 3.0))) is None
    web = Call("web_search", {"query": "a", "pages": 2}, None)
    results.add(web, first)
    assert results.earlier(Call("web_search", {"pages": 2, "query": "a"}, None)) is first
    assert results.earlier(Call("web_search", {"query": "b", "pages": 2}, None)) is None
    assert results.earlier(call("perform_reasoning")) is None


def test_a_repeated_call_points_to_its_result_while_that_is_shown() -> None:
    results = Results()
    results.add(call(), Outcome({"transcript": "hello"}, ""))
    for number in range(KEPT - 2):
        results.add(call(span=(number + 10, 99)), "")
    results.add_again(call())
    assert "verbal_transcript_#1" in results.kept()[-1].output
    assert "hello" not in results.kept()[-1].output
    assert results.kept()[0].key == "verbal_transcript_#1"
    results.add_again(call())
    assert "hello" in results.kept()[-1].output
    assert results.kept()[-1].key == "verbal_transcript_#11"

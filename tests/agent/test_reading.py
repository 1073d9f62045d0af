from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import json_repair
import pytest

from sage_cli.agent import reading
from sage_cli.agent.protocol import ContextReply, ReasonerReply
from sage_cli.agent.reading import FieldStream, prose, read
from sage_cli.tools.reply import WRAP, without_thinking
from tests.agent.scripted import NO_CALL, call, context, reasoner

TRANSCRIBE = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:05", timestamp_end="00:00:15")


def test_a_whole_reply_is_read_as_it_is() -> None:
    reply = context(None, TRANSCRIBE)
    assert read(ContextReply, json.dumps(reply)).model_dump() == reply
    answered = reasoner("Red.")
    assert read(ReasonerReply, WRAP[0] + json.dumps(answered) + WRAP[1]).model_dump() == answered


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (["a red car", "a dog"], "a red car, a dog"),
        (42, "42"),
        (0, "0"),
        (None, None),
        ("", None),
        ("null", None),
        ([], None),
        ([None, ""], None),
        (" Red.\n", "Red."),
        (" ", None),
        ({"a": "\u00e9"}, '{"a": "\u00e9"}'),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_an_answer_becomes_a_string(answer: Any, expected: str | None) -> None:
    assert read(ReasonerReply, json.dumps({**reasoner("x"), "extra": 1, "final_answer": answer})).final_answer == expected


@pytest.mark.parametrize("recommended", [None, {}, [], "none", {"needed": "true"}, {"needed": True, "tool_calls": None}])
def test_a_missing_tool_call_is_none(recommended: Any) -> None:
    assert read(ContextReply, json.dumps({**context(), "recommended_tools": recommended})).recommended_tools.call is None


WHERE = {"video_path": "holiday.mp4", "timestamp_start": "00:05", "timestamp_end": "00:00:15"}
CALL = {"name": "verbal_transcript", "arguments": WHERE}
SEEN = {"video_context": "A man.", "query_intent": "To know."}
XML = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in WHERE.items())
FORMS: dict[str, Any] = {
    "as asked": {**SEEN, "recommended_tools": {"needed": True, "why_no_tool": None, "tool_calls": [CALL]}, "final_answer": None},
    "no needed": {"recommended_tools": {"tool_calls": [CALL]}},
    "a list of calls": {"recommended_tools": [CALL]},
    "a call": {"recommended_tools": CALL},
    "calls at the top": {**SEEN, "tool_calls": [CALL]},
    "calls beside nothing": {"recommended_tools": None, "tool_calls": [CALL]},
    "the call alone": CALL,
    "tools as text": {"recommended_tools": json.dumps({"needed": True, "tool_calls": [CALL]})},
    "calls as text": {"recommended_tools": {"needed": "true", "tool_calls": json.dumps([CALL])}},
    "calls as Python's text": {"tool_calls": str([CALL])},
    "arguments as text": {"tool_calls": [{**CALL, "arguments": json.dumps(WHERE)}]},
    "arguments in a list": {"tool_calls": [{**CALL, "arguments": [WHERE]}]},
    "with a number": {"tool_calls": [{**CALL, "confidence": 0.9}]},
    "as OpenAI's API": {"tool_calls": [{"type": "function", "id": "1", "function": {**CALL, "arguments": json.dumps(WHERE)}}]},
    "tool and parameters": {"tool_calls": [{"tool": "verbal_transcript", "parameters": WHERE}]},
    "function and args": {"tool_calls": [{"function": "verbal_transcript", "args": WHERE}]},
    "tool name and input": {"tool_calls": [{"tool_name": "verbal_transcript", "input": WHERE}]},
    "the paper's name": {"tool_calls": [{**CALL, "name": "transcribe-speech"}]},
    "another spelling": {"tool_calls": [{**CALL, "name": "Transcribe_Speech"}]},
    "a call of calls": {"recommended_tools": {"needed": True, "tool_calls": {"tool_calls": [[None, CALL]]}}},
    "native": f"It is not shown.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>\n<tool_call>\n{{}}\n</tool_call>",
    "native, unclosed": f"<tool_call>\n{json.dumps(CALL)}",
    "native, in tags": f"<tool_call>\n<function=verbal_transcript>\n{XML}</function>\n</tool_call>",
    "after thinking": f'<think>Perhaps {{"tool_calls": []}}? Between <json> and </json>.</think>{json.dumps({"tool_calls": [CALL]})}',
    "after thinking in the template": f'Perhaps {{"a": 1}}?\n</think>\n<json>{json.dumps({"tool_calls": [CALL]})}</json>',
    "after braces": f"The {{tools}} it is:\n{json.dumps({'tool_calls': [CALL]})} {{done}}",
    "the second of two": f"<json>{{...}}</json> Now: <json>{json.dumps({'tool_calls': [CALL]})}</json>",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [ContextReply, ReasonerReply])
def test_a_call_is_read_in_every_form(kind: Any, form: str) -> None:
    given = FORMS[form]
    reply = read(kind, given if isinstance(given, str) else json.dumps(given))
    assert reply.final_answer is None
    call = reply.recommended_tools.call
    assert call is not None
    assert (call.name, call.arguments, call.rationale) == ("verbal_transcript", WHERE, "")
    if kind is ReasonerReply:
        assert not reply.answerable.verdict
    elif form == "native":
        assert reply.video_context == "It is not shown."


@pytest.mark.parametrize("wrapping", ["%s", "<json>\n%s\n</json>", "```json\n%s\n```", "Here it is: %s"])
@pytest.mark.parametrize("calls", [[], [CALL]])
def test_tags_in_an_answer_are_no_calls(wrapping: str, calls: list[Any]) -> None:
    for said in (
        'It says <tool_call>{"name": "get_weather", "arguments": {}}</tool_call>.',
        "Write <tool_call>{'name': 'x'}</tool_call>.",
        "```\nx\n```",
    ):
        reply = {**context(said), "recommended_tools": {"needed": bool(calls), "why_no_tool": None, "tool_calls": calls}}
        made = read(ContextReply, wrapping % json.dumps(reply))
        assert made.final_answer == said
        assert [call.name for call in made.recommended_tools.tool_calls] == [call["name"] for call in calls]


def test_tags_in_a_native_call_are_words_and_the_text_around_it_is_kept() -> None:
    query = "What is <tool_call> or </tool_call>?"
    asked = json.dumps({"name": "perform_reasoning", "arguments": {"query": query}})
    made = read(ContextReply, f"Before.\n<tool_call>{asked}</tool_call>\nAfter.")
    assert [call.arguments for call in made.recommended_tools.tool_calls] == [{"query": query}]
    assert made.video_context == "Before.\n\nAfter."
    unended = read(ContextReply, f"<tool_call>{asked}\n<tool_call>{asked}")
    assert len(unended.recommended_tools.tool_calls) == 2


@pytest.mark.parametrize(
    "calls",
    [["verbal_transcript"], "verbal_transcript", {"name": "verbal_transcript"}, {"name": "verbal_transcript", "arguments": "[]"}],
)
def test_a_tool_may_be_named_alone(calls: Any) -> None:
    recommended = {"needed": True, "tool_calls": calls}
    call = read(ContextReply, json.dumps({**context(), "recommended_tools": recommended})).recommended_tools.call
    assert call is not None
    assert (call.name, call.arguments) == ("verbal_transcript", {})


@pytest.mark.parametrize(
    ("calls", "name"),
    [
        (["find_object"], "find_object"),
        ([{"arguments": {}}], ""),
        (["none"], None),
        (["No tool is needed."], None),
        ("none", None),
        ([{}], None),
    ],
)
def test_a_tool_that_does_not_exist_is_called_all_the_same(calls: Any, name: str | None) -> None:
    call = read(ReasonerReply, json.dumps({"recommended_tools": {"needed": True, "tool_calls": calls}})).recommended_tools.call
    assert (call and call.name) == name


def test_a_call_against_which_the_model_decides_is_none() -> None:
    reply = read(ContextReply, json.dumps({"recommended_tools": {"needed": False, "tool_calls": [CALL]}, "answer": "A five."}))
    assert (reply.final_answer, reply.recommended_tools.call) == ("A five.", None)


@pytest.mark.parametrize(
    ("told", "found"),
    [("true", True), ("false", False), ('" No"', False), ('"True"', True), ("null", None), ('"The red dot"', None), ("[]", None)],
)
def test_a_reply_may_tell_whether_its_answer_is_one(told: str, found: bool | None) -> None:
    assert read(ContextReply, f'{{"answer": "Red.", "found": {told}}}').found is found


def test_a_reply_without_most_keys_is_read() -> None:
    for given in ('{"final_answer": "Red."}', '{"answer": "Red."}', '{"answer": "Red.", "reasoning": "It is red.", "verdict": true}'):
        reply = read(ReasonerReply, given)
        assert reply.answerable.verdict
        assert reply.final_answer == "Red."
    assert not read(ReasonerReply, '{"final_answer": "Red.", "answerable": {"verdict": false}}').answerable.verdict
    assert not read(ReasonerReply, json.dumps({"answer": "Red.", "tool_calls": [CALL]})).answerable.verdict
    assert read(ReasonerReply, '{"answerable": {"verdict": "True"}}').answerable.verdict
    assert not read(ReasonerReply, '{"answerable": {"verdict": "false"}}').answerable.verdict
    assert read(ReasonerReply, '{"answerable": true}').answerable.verdict
    assert not read(ReasonerReply, '{"answer": "Red.", "verdict": false}').answerable.verdict
    assert not read(ReasonerReply, '{"final_answer": null, "recommended_tools": {"needed": false}}').answerable.verdict


def test_broken_json_is_repaired() -> None:
    broken = (
        '<json>\n{"video_context": "one\ntwo", "query_intent": "x", "final_answer": null, // none\n'
        '"recommended_tools": {"needed": true, "tool_calls": [{"name": "verbal_transcript", "arguments": {"video_path": "a.mp4",}'
    )
    reply = read(ContextReply, broken)
    assert reply.video_context == "one\ntwo"
    assert reply.recommended_tools.call is not None
    assert reply.recommended_tools.call.arguments == {"video_path": "a.mp4"}


@pytest.mark.parametrize("said", ["The car is red.", "", "<think>The car is", '{"colour": "red"}', "{red}"])
def test_what_says_nothing_of_a_reply_is_none(said: str) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        read(ContextReply, said)


def test_plain_text_is_what_it_says() -> None:
    assert prose("<think>Hm.</think>\n<json>\nThe car is red.\n</json>") == "The car is red."
    assert prose('{"colour": "red"') == prose("<think>The car is red.") == ""


# ---- streaming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_streamed_fields_add_up_to_the_reply(size: int) -> None:
    said = 'A "quoted" \\ line\nwith \u00e9\u4e16\U0001f600 and </json> {in} it'
    for reply in (context(said, {**NO_CALL, "why_no_tool": said}, said), reasoner(None, call("x", rationale=said, query=said), said)):
        for ascii_only in (True, False):
            text = WRAP[0] + json.dumps(reply, ensure_ascii=ascii_only) + WRAP[1]
            stream = FieldStream()
            fields: dict[str, str] = {}
            for at in range(0, len(text), size):
                for field, piece in stream.feed(text[at : at + size]):
                    fields[field] = fields.get(field, "") + piece
            if "answerable" in reply:
                assert fields == {"answerable.reasoning": said, "rationale": said}
            else:
                assert fields == {"video_context": said, "query_intent": "To know.", "final_answer": said, "why_no_tool": said}


def test_streamed_thinking_is_not_shown() -> None:
    stream = FieldStream()
    assert stream.feed('<think>Say {"final_answer": "blue"}?') == []
    assert stream.feed('</think>{"final_answer": "red') == [("final_answer", "red")]


def test_streamed_drafts_are_not_shown() -> None:
    stream = FieldStream()
    said = 'I think {"final_answer": "maybe a cat"} hmm</think>{"final_answer": "it is a small dog"}'
    pieces = [piece for at in range(0, len(said), 4) for piece in stream.feed(said[at : at + 4])]
    assert "".join(text for _, text in pieces) == "it is a small dog"


def test_streamed_words_in_json_are_shown() -> None:
    assert FieldStream().feed('{"final_answer": "Between <think> and</think>."}') == [("final_answer", "Between <think> and</think>.")]


def test_streamed_thinking_is_not_read_again_for_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    read_again = Mock(wraps=without_thinking)
    monkeypatch.setattr(reading, "without_thinking", read_again)
    stream = FieldStream()
    for piece in ("<think>", *["Hm {x}. "] * 50, "</thi", "nk>", "<json>", '{"final_answer": "red', '"}'):
        pieces = stream.feed(piece)
    assert read_again.call_count == 1
    assert pieces == []


def test_streamed_prose_gives_no_fields() -> None:
    stream = FieldStream()
    assert [stream.feed(piece) for piece in ("The {car", "} is red")] == [[], []]


def test_streamed_broken_json_waits_for_the_whole_reply() -> None:
    stream = FieldStream()
    assert [stream.feed(piece) for piece in ('{"final_answer": Red', ', "x": 1}')] == [[], []]


def test_streamed_replies_may_begin_long_after_the_thinking() -> None:
    stream = FieldStream()
    assert [stream.feed(piece) for piece in ("<think>Hm.</think>", "\n" * 20)] == [[], []]
    assert stream.feed('{"final_answer": "Red') == [("final_answer", "Red")]


LONG = 100_000


@pytest.mark.parametrize("flood", ["\n" * LONG, "<parameter=a>" * LONG, "<parameter=" * LONG, "<function=" * LONG])
def test_a_flood_in_a_call_is_read_once(flood: str) -> None:
    """With expressions that go back, these took minutes to years."""
    read_as = read(ContextReply, f"<tool_call><function=web_search><parameter=start>{flood}</parameter></function></tool_call>")
    assert read_as.recommended_tools.tool_calls[0].arguments == {"start": flood.strip()}
    (call,) = read(ContextReply, f"<tool_call><function=web_search><parameter=start>{flood}").recommended_tools.tool_calls
    assert call.arguments == {}


def test_a_flood_of_calls_that_do_not_end_is_not_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    repair = Mock(return_value={})
    monkeypatch.setattr(json_repair, "loads", repair)
    with pytest.raises(ValueError, match="no JSON object"):
        read(ContextReply, "<tool_call>{" * 1000)
    assert not repair.called


@pytest.mark.parametrize("before", ["", "<think>\n</think>", "<think>So.</think>And" + " so" * LONG + "</think>"])
def test_a_streamed_flood_is_read_once(before: str) -> None:
    stream = FieldStream()
    for piece in (before, *["\n"] * LONG):
        assert stream.feed(piece) == []
    assert stream.feed('{"final_answer": "red') == [("final_answer", "red")]

from __future__ import annotations

import json
from unittest.mock import Mock

import json_repair
import pytest

from sage_cli.tools.reply import json_object, structure, unquoted, without_thinking


@pytest.mark.parametrize(
    "reply",
    [
        '<json>\n{"a": "b", "c": [1, 2]}\n</json>',
        '{"a": "b", "c": [1, 2]}',
        'Here it is:\n```json\n{"a": "b", "c": [1, 2]}\n```\nDone.',
        '<json>{"a": "b", "c": [1, 2]',
        '<json>{"a": "b", "c": [1, 2,],}</json>',
        'I think so. {"a": "b" // yes\n "c": [1, 2]}',
        '<json>[{"a": "b", "c": [1, 2]}, {"d": 3}]</json>',
    ],
)
def test_reads_whole_wrapped_and_broken_objects(reply: str) -> None:
    assert json_object(reply) == {"a": "b", "c": [1, 2]}


@pytest.mark.parametrize("reply", ["", "no", "[1]", "<json></json>", "{}", "12"])
def test_says_when_there_is_no_object(reply: str) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        json_object(reply)


def test_what_no_program_could_read_is_refused_and_half_characters_are_replaced() -> None:
    assert json_object('<json>{"a": ["so funny \\ud83d", "\\ud83d\\ude00"]}</json>') == {"a": ["so funny \ufffd", "\U0001f600"]}
    deep = ('{"a":' * 2000, '{"a": ' + "[" * 1000, "[" * 100_000, '{"a":' * 200 + "1" + "}" * 200)
    for reply in ('{"a": NaN}', '{"a": [-1e999]}', *deep):
        with pytest.raises(ValueError, match=r"nested too deeply|no JSON object|a number is"):
            json_object(reply)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>Hm.</think>Red.", "Red."),
        ("Hm.</think>Red.", "Red."),
        ("<think>Hm. </think> Red.", " Red."),
        ("<think>Hm.</think>The tag\n</think>\nis red.", "The tag\n</think>\nis red."),
        ("<think>One.</think><think>Two.</think>Red.", "Red."),
        ("◁think▷Hm.◁/think▷Red.", "Red."),
        ('Say </think> or "</think>"?\n</think>\n\nRed.', "\n\nRed."),
        ('<think>He wrote "</think>" there.</think>Red.', "Red."),
        ("Red. <think>Hm.</think>", "Red. <think>Hm.</think>"),
        ('The slide says "</think>" in red.', 'The slide says "</think>" in red.'),
        ("He writes <think> before and </think> after it.", "He writes <think> before and </think> after it."),
        ('{"a": "It opens with <think>, closes with</think>."}', '{"a": "It opens with <think>, closes with</think>."}'),
        ('<json>{"a": "Before.</think>"}</json>', '<json>{"a": "Before.</think>"}</json>'),
        (" <think>Hm.", ""),
        ("Write <think> here.", "Write <think> here."),
        ("", ""),
    ],
)
def test_thinking_is_not_said(reply: str, said: str) -> None:
    assert without_thinking(reply) == said


def test_of_several_objects_the_last_that_is_meant_is_read() -> None:
    shown = '{"a": 1} {"b": 2} {"c": {"a": 3}} {unread}'
    assert json_object(shown, ("a", "b")) == {"b": 2}
    assert json_object(shown, ("c",)) == {"c": {"a": 3}}
    assert json_object('<json>{"b": 1}</json> for <json>{"x": 1}</json>', ("b",)) == {"b": 1}
    assert json_object('<json>{"a": 1}</json>, no: <json>{"a": 2}</json>') == {"a": 2}
    with pytest.raises(ValueError, match="no JSON object"):
        json_object(shown, ("d",))


@pytest.mark.parametrize("second", ['Note: {"a": 2', '<json>{"a": 2', '```json\n{"a": 2', '{"b": 3, // no\n"a": 2}'])
def test_a_broken_object_counts_only_if_none_is_whole(second: str) -> None:
    assert json_object(f'<json>{{"a": 1}}</json>\n{second}', ("a",)) == json_object(f'{{"a": 1}}\n{second}', ("a",)) == {"a": 1}
    assert json_object(second, ("a",))["a"] == 2


def test_only_a_few_objects_are_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    repair = Mock(return_value={})
    monkeypatch.setattr(json_repair, "loads", repair)
    for key, most in (("b", 0), ("a", 4)):
        with pytest.raises(ValueError, match="no JSON object"):
            json_object('{ "a" : text ' * 30, (key,))
        assert repair.call_count == most


def test_tags_within_json_are_words() -> None:
    for said in ("between <json> and </json>", '<json>{"a": 1}</json>', "```", "a {", "the </think> tag", "<think>...</think>", "<think>"):
        assert json_object("\n" + json.dumps({"a": said, "b": 1}), ("a",)) == {"a": said, "b": 1}


@pytest.mark.parametrize(
    "wrapping", ["Here it is: %s", "<json>\n%s\n</json>", "```json\n%s\n```", "```\n%s\n```\nDone.", "So.\n</think>\n<json>%s"]
)
@pytest.mark.parametrize("indent", [None, 2])
def test_tags_and_fences_in_strings_are_words_in_every_wrapping(wrapping: str, indent: int | None) -> None:
    for said in (
        "```python\nprint(1)\n```",
        "</json>",
        "between <json> and </json>",
        "<json>{'a': 1}</json>",
        "a\n</think>\nb",
        "```{'a': 1}```",
    ):
        value = {"b": said, "a": said, "c": {"a": 1}}
        assert json_object(wrapping % json.dumps(value, indent=indent), ("a",)) == value
        # Line ends that are not escaped, as models write them.
        assert json_object(wrapping % json.dumps(value, indent=indent).replace("\\n", "\n"), ("a",)) == value


def test_structure_is_what_is_not_within_whole_objects() -> None:
    text = '<a>{"b": "<c>`"} <d> {x} {"e": "<f>'
    assert structure(text) == '<a>{"b": " c> "} <d> {x} {"e": "<f>'
    assert len(structure(text)) == len(text)


def test_a_parser_that_gives_up_in_its_own_words_is_one_that_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RecursionError("maximum"), ValueError("Input nesting exceeds")):
        monkeypatch.setattr(json_repair, "loads", Mock(side_effect=error))
        with pytest.raises(ValueError, match="nested too deeply"):
            json_object('{"a": b}')
        assert unquoted("[a]") == "[a]"


def test_what_was_written_as_text_is_unquoted() -> None:
    assert unquoted("['a', 'b']") == unquoted('\n["a", "b"] ') == ["a", "b"]
    for other in ("a, b", 7, None, ["['a']"], "[" * 100_000, "[HD] movie.mp4", "movie [HD]", "{x}.mp4", "[NaN]"):
        assert unquoted(other) == other


@pytest.mark.parametrize("thought", ["<think></think>", "<think>`</think>"])
def test_thinking_without_end_is_read_once(thought: str) -> None:
    without_thinking(thought * 1_000_000)

from __future__ import annotations

import pytest

from sage_cli.tools.reply import json_object


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

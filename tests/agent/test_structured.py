"""Answers under a JSON schema of the user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.schemas import outcomes
from sage_cli.agent.events import Answer, NoAnswer, Notice, StepStarted, TextDelta, as_record
from sage_cli.agent.structured import AnswerSchema
from sage_cli.model.llama import LlamaModel
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, Stopped, context, reasoner
from tests.agent.test_loop import TRANSCRIBE, only, run
from tests.models import write_qwen3_vl
from tests.schemas import OBEYED

COLOUR: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "x": {"type": "number"}},
    "required": ["colour"],
}
SHAPE = AnswerSchema(json.dumps(COLOUR))


def test_the_answer_is_put_into_shape_by_a_reply_that_continues_the_answer(video: Video) -> None:
    model = ScriptedModel(context("It is red."), {"colour": "red", "x": 0.12345})
    events = run(model, video, "Which colour?", schema=SHAPE)
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert json.loads(answer.answer) == answer.value == {"colour": "red", "x": 0.12345}
    assert as_record(answer)["value"]["x"] == 0.12345
    first, second = model.asked
    assert [*second.prompt][: len(first.prompt)] == [*first.prompt]
    assert [message.role for message in second.prompt][len(first.prompt) :] == ["assistant", "user"]
    assert "It is red." in second.texts[-2]
    assert SHAPE.text in second.texts[-1]
    assert (second.schema, second.wrap) == (COLOUR, ("", ""))


def test_values_are_not_told_as_the_text_of_an_answer(video: Video) -> None:
    """Even where the user's schema has a name of the protocol."""
    named = AnswerSchema(json.dumps({"type": "object", "properties": {"final_answer": {"type": "string"}}, "required": ["final_answer"]}))
    events = run(ScriptedModel(context("It is red."), {"final_answer": "red"}), video, schema=named)
    assert only(Answer, events)[0].value == {"final_answer": "red"}
    assert "".join(event.text for event in only(TextDelta, events) if event.field == "final_answer") == "It is red."


def test_after_tools_the_shape_follows_their_results(video: Video) -> None:
    model = ScriptedModel(context(None, TRANSCRIBE), reasoner("Red."), {"colour": "red"})
    events = run(model, video, schema=SHAPE)
    assert isinstance(events[-1], Answer)
    assert events[-1].steps == 1
    assert "Look at that." in "".join(model.asked[-1].texts)


def test_a_context_that_is_too_small_for_both_gets_the_answer_alone(video: Video) -> None:
    model = ScriptedModel(context("It is red.", seen="a" * 1900), {"colour": "red"}, context_size=6000)
    events = run(model, video, "Which colour?", schema=SHAPE, frames=1)
    assert isinstance(events[-1], Answer)
    (text,) = model.asked[-1].texts
    assert "Which colour?" in text
    assert "It is red." in text


@pytest.mark.parametrize(
    "wrong", ["red", '{"colour": "green"}', '{"colour": "red", "x": 1e999}', '{"colour": "red", "x": NaN}', "[" * 100_000]
)
def test_a_reply_that_does_not_obey_is_asked_for_again_and_never_printed(video: Video, wrong: str) -> None:
    model = ScriptedModel(context("Red."), wrong, '```json\n{"colour": "red"}\n```', strict=False)
    events = run(model, video, schema=SHAPE)
    assert isinstance(events[-1], Answer)
    assert events[-1].value == {"colour": "red"}
    assert len([notice for notice in only(Notice, events) if "does not obey" in notice.text]) == 1
    assert len(only(StepStarted, events)) == 3

    events = run(ScriptedModel(context("Red."), wrong, wrong, strict=False), video, schema=SHAPE)
    assert isinstance(events[-1], NoAnswer)
    assert "does not obey the schema" in events[-1].reason


def test_values_that_nobody_meant_are_asked_for_again(video: Video) -> None:
    """A reply that is stopped is closed by force: brackets are no values."""
    forced = Stopped({"colour": "blue", "x": 1}, at=', "x"', wrap=("", ""))
    events = run(ScriptedModel(context("Red."), forced, {"colour": "red"}), video, schema=SHAPE)
    assert only(Answer, events)[0].value == {"colour": "red"}
    events = run(ScriptedModel(context("Red."), forced, forced), video, schema=SHAPE)
    assert "stopped before" in only(NoAnswer, events)[0].reason
    closed = Stopped({"colour": "red", "x": 1}, "length", at="}", wrap=("", ""))
    events = run(ScriptedModel(context("Red."), closed), video, schema=SHAPE)
    assert only(Answer, events)[0].value == {"colour": "red", "x": 1}
    assert "cut off" in only(Notice, events)[0].text


def test_a_loop_is_cut_from_a_value(video: Video) -> None:
    said = AnswerSchema(json.dumps({"type": "array", "items": {"type": "string", "minLength": 5}}))
    looped = Stopped('["A red car. ", "It jumps over the wall. ' + "It jumps over the wall. " * 4 + '"]')
    events = run(ScriptedModel(context("Red."), looped), video, schema=said)
    assert only(Answer, events)[0].value == ["A red car. ", "It jumps over the wall."]
    assert "repeated itself" in only(Notice, events)[0].text
    events = run(ScriptedModel(context("Red."), Stopped(json.dumps(["no spa " * 40])), '["It is red."]'), video, schema=said)
    assert only(Answer, events)[0].value == ["It is red."]


def test_an_untrained_model_obeys(tmp_path: Path) -> None:
    """``benchmarks/schemas.py`` in small, with a limit at which almost every reply has to be closed."""
    tiny = write_qwen3_vl(tmp_path)
    with LlamaModel(tiny.text, tiny.mmproj, context_size=2048, threads=1) as model:
        for schema in OBEYED.values():
            counts = outcomes(model, schema, range(1), 48)
            assert counts["invalid"] == 0
            assert counts["answers"] + counts["no answer"] == 1
        assert counts["answers"] == 1


def test_a_pattern_without_a_way_out_ends_without_an_answer(tmp_path: Path) -> None:
    tiny = write_qwen3_vl(tmp_path)
    with LlamaModel(tiny.text, tiny.mmproj, context_size=1024, threads=1) as model:
        counts = outcomes(model, {"type": "string", "pattern": "^a*quite unlikely indeed$"}, range(1), 48)
    assert counts["answers"] + counts["no answer"] == 1
    assert counts["invalid"] == 0


@pytest.mark.parametrize("blanks", ["", "\n" * 100_000])
def test_a_fence_with_any_number_of_blanks_is_read(blanks: str) -> None:
    """With an expression that goes back, this took years."""
    assert SHAPE.read(f'{blanks}```json{blanks}{{"colour": "red"}}{blanks}```{blanks}') == {"colour": "red"}
    with pytest.raises(ValueError, match="Expecting value"):
        SHAPE.read(f"```json{blanks}x")

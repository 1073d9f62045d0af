"""Judges by words, and models as judges: a local one, and one on a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sage_cli.bench.items import Item
from sage_cli.bench.judges import JudgeChoice, ModelJudge, choice, exact, read_verdict
from sage_cli.errors import UsageError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.llama import LlamaModel
from sage_cli.model.remote import RemoteModel
from tests.agent.scripted import ScriptedModel, Stopped
from tests.models import write_qwen3_vl
from tests.openai_server import Served, serve


def item(reference: str = "A red star appears.", options: tuple[str, ...] = (), letter: str | None = None) -> Item:
    return Item(0, "0", "What appears?", reference, "v.mp4", None, options, letter)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("a red  star appears", "A red star appears.", True),
        ("A blue star appears.", "A red star appears.", False),
        ("A red star", "A red star appears.", False),
        ("3.5", "35", False),
        ("38°C", "38 °C", False),
        ("5km", "5 km", True),
        ("It is 5 km.", "5", True),
        ("It is 5km.", "5km", True),
        ("12 pm", "12pm", True),
        ("about 50 percent", "50%", True),
        ("50", "50 %", False),
        ("It is there from 00:01:01 to 00:01:10.", "It is there from 00:01:03 to 00:01:09.", True),
        ("It is there from 00:01:00 to 00:01:10.", "It is there from 00:01:03 to 00:01:09.", False),
        ("It is there from 01:02 to 01:10.", "It is there from 00:01:03 to 00:01:09.", True),
        ("It is there from 00:01:01.5 to 00:01:10,250.", "It is there from 00:01:03 to 00:01:09.", True),
        ("The ratio is 16:75.", "The ratio is 16:74.", False),
        ("It is there at 100:01:01.", "It is there at 100:01:02.", True),
        ("It is there at 100:01:01.", "It is there at 101:01:01.", False),
        ("\u65e5\u672c\u8a9e", "\u65e5\u672c\u8a9e\u3002", True),
        ("The number is seven.", "7", True),
        ("It is -7 degrees.", "-7", True),
        ("It is -7 degrees.", "7", False),
        ("It costs $1,000.", "$1000", True),
        ("two hundred", "200", True),
        ("It is > 5", "5", False),
        ("More than 5", "5", False),
        ("At least 5", "5", False),
        ("It is not 5", "5", False),
        ("5 or 6", "5", False),
        ("C", "C++", False),
        ("\u2665", "\u2660", False),
    ],
)
def test_exact(answer: str, reference: str, right: bool) -> None:
    assert exact(item(reference), answer).correct is right


CHEESES = ("Cheddar", "Brie", "Blue Brie", "18", "B vitamins")


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("(B) Brie", "B"),
        ("B) Brie", "B"),
        ("The answer is (C).", "C"),
        ("Option D", "D"),
        ("Most likely brie, I think", "B"),
        ("It is a blue brie.", "C"),
        ("The car number is 18.", "D"),
        ("The car number is 181.", None),
        ("Cheddar or brie", None),
        ("A cheese", None),
        ("It is rich in B vitamins", "E"),
        ("(F)", None),
        ("", None),
    ],
)
def test_choice(answer: str, named: str | None) -> None:
    for letter in "ABCDE":
        assert choice(item("x", CHEESES, letter), answer).correct is (letter == named), answer


def test_a_denied_option_is_named_only_where_the_question_asks_for_what_is_not_so() -> None:
    shown = Item(0, "0", "Which is shown?\n(A) red\n(B) not blue", "red", "v.mp4", None, ("red", "blue"), "A")
    assert not choice(shown, "Red is not shown.").correct
    assert choice(replace(shown, question="Which is NOT shown?\n(A) red\n(B) blue"), "Red is not shown.").correct
    assert not choice(replace(shown, options=("", "x")), "Red").correct


def test_choice_without_options_is_exact() -> None:
    assert choice(item(), "a red star appears").correct


@pytest.mark.parametrize(
    ("reply", "correct", "reasoning"),
    [
        ("Reasoning: Same thing.\nVerdict: True", True, "Same thing."),
        ("**Reasoning:** They differ.\n\n**Verdict:** False.", False, "They differ."),
        ("verdict: true", True, ""),
        ('{"reasoning": "They differ.", "verdict": false}', False, "They differ."),
        ("Reasoning: The verdict: false was tempting.\nVerdict: True", True, "The"),
    ],
)
def test_verdicts_are_read(reply: str, correct: bool, reasoning: str) -> None:
    verdict = read_verdict(reply)
    assert (verdict.correct, verdict.reasoning) == (correct, reasoning)


def test_which_judge() -> None:
    assert JudgeChoice.parse("choice").kind == "choice"
    at = JudgeChoice("server", RemoteAddress("http://h:1/v1", "m"))
    assert JudgeChoice.parse("http://h:1/v1/chat/completions", "m") == JudgeChoice.parse("http://h:1/v1#m") == at
    assert str(at) == str(JudgeChoice.parse("http://me:secret@h:1/v1", "m")) == "m at http://h:1/v1"
    assert str(JudgeChoice.parse("http://me:secret@h:1/v1,http://me:secret@i:2/v1")) == "http://h:1/v1, http://i:2/v1"
    with pytest.raises(UsageError, match="--judge gut"):
        JudgeChoice.parse("gut")


def test_a_local_model_has_to_give_a_verdict(tmp_path: Path) -> None:
    """An untrained model: its verdict means nothing, but it is one."""
    files = write_qwen3_vl(tmp_path)
    with LlamaModel(files.text, files.mmproj, context_size=2048, threads=1) as model:
        verdict = ModelJudge(model)(item(), "A red star.")
    assert verdict.correct in (True, False)
    assert verdict.reasoning
    cut = ScriptedModel('{"reasoning": "%s", "verdict": false}' % ("Hm. " * 300), strict=False)
    assert ModelJudge(cut)(item(), "A red star.").correct is None
    said = {"reasoning": "Hm. " * 30, "verdict": True}
    looped, forced = Stopped(said, wrap=("", "")), Stopped(said, at="true", wrap=("", ""))
    assert [ModelJudge(ScriptedModel(reply))(item(), "A red star.").correct for reply in (looped, forced)] == [True, None]
    with LlamaModel(files.text, files.mmproj, context_size=256, threads=1) as model:
        verdict = ModelJudge(model)(item(), "long " * 400)
    assert verdict.correct is None
    assert "context" in verdict.reasoning


# ---- a server ------------------------------------------------------------------------------------------------------


@contextmanager
def judge_at(served: Served, name: str = "", *, key: str = "", retries: int = 4) -> Iterator[ModelJudge]:
    with serve(served), RemoteModel(RemoteAddress(served.url, name), key=key, retries=retries) as model:
        yield ModelJudge(model)


@pytest.mark.parametrize(
    "reply",
    ['{"reasoning": "Same.", "verdict": true}', "Reasoning: Same.\nVerdict: True", '```json\n{"reasoning":"Same.","verdict":true}\n```'],
)
def test_a_server_is_asked_in_the_references_shape(reply: str) -> None:
    served = Served(text=reply, key="secret")
    with judge_at(served, "judge-7b", key="secret") as judge:
        verdict = judge(item("Brie", ("Cheddar", "Brie"), "B"), "the soft one")
    assert (verdict.correct, verdict.reasoning) == (True, "Same.")
    (body,) = served.requests
    assert (body["model"], body["temperature"]) == ("judge-7b", 0)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"] == {"type": "boolean"}
    prompt = body["messages"][0]["content"]
    for part in ("Question: What appears?", "Prediction: the soft one", "Reference: option: B; text: Brie", '"verdict": <true or false>'):
        assert part in prompt


def test_a_temporary_failure_is_retried() -> None:
    served = Served(text="Verdict: False", faults=["down", "busy", "cut"])
    with judge_at(served) as judge:
        assert judge(item(), "x").correct is False
    assert not served.faults


def test_a_server_without_schemas_is_asked_in_plain_text() -> None:
    served = Served(text="Reasoning: Another.\nVerdict: False", formats=())
    with judge_at(served) as judge:
        verdicts = [judge(item(), "x") for _ in range(2)]
    assert [(verdict.correct, verdict.reasoning) for verdict in verdicts] == [(False, "Another.")] * 2
    assert not any("response_format" in body for body in served.requests)


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (Served(text="Maybe."), "no verdict"),
        (Served(text="x", faults=["down"] * 2), "status 503"),
        (Served(text="x", faults=["garbage"] * 4), "broke off 4 times"),
        (Served(text="x", key="other"), "set SAGE_API_KEY (for a judge, SAGE_JUDGE_KEY)"),
    ],
)
def test_a_judge_that_gives_no_verdict_says_why(served: Served, said: str) -> None:
    with judge_at(served, retries=1) as judge:
        verdict = judge(item(), "x")
    assert verdict.correct is None
    assert said in verdict.reasoning
    assert not served.faults


def test_a_flood_of_blanks_is_read_once() -> None:
    verdict = read_verdict("Reasoning: **it" + "\n" * 200_000 + "is** Verdict: True")
    assert verdict.reasoning == "it is"

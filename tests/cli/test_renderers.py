"""Output for programs: plain answers, JSON, JSON lines; their documentation is complete."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import typing
from pathlib import Path

import pytest
from rich.style import Style

from sage_cli.agent import events
from sage_cli.agent.events import Budget, Event, Evidence, Notice, Span, WebRequested
from sage_cli.cli import console
from sage_cli.cli.bars import progress
from sage_cli.cli.console import neutral
from sage_cli.cli.renderers.json_lines import Json, Jsonl, Structured
from sage_cli.cli.renderers.plain import Notes, Plain
from sage_cli.cli.renderers.words import span_text
from sage_cli.cli.transcribe import Task, _target
from sage_cli.model.base import ModelInfo, Usage
from sage_cli.speech import Segment
from sage_cli.speech.formats import FORMATS
from tests.cli.script import ANSWER, HOSTILE, NO_ANSWER, QUESTION, RUN

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"


def test_plain_is_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Notes(Plain()) as renderer:
        for event in RUN:
            renderer.show(event)
    captured = capsys.readouterr()
    assert captured.out == f"{ANSWER.answer}\n"
    assert captured.err == "sage: analyze: start and end were the same\n"


def test_several_answers_carry_their_questions(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Plain(several=True)
    for event in (*RUN[:-1], dataclasses.replace(ANSWER, answer="one\ntwo"), *RUN[:-1], NO_ANSWER, *RUN):
        renderer.show(event)
    assert capsys.readouterr().out == (
        f"{QUESTION}\n  one\n  two\n\n{QUESTION}\n  (no answer: none was found in 3 steps)\n\n{QUESTION}\n  {ANSWER.answer}\n"
    )


def test_quiet_keeps_the_reason_of_a_missing_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", True)
    with Notes(Plain()) as renderer:
        for event in (*RUN[:-1], NO_ANSWER):
            renderer.show(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "sage: no answer: none was found in 3 steps\n"


def test_lines_about_one_of_several_videos_begin_with_its_name_and_those_about_all_come_once(capsys: pytest.CaptureFixture[str]) -> None:
    told: set[str] = set()
    sent, blank, few = (
        Notice(0.0, "sent to a host", general=True),
        Notice(0.0, "it is blank", media=True),
        Notice(0.0, "few frames", "lower it"),
    )
    asked = WebRequested(1.0, 1, "web-search", "search", "a.example", "words")
    for label in ("cams/a.mp4", "-"):
        with Notes(Json(), label=label, told=told) as renderer:
            for event in (*RUN[:-1], sent, blank, few, asked, NO_ANSWER, *RUN[:1], sent, blank, few, NO_ANSWER):
                renderer.show(event)
    about = [
        "analyze: start and end were the same",
        "it is blank",
        "few frames; lower it",
        'web: search a.example for "words"',
        "no answer: none was found in 3 steps",
    ]
    again = ["few frames; lower it", "no answer: none was found in 3 steps"]
    first, *others = [f"sage: {name}: {text}" for name in ("cams/a.mp4", "stdin") for text in (*about, *again)]
    assert capsys.readouterr().err.splitlines() == [first, "sage: sent to a host", *others]


def test_json_loses_nothing_where_stdout_is_not_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii", "replace"))
    text = "\u010desky \U0001f600"
    Structured().show(dataclasses.replace(ANSWER, answer=json.dumps({"text": text}, ensure_ascii=False)))
    with _target(Task("talk.mp4", "jsonl", None)) as write:
        write(FORMATS["jsonl"]().segment(Segment(0.0, 1.0, text, 0.9)))
    console.write(console.dumps({"text": text}))
    sys.stdout.seek(0)
    assert [json.loads(line)["text"] for line in sys.stdout] == [text, text, text]


def test_jsonl_is_every_event_but_progress(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Jsonl()
    for event in RUN:
        renderer.show(event)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records == [json.loads(json.dumps(events.as_record(event))) for event in RUN if event.type != "working"]


def test_json_gathers_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Json()
    for event in (*RUN, *RUN[:-1], NO_ANSWER):
        renderer.show(event)
    answered, unanswered = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert answered["answer"] == ANSWER.answer and answered["reason"] is None
    assert unanswered["answer"] is None and unanswered["reason"] == NO_ANSWER.reason
    assert [call["tool"] for call in unanswered["tool_calls"]] == ["ground-event", "analyze"]
    assert answered["tool_calls"][0]["summary"] == "found at 00:00:45-00:01:05"
    assert answered["evidence"] == [{"span": {"start": 45.0, "end": 65.0}, "what": "frames analyzed", "said": ""}]
    assert answered["notices"] == ["analyze: start and end were the same"]
    assert answered["frames"] == [0.0, 0.5, 60.0]
    section = DOCUMENT.read_text(encoding="utf-8").partition("## `--json`")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", section)) - {"tool_called", "tool_finished"} == set(answered)


@pytest.mark.parametrize("renderer", [Plain(), Json(), Jsonl()])
def test_hostile_text_is_disarmed(renderer: Plain | Json | Jsonl, capsys: pytest.CaptureFixture[str]) -> None:
    for event in (RUN[0], dataclasses.replace(ANSWER, answer=HOSTILE)):
        renderer.show(event)
    out = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", out)
    out.encode()
    if not isinstance(renderer, Plain):
        assert json.loads(out.splitlines()[-1])["answer"] == HOSTILE


def test_text_that_is_harmless_stays_as_it_is() -> None:
    for text in ("line\nline\ttab", "naïve café", "日本語", "שלום", "👩‍👩‍👧", "a\u00a0b"):
        assert neutral(text) == text
    assert neutral("a\r\nb\x1b[31m") == "a\nb␛[31m"


# ---- docs/events.md ------------------------------------------------------------------------------------------------


def documented() -> dict[str, list[str]]:
    """The fields in each table of the document."""
    sections = re.split(r"^###? ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tables = {section.partition("\n")[0]: re.findall(r"^\| (\w+) \|", section, re.MULTILINE)[1:] for section in sections}
    return {name: fields for name, fields in tables.items() if fields}


def test_the_document_names_every_field() -> None:
    kinds = [kind for kind in typing.get_args(Event) if kind is not events.Working]
    objects = {"span": Span, "evidence": Evidence, "model": ModelInfo, "budget": Budget, "usage": Usage}
    wanted = {kind.type: kind for kind in kinds} | objects
    assert documented() == {name: [field.name for field in dataclasses.fields(kind)] for name, kind in wanted.items()}


def test_times_link_to_what_can_be_opened(tmp_path: Path) -> None:
    def link(video: str) -> str | None:
        style = span_text(Span(12.5, 20.0), video).style
        return style.link if isinstance(style, Style) else None

    assert link("") is link("-") is None
    assert link(str(tmp_path / "a b.mp4")) == f"{(tmp_path / 'a b.mp4').as_uri()}#t=12.5"
    assert link("https://example.org/watch?v=1") == "https://example.org/watch?v=1&t=12#t=12.5"


def test_names_in_progress_bars_are_no_markup(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "shows_progress", lambda: True)
    for name in (r"a\[/b].mp4", "[red]x[/red].mp4", "[/]"):
        with progress(name, 0.0, 10.0) as advance:
            advance(5.0)
    assert "[red]x" in capfd.readouterr().err

"""A run as one object, and its events again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest

from sage_cli.agent.events import Event, Notice, WebRequested
from sage_cli.agent.record import Recorder, RunRecord, recalled
from tests.cli.script import ANSWER, NO_ANSWER, RUN


def _recorded(events: Iterable[Event]) -> RunRecord:
    recorder = Recorder()
    (run,) = filter(None, map(recorder.feed, events))
    made: RunRecord = json.loads(json.dumps(run))
    return made


@pytest.mark.parametrize("end", [ANSWER, NO_ANSWER])
@pytest.mark.parametrize("more", [[], [WebRequested(70.0, 2, "web-search", "search", "a.example", "words"), Notice(71.0, "It was dark.")]])
def test_the_events_of_an_earlier_run_make_the_same_object(more: Sequence[Event], end: Event) -> None:
    run = _recorded([*RUN[:-1], *more, end])
    assert _recorded(recalled(run)) == {**run, "recalled": True}


def test_advice_is_for_the_user_and_not_for_readers_of_a_record() -> None:
    advised = Notice(71.0, "b.srt is used, not a.srt", "set SAGE_LANGUAGE")
    assert advised.line == "b.srt is used, not a.srt; set SAGE_LANGUAGE"
    assert _recorded([*RUN[:-1], advised, ANSWER])["notices"][-1] == advised.text

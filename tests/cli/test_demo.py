"""``sage demo`` and ``--model nano``: a trained model, so its answers are right."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

from sage_cli.assets import CLIPS

Sage = Callable[..., "CompletedProcess[str]"]


def test_three_questions_are_answered_right_on_three_horizons(sage: Sage) -> None:
    run = sage("demo", "--jsonl", "--threads", 1)
    assert run.returncode == 0
    events = [json.loads(line) for line in run.stdout.splitlines()]
    answers = [event for event in events if event["type"] == "answer"]
    assert [answer["answer"] for answer in answers] == ["A red star appears last.", "The number is seven.", "A purple star appears."]
    runs: list[list[str]] = []
    for event in events:
        if event["type"] == "run_started":
            runs.append([])
        elif event["type"] == "tool_called":
            runs[-1].append(event["tool"])
    assert runs == [[], ["transcribe-speech"], ["extract-video-parts", "analyze"]]
    # The star is there from 463 s to 470 s of eleven minutes.
    (found,) = answers[2]["evidence"]
    assert 462 <= found["span"]["start"] <= found["span"]["end"] <= 471


def test_the_demo_says_what_it_is_and_keeps_stdout_for_answers(sage: Sage) -> None:
    run = sage("demo", "--threads", 1)
    assert [line for line in run.stdout.splitlines() if line.startswith("  ")] == [
        "  A red star appears last.",
        "  The number is seven.",
        "  A purple star appears.",
    ]
    assert "nothing of your footage" in run.stderr
    assert "short.mp4" in run.stderr
    quiet = sage("demo", "--threads", 1, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, run.stdout, "")


def test_nano_is_a_model_like_any_other_and_says_what_it_is(sage: Sage) -> None:
    words = ("ask", CLIPS / "speech.mp4", "What is the name of the speaker?", "--model", "nano", "--threads", 1)
    run = sage(*words)
    assert (run.returncode, run.stdout) == (0, "The speaker is called Sophie.\n")
    assert "nothing of your footage" in run.stderr
    assert sage(*words, "--quiet").stderr == ""


def test_nano_is_listed_and_need_not_be_pulled(sage: Sage) -> None:
    rows = [json.loads(line) for line in sage("models", "list", "--json").stdout.splitlines()]
    (row,) = (row for row in rows if row["name"] == "nano")
    assert row["installed"]
    run = sage("models", "pull", "nano")
    assert run.returncode == 2
    assert "comes with the package" in run.stderr

"""The rules by which threads share a session, without a model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from sage_cli.errors import UsageError
from sage_cli.session.turns import Turns

T = TypeVar("T")
ENDED: list[str] = []


def steps(count: int = 3) -> Generator[int]:
    try:
        yield from range(count)
    except ValueError as error:
        yield int(str(error))
    finally:
        ENDED.append("steps")


def in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


def test_any_thread_goes_on_with_a_run_and_its_own_begins_others() -> None:
    turns = Turns()
    first, second = turns.run(steps()), turns.run(steps())
    assert (next(first), next(second), next(first)) == (0, 0, 1)
    second.close()
    assert in_thread(lambda: [*first]) == [2]


def test_another_thread_is_refused_until_a_run_has_ended() -> None:
    turns = Turns()
    first = turns.run(steps())
    not_begun = turns.run(steps())
    next(first)
    for other in (not_begun, turns.run(steps())):
        with pytest.raises(UsageError, match="in use by another thread"):
            in_thread(lambda other=other: next(other))  # type: ignore[misc]
    assert [*first] == [1, 2]
    assert in_thread(lambda: [*not_begun]) == [0, 1, 2]
    assert in_thread(lambda: [*turns.run(steps())]) == [0, 1, 2]


def test_a_closed_run_and_one_whose_thread_has_ended_hold_up_nobody() -> None:
    turns = Turns()
    closed = turns.run(steps())
    next(closed)
    closed.close()
    assert in_thread(lambda: next(turns.run(steps()))) == 0
    left = turns.run(steps())
    in_thread(lambda: next(left))
    assert [*turns.run(steps())] == [0, 1, 2]
    assert [*left] == [1, 2]


def test_an_error_thrown_into_a_run_reaches_its_work() -> None:
    run = Turns().run(steps())
    next(run)
    assert run.throw(ValueError("7")) == 7
    assert run.ended is False
    assert [*run] == []
    assert run.ended


def test_stopping_ends_the_work_and_says_so_to_whoever_goes_on() -> None:
    turns = Turns()
    begun, not_begun, done, other = (turns.run(steps()) for _ in range(4))
    next(begun)
    assert [*done] == [0, 1, 2]
    ENDED.clear()
    for _ in range(2):
        turns.stop()
        assert ENDED == ["steps"]
        for run in (begun, not_begun):
            with pytest.raises(UsageError, match="session was closed before"):
                next(run)
        assert [*done] == []
    begun.close()
    assert other.ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize(("before", "told"), [("", "went on"), ("turns = Turns()", "refused refused")])
def test_only_forks_of_a_process_that_used_a_session_are_refused(before: str, told: str) -> None:
    code = f"""
import os
from sage_cli.errors import UsageError
from sage_cli.session.turns import Turns
turns = None
{before}
if os.fork() == 0:
    told = []
    for begin in (Turns, lambda: next(turns.run(iter([1])))):
        try:
            told.append("went on" if begin() else "")
        except UsageError as error:
            assert "'spawn'" in str(error)
            told.append("refused")
        except AttributeError:
            pass
    print(*told, flush=True)
    os._exit(0)
os.wait()
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == told

"""Workers that crash, hang or cannot start lose one item at most."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sage_cli.bench.pool import Died, work_here, work_on_ray
from sage_cli.cli.console import log
from sage_cli.errors import NOTICES, ModelError, SageError
from tests.bench.newborn import interrupted_at_birth
from tests.bench.workers import obedient, stillborn, unwilling

ROOT = Path(__file__).parents[2]


def test_a_worker_that_aborts_costs_one_item() -> None:
    items = ["a", "signal SIGABRT", "b", "exit 3", "c", "signal SIGSEGV"]
    done = dict(work_here(obedient, items, jobs=1))
    assert [*done] == items
    assert done["signal SIGABRT"] == Died("its process was ended by SIGABRT")
    assert done["signal SIGSEGV"] == Died("its process was ended by SIGSEGV")
    assert done["exit 3"] == Died("its process ended with status 3")
    survivors = [re.fullmatch(r"(.) by (\d+)", str(done[item])) for item in "abc"]
    # Another worker after each death.
    assert all(survivors)
    assert len({match[2] for match in survivors if match}) == 3


def test_a_worker_serves_item_after_item() -> None:
    done = dict(work_here(obedient, list("abcdef"), jobs=2))
    assert sorted(done) == list("abcdef")
    assert len({str(outcome).split()[-1] for outcome in done.values()}) <= 2


def test_what_workers_log_is_logged_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """So that a notice that each of them has is told once."""
    notices = logging.Logger("notices")
    monkeypatch.setattr("sage_cli.cli.console.NOTICES", notices)
    log()
    monkeypatch.setattr(NOTICES, "handlers", notices.handlers)
    items = ["cannot keep 100%", "cannot keep that", "sleep 0.1", "cannot keep this"]
    assert {*dict(work_here(obedient, items, jobs=3))} == {*items}
    assert re.fullmatch("sage: (100%|that|this) is not kept\n", capfd.readouterr().err)


def test_a_worker_that_hangs_is_ended() -> None:
    done = dict(work_here(obedient, ["hang", "a"], jobs=1, limit_s=0.5))
    assert "no reply" in done["hang"].reason  # type: ignore[union-attr]
    assert str(done["a"]).startswith("a by")


def test_workers_that_cannot_start_end_the_run() -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        list(work_here(unwilling, ["a"]))
    with pytest.raises(SageError, match="could not start: its process ended with status 7"):
        list(work_here(stillborn, ["a"]))


@pytest.mark.parametrize(
    ("item", "said"), [("full disk", "/tmp/x: No space left on device"), ("no memory", "out of memory"), ("bad disk", "Input/output error")]
)
def test_what_the_machine_cannot_do_is_no_outcome(item: str, said: str) -> None:
    """It ends the run, which can be resumed; a record would say that the question was answered wrong."""
    with pytest.raises(SageError, match=said):
        list(work_here(obedient, [item, "a"]))


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be started with Ctrl-C blocked")
def test_ctrl_c_before_a_worker_is_ready_does_not_reach_it(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to all processes of a terminal, and the parent decides what it means."""
    monkeypatch.setenv("SAGE_TEST_INTERRUPT", "1")
    done = dict(work_here(interrupted_at_birth, ["a"]))
    assert str(done["a"]).startswith("a by")
    assert capfd.readouterr().err == ""


def test_whoever_stops_listening_leaves_no_process() -> None:
    outcomes = work_here(obedient, ["a", "sleep 60"], jobs=2)
    process = int(str(next(outcomes)[1]).split()[-1])
    outcomes.close()
    assert gone(process)


def test_nobody_works_for_a_killed_parent() -> None:
    program = (
        "from sage_cli.bench.pool import work_here\nfrom tests.bench.workers import obedient\n"
        "if __name__ == '__main__':\n    for _, outcome in work_here(obedient, ['a', 'sleep 60']): print(outcome, flush=True)\n"
    )
    script = [sys.executable, "-c", program]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline().split()[-1])
        parent.send_signal(signal.SIGKILL)
    assert gone(worker)


def gone(process: int) -> bool:
    """Whether it ends; a zombie whose parent does not wait has ended."""
    for _ in range(200):
        try:
            os.kill(process, 0)
            if " Z " in Path(f"/proc/{process}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


# ---- Ray -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local Ray of two cores. The extra is large: without it there is nothing to test."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra 'ray' is not installed")
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_the_same_on_ray(cluster: Any) -> None:
    items = ["a", "signal SIGABRT", "b", "c"]
    done = dict(work_on_ray(obedient, items, jobs=2))
    assert {*done} == {*items}
    assert done["signal SIGABRT"] == Died("its process on the cluster ended")
    assert all(str(done[item]).startswith(f"{item} by") for item in "abc")
    refusal: Callable[[], Any] = unwilling
    with pytest.raises(ModelError, match="cannot be loaded"):
        list(work_on_ray(refusal, ["a"]))

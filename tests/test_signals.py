"""Processes ended by a signal clean up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Any

import pytest

from sage_cli.assets import CLIPS, NANO
from sage_cli.cli.interrupts import interrupts
from sage_cli.hardware.threads import Worker
from sage_cli.hardware.waiting import in_background, in_thread
from sage_cli.model.llama import LlamaModel
from sage_cli.model.native import Interruptible
from sage_cli.session import open_session
from sage_cli.signals import ENDING, check_interrupted, interrupted_by, signals_held
from sage_cli.store.content import fingerprint
from sage_cli.video import Video

PROGRAM = """
import signal, sys, time
from sage_cli.signals import clean_up_when_ended
from sage_cli.store.scratch import scratch_folder
if len(sys.argv) > 1:
    signal.signal(getattr(signal, sys.argv[1]), signal.SIG_IGN)
clean_up_when_ended()
with scratch_folder() as folder:
    print(folder, flush=True)
    while time.sleep(0.01) is None:
        pass
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_temporary_files_go_and_the_status_tells_the_signal(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("this system has no such signal")
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(number)
    assert process.returncode == 128 + number
    assert not list(tmp_path.iterdir())


def test_an_interrupt_in_generated_code_keeps_the_status(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import sys\nimport sage_cli.cli as cli\n"
        "def run():\n    try:\n        exec('raise KeyboardInterrupt')\n    except KeyboardInterrupt:\n        return 130\n"
        "cli._run = run\ncli.main()\n"
    )
    assert subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False).returncode == 130


@pytest.mark.parametrize(
    "work",
    [
        lambda: in_background(lambda stop: stop.wait()),
        lambda: in_thread(Event().wait),
        lambda: LlamaModel(NANO.text, NANO.mmproj, threads=1, context_size=512),
        lambda: fingerprint(CLIPS / "short.mp4"),
    ],
    ids=["background", "thread", "loading", "hashing"],
)
def test_another_thread_ends_waits_and_native_calls(work: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path))
    event, ended = Event(), []

    def run() -> None:
        with interrupted_by(event):
            check_interrupted()
            event.set()
            try:
                work()
            except KeyboardInterrupt:
                ended.append(True)
        check_interrupted()  # only inside the block

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert ended


def test_another_thread_ends_the_reading_of_frames() -> None:
    video, event = Video(CLIPS / "long.mp4"), Event()
    reader = video.frames([float(second) for second in range(60)])
    with interrupted_by(event):
        next(reader)
        event.set()
        with pytest.raises(KeyboardInterrupt):
            next(reader)


# ---- signals that come at any moment ---------------------------------------------------------------------------------


@pytest.fixture
def handled() -> Iterator[list[signal.Signals]]:
    """The signals whose own handlers were called, in order; SIGINT's raises KeyboardInterrupt, as Python's does."""
    calls: list[signal.Signals] = []

    def handle(number: int, _frame: object) -> None:
        calls.append(signal.Signals(number))
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in ENDING}
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


def _guarded() -> None:
    with Interruptible().guard():
        pass


def _held() -> None:
    with signals_held():
        pass


def _asked() -> None:
    with interrupts() as stop_if_asked:
        stop_if_asked()


def _interrupted_at(step: int, block: Callable[[], None]) -> bool:
    """Run the block with Ctrl-C at one of the steps of the interpreter; returns whether there are so many."""
    files = {sys.modules[module].__file__ for module in ("sage_cli.signals", "sage_cli.model.native", "sage_cli.cli.interrupts")}
    count = 0

    def each(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == step:
                signal.raise_signal(signal.SIGINT)
        return each

    tracing = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for such a frame when tracing begins
    sys.settrace(each)
    try:
        block()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracing)
    return count >= step


@pytest.mark.parametrize("block", [_guarded, _held, _asked])
def test_ctrl_c_at_any_moment_is_heard_and_disables_no_signal(block: Callable[[], None], handled: list[signal.Signals]) -> None:
    """Also between two of the steps that replace handlers and put them back."""
    step = 1
    while _interrupted_at(step, block):
        assert handled, f"lost at step {step}"
        for number in ENDING:
            handled.clear()
            with suppress(KeyboardInterrupt):
                signal.raise_signal(number)
            assert handled == [number], f"{number.name} after an interrupt at step {step}"
        handled.clear()
        step += 1
    assert step > 100


def test_signals_wait_for_the_end_of_a_block_whatever_thread_they_reach(handled: list[signal.Signals]) -> None:
    """llama.cpp's threads block none, and Python runs handlers in the main thread, whose mask does not count then."""
    others = [number for number in ENDING if number is not signal.SIGINT]
    whole = False
    with pytest.raises(KeyboardInterrupt), signals_held() as came:
        for number in [*others, signal.SIGINT, *others]:
            thread = Thread(target=signal.raise_signal, args=(number,))
            thread.start()
            thread.join()
        assert not handled
        assert [*came] == [*others, signal.SIGINT]
        whole = True
    assert whole
    assert handled == [*others, signal.SIGINT]


def test_a_thread_that_cannot_be_started_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody waits for what it was to do."""

    def fail(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken, open_session(model="nano") as session:
        broken.setattr(Thread, "start", fail)
        for work in (lambda: Worker("test"), session.load, lambda: in_background(lambda _stop: 1), lambda: in_thread(int)):
            with pytest.raises(OSError, match="cannot start a thread"):
                work()
        session.close()
        broken.undo()
        assert session.load().result().info.name


def test_ctrl_c_while_a_thread_is_started_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Thread.start

    def interrupted(thread: Thread) -> None:
        start(thread)
        signal.raise_signal(signal.SIGINT)

    with open_session(model="nano") as session, monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Thread, "start", interrupted)
        session.load()
    assert "sage-model" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
def test_nohup_is_respected(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "SIGHUP"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM

"""Processes ended by a signal clean up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from sage_cli.assets import CLIPS, NANO
from sage_cli.model.llama import LlamaModel
from sage_cli.signals import check_interrupted, interrupted_by
from sage_cli.store.content import fingerprint
from sage_cli.video import Video
from sage_cli.video.background import in_background
from sage_cli.web.threads import in_thread

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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
def test_nohup_is_respected(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "SIGHUP"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM

"""Processes ended by a signal clean up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
def test_nohup_is_respected(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "SIGHUP"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM

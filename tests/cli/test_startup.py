"""``--help`` is fast: checks what it imports. ``python -m benchmarks.startup`` measures the time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"av", "cv2", "huggingface_hub", "llama_cpp", "llguidance", "numpy", "platformdirs", "pydantic", "pywhispercpp", "rich.live"}
PROGRAM = """
import json, sys
from sage_cli.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [[], ["ask"], ["transcribe"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words, "--help"], capture_output=True, text=True, check=True)
    assert "Usage: sage" in done.stdout
    imported = set(json.loads(done.stderr))
    assert not HEAVY & imported
    # Of our own packages, what options are.
    light = {
        "sage_cli.errors",
        "sage_cli.version",
        "sage_cli.signals",
        "sage_cli.text",
        "sage_cli.session",
        "sage_cli.session.option",
        "sage_cli.session.options",
        "sage_cli.hardware",
        "sage_cli.hardware.openmp",
    }
    assert not [name for name in imported if name.startswith("sage_cli.") and name.split(".")[1] != "cli" and name not in light]
    assert "sage_cli.cli.renderers" not in imported


def test_ctrl_c_is_silent_before_anything_is_imported_that_takes_time() -> None:
    """The package comes before its entry point, so it imports next to nothing."""
    program = """
import signal, sys
def hook(event, arguments):
    if event == "import" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        print(arguments[0])
for name in ("re", "enum", "signal", "typing", "collections.abc"):
    sys.modules.pop(name, None)
sys.addaudithook(hook)
import sage_cli.__main__
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    quick = {"__future__", "sage_cli", "sage_cli.hardware", "sage_cli.hardware.openmp", "sage_cli.version", "sage_cli.__main__"}
    assert {"sage_cli"} <= set(done.stdout.split()) <= quick


def test_benchmarks_are_listed() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks"], capture_output=True, text=True, check=True)
    assert "python -m benchmarks.startup " in done.stdout

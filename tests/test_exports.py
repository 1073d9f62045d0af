"""What a program imports from ``sage_cli`` itself."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

import sage_cli
from sage_cli.agent import events


def test_every_name_is_there_and_every_event_has_one() -> None:
    exported = {name: getattr(sage_cli, name) for name in sage_cli.__all__}
    assert set(get_args(events.Event)) <= set(exported.values())
    with pytest.raises(AttributeError, match=r"'sage_cli' has no attribute 'Anwser'"):
        sage_cli.Anwser  # type: ignore[attr-defined]  # noqa: B018


def test_errors_and_options_load_no_library() -> None:
    program = "import sys, sage_cli; sage_cli.SageError, sage_cli.Options; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"av", "cv2", "numpy", "pydantic"} & set(done.stdout.split())

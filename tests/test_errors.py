"""Errors of the machine become one line that names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sage_cli import errors
from sage_cli.errors import machine_trouble, naming


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x"), "/tmp/x: No space left on device"),
        (OSError(errno.EIO, os.strerror(errno.EIO), b"/tmp/caf\xe9"), "/tmp/caf\udce9: Input/output error"),
        (OSError(errno.EIO, os.strerror(errno.EIO), Path("a")), "a: Input/output error"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), f"{os.strerror(errno.EAGAIN)}: too many processes, or out of memory"),
        (OSError("words alone"), "words alone"),
        (OSError(), "OSError"),
        (MemoryError(), "out of memory: close other programs, or choose a smaller model or fewer frames"),
    ],
)
def test_words(error: OSError | MemoryError, said: str) -> None:
    assert machine_trouble(error) == said


def test_without_proc_the_advice_is_to_mount_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(errors, "_PROC", tmp_path)
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "meminfo"))
    assert machine_trouble(error) == f"{tmp_path}/meminfo: No such file or directory: mount /proc"
    (tmp_path / "self").touch()
    assert machine_trouble(error) == f"{tmp_path}/meminfo: No such file or directory"


def test_a_name_is_put_in_place_of_none_or_of_another(tmp_path: Path) -> None:
    for error in OSError(errno.ENOSPC, "No space left on device"), OSError(errno.ENOSPC, "No space left on device", "/tmp/.part"):
        with pytest.raises(OSError) as failure, naming(tmp_path):
            raise error
        assert (failure.value.errno, failure.value.filename) == (errno.ENOSPC, str(tmp_path))
    with pytest.raises(BrokenPipeError) as closed, naming(tmp_path):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert closed.value.filename is None  # whoever reads has gone: that is no error of a file

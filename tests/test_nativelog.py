from __future__ import annotations

import logging
from threading import Thread

import pytest

from sage_cli.nativelog import DEBUG, ERROR, LogLine, NativeLog

_CONTINUATION = 5
_logger = logging.getLogger("sage_cli.test")


def test_fragments_become_lines(caplog: pytest.LogCaptureFixture) -> None:
    log = NativeLog(_logger)
    with caplog.at_level(logging.DEBUG), log.lines() as lines:
        for level, text in (ERROR, "no "), (_CONTINUATION, "memory\nat all\nload"), (_CONTINUATION, "ed\n"), (DEBUG, " ....\nfine\n"):
            log.take(level, text)
    assert lines == [LogLine(ERROR, "no memory"), LogLine(ERROR, "at all"), LogLine(ERROR, "loaded"), LogLine(DEBUG, "fine")]
    assert caplog.record_tuples == [("sage_cli.test", logging.INFO if level == ERROR else logging.DEBUG, text) for level, text in lines]


def test_each_thread_has_lines_of_its_own() -> None:
    log, other = NativeLog(_logger), []

    def load() -> None:
        with log.lines() as lines:
            log.take(DEBUG, "using device CUDA0")
            log.take(_CONTINUATION, " (GPU)\n")
            other.extend(lines)

    with log.lines() as lines:
        log.take(ERROR, "error loading ")
        thread = Thread(target=load)
        thread.start()
        thread.join()
        log.take(_CONTINUATION, "model\n")
    assert lines == [LogLine(ERROR, "error loading model")]
    assert other == [LogLine(DEBUG, "using device CUDA0 (GPU)")]
    log.take(ERROR, "later\n")
    assert len(lines) == 1

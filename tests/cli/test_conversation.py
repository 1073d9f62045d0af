"""A conversation on a terminal: five questions, one of them interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pyte
import pytest

from sage_cli.assets import CLIPS

PROMPT = b"\x1b[?2004h"  # bracketed paste: the line editor waits for input


class Talking:
    """``sage`` on a pseudo-terminal, as a person uses it."""

    def __init__(self, words: list[str], environment: dict[str, str], width: int) -> None:
        self.screen = pyte.Screen(width, 400)
        self._stream = pyte.ByteStream(self.screen)
        self._unread = b""
        self.answers: dict[bytes, bytes] = {}  # to questions about what it can show
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "sage_cli", *words], {**environment, "TERM": "xterm-256color"})
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 400, width, 0, 0))

    def until(self, text: bytes) -> bytes:
        """Read until the program has written this; what it wrote before."""
        while text not in self._unread:
            assert self._read(), "\n".join(self.lines())
        before, _, self._unread = self._unread.partition(text)
        return before

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 120)[0]:
            return False
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:  # how Linux reports the other end's death
            return False
        self._unread += data
        self._stream.feed(data)
        where = b"\x1b[%d;%dR" % (self.screen.cursor.y + 1, self.screen.cursor.x + 1)
        number = re.search(rb"\x1b_Gi=(\d+)", data)  # of a picture that is asked about
        for query, answer in sorted({b"\x1b[6n": where, **self.answers}.items(), key=lambda pair: data.find(pair[0])):
            if query in data:  # answered in the order of the questions
                self.type(answer.replace(b"NUMBER", number[1] if number else b""))
        return bool(data)


def is_stopped(talk: Talking, question: str) -> bool:
    """Ask, and press Ctrl-C at once; return whether that stopped the answer: on a busy machine it may be there before."""
    talk.type(f"{question}\r".encode())
    talk.until(b"frames ")
    talk.type(b"\x03")
    stopped = b"stopped" in talk.until(PROMPT)
    if not stopped:
        talk.until(PROMPT)  # a new line
    return stopped


@pytest.mark.parametrize("width", [80, 140])
def test_five_questions(environment: dict[str, str], sage: Callable[..., CompletedProcess[str]], width: int) -> None:
    talk = Talking(["ask", str(CLIPS / "short.mp4"), "--model", "nano", "--threads", "1"], environment, width)
    talk.until(PROMPT)
    long = f"{'word ' * 250}?"  # takes a while to read
    for question in ("Which shape appears last?", "Which shape appears first?", long, last := "What colour is the star?"):
        if question is long:
            assert any(is_stopped(talk, long) for _ in range(5))
            continue
        talk.type(f"{question}\r".encode())
        talk.until(b"frames ")
        if question == last:
            talk.type(b"Which shape is red?\r")  # ahead of the answer
            assert b"Which" not in talk.until(b"based on")
        talk.until(PROMPT)
    talk.until(PROMPT)
    talk.type(b"\x04")
    assert talk.end() == 0
    lines = talk.lines()
    answers = ["A red star appears last.", "A blue circle appears first.", "The star is red.", "The red shape is a star."]
    assert [line for line in lines if line in answers] == answers
    assert sum("sage-nano on CPU" in line for line in lines) == 1

    logged = [json.loads(line) for line in sage("log", "list", "--json").stdout.splitlines()][::-1]
    runs = [run for run in logged if run["question"] != long]
    assert [run["answer"] for run in runs] == answers
    for run in runs[1:]:  # frames and instructions are read once
        assert run["usage"]["images_reused"] == run["usage"]["images"] > 0
        assert run["usage"]["prompt_tokens"] - run["usage"]["prompt_reused"] < 50


def test_keys_typed_during_a_command_are_not_echoed(environment: dict[str, str]) -> None:
    talk = Talking(["chat", str(CLIPS / "speech.mp4"), "--model", "nano", "--threads", "1"], environment, 80)
    talk.until(PROMPT)
    talk.type(b"/transcript\r")
    talk.until(b"\x1b[?2004l")  # the line editor has left the terminal
    talk.type(b"/tools off\r")
    assert b"/tools off" not in talk.until(b"Welcome to Vienna")
    talk.until(b"tools are off")
    talk.until(PROMPT)
    talk.type(b"\x04")
    assert talk.end() == 0


@pytest.mark.parametrize(
    ("answers", "picture"),
    [
        ({b"\x1b[c": b"\x1b[?62;4c"}, b"\x1bP"),
        ({b"\x1b[c": b"\x1b[?62c", b",a=q,": b"\x1b_Gi=NUMBER;OK\x1b\\"}, b"\x1b_Gi="),
        ({}, None),
    ],
    ids=["sixel", "kitty", "neither"],
)
def test_pictures_where_the_terminal_can(environment: dict[str, str], answers: dict[bytes, bytes], picture: bytes | None) -> None:
    talk = Talking(["chat", str(CLIPS / "short.mp4"), "--model", "nano", "--threads", "1"], environment, 80)
    talk.answers = answers
    talk.until(PROMPT)
    talk.type(b"Which shape appears last?\r")
    talk.until(PROMPT)
    talk.type(b"/frames\r")
    shown = talk.until(PROMPT)
    assert b"first look" in shown
    assert (len(shown) > 5000) == (picture is not None)
    assert picture is None or picture in shown
    talk.type(b"/tools on\r\x04")
    talk.until(b"tools are on")  # nothing of what the terminal answered was left to read
    assert talk.end() == 0


def test_no_question_needs_a_terminal(sage: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    done = sage("ask", tmp_path / "talk.mp4")
    assert done.returncode == 2
    assert "for a conversation" in done.stderr

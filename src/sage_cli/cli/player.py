"""Open a video in a player, at a time."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from sage_cli.errors import SageError, VideoError
from sage_cli.text import is_link

# In order of preference, with the option for the start time; those without buttons also end when the video does.
PLAYERS = {
    "mpv": "--start={seconds:.3f}",
    "vlc": "--start-time={seconds:.3f}",
    "cvlc": "--play-and-exit --start-time={seconds:.3f}",
    "ffplay": "-autoexit -ss {seconds:.3f}",
}
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_AT_ONCE = 0.5  # seconds within which a player ends that cannot play
_MACOS_VLC = "/Applications/VLC.app/Contents/MacOS/VLC"


def command(video: str | Path, seconds: float) -> list[str]:
    """The command line that plays a video from a time.

    Raises:
        SageError: there is no player.
    """
    target = str(video) if is_link(str(video)) else str(Path(video).absolute())
    for name, option in PLAYERS.items():
        if program := shutil.which(name):
            return [program, *option.format(seconds=seconds).split(), target]
    if sys.platform == "darwin" and Path(_MACOS_VLC).exists():
        return [_MACOS_VLC, PLAYERS["vlc"].format(seconds=seconds), target]
    raise SageError(f"no player found: install {' or '.join(list(PLAYERS)[:2])}")


def play(video: str | Path, seconds: float = 0.0) -> None:
    """Start a player; it keeps running when this program ends.

    Raises:
        VideoError: there is no such file.
        SageError: there is no display or no player, or it cannot be started, or ends at once.
    """
    if not is_link(str(video)) and not Path(video).exists():  # the player would say so to nobody
        raise VideoError(f"no such file: {video}; the video was moved or deleted, or read from stdin")
    if sys.platform not in ("darwin", "win32", "cygwin") and not any(map(os.environ.get, _DISPLAYS)):
        # A player would fail unseen, or play to nobody without end; a terminal is no display.
        raise SageError(f"there is no display: {' and '.join(_DISPLAYS)} are not set; open {video} on a machine with a screen")
    words = command(video, seconds)
    try:
        player = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise SageError(f"cannot start {words[0]}: {error.strerror or error}") from error
    try:
        status = player.wait(_AT_ONCE)
    except subprocess.TimeoutExpired:
        return
    if status:
        raise SageError(f"{words[0]} ended at once with status {status}: run it yourself to see why: {shlex.join(words)}")

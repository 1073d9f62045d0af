"""Open a video in a player, at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from sage_cli.errors import SageError, VideoError
from sage_cli.text import is_link

# In order of preference, with the option for the start time.
PLAYERS = {
    "mpv": "--start={seconds:.3f}",
    "vlc": "--start-time={seconds:.3f}",
    "cvlc": "--start-time={seconds:.3f}",
    "ffplay": "-ss {seconds:.3f}",
}
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
        SageError: there is no player, or it cannot be started.
    """
    if not is_link(str(video)) and not Path(video).exists():  # the player would say so to nobody
        raise VideoError(f"no such file: {video}; the video was moved or deleted, or read from stdin")
    words = command(video, seconds)
    try:
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise SageError(f"cannot start {words[0]}: {error.strerror or error}") from error

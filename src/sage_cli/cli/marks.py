"""Time spans for other programs: edit lists and chapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# SMPTE ST 12-1: any mark but a colon before the frames means drop-frame time.
_TIMECODE: Final = re.compile(r"(\d{1,3}):(\d\d):(\d\d)([:;.,])(\d{1,4})")


def edl(spans: Sequence[tuple[float, float]], name: str, fps: float, timecode: str = "") -> str:
    """A CMX 3600 edit decision list that puts the spans one after another.

    Source times count from the file's timecode. Time code without dropped frames counts frames, in seconds of whole numbers of them: at
    29.97 it falls behind the clock. Drop-frame time skips numbers of frames to keep up.

    Args:
        timecode: of the first frame; what cannot be read counts as zero.
    """
    rate = max(1, round(fps))
    *clock, mark, first = found.groups() if (found := _TIMECODE.fullmatch(timecode.strip())) else ("0", "0", "0", ":", "0")
    hours, minutes, seconds = map(int, clock)
    # Numbers of frames that are skipped at the start of each minute but every tenth.
    dropped = rate // 15 if mark != ":" and rate % 30 == 0 else 0
    minutes += 60 * hours
    begin = (60 * minutes + seconds) * rate + int(first) - dropped * (minutes - minutes // 10)

    def code(frames: int) -> str:
        if dropped:
            tens, rest = divmod(frames, 600 * rate - 9 * dropped)
            frames += dropped * (9 * tens + max(0, rest - dropped) // (60 * rate - dropped))
        seconds, frame = divmod(frames, rate)
        return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{';' if dropped else ':'}{frame:02}"

    lines = ["TITLE: sage", f"FCM: {'DROP FRAME' if dropped else 'NON-DROP FRAME'}"]
    placed = 0
    for number, span in enumerate(spans, start=1):
        start = round(span[0] * fps)
        end = max(round(span[1] * fps), start + 1)
        times = (begin + start, begin + end, placed, placed + end - start)
        lines.append(f"{number:03}  AX       V     C        {' '.join(map(code, times))}")
        lines.append(f"* FROM CLIP NAME: {' '.join(name.split())}")
        placed += end - start
    return "\n".join(lines)


def ffmetadata(chapters: Sequence[tuple[float, float, str]], title: str = "") -> str:
    """Chapters as FFmpeg reads them (``ffmpeg -i VIDEO -i FILE -map_metadata 1 -map_chapters 1``).

    Args:
        chapters: start and end in seconds, and title.
        title: of the whole video.
    """
    lines = [";FFMETADATA1", *([f"title={_escaped(title)}"] if title else [])]
    for start, end, name in chapters:
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={round(start * 1000)}", f"END={round(end * 1000)}", f"title={_escaped(name)}"]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "=;#\\\n" else character for character in text)

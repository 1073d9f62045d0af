"""Time spans for other programs: edit lists and chapters."""

from __future__ import annotations

from collections.abc import Sequence


def edl(spans: Sequence[tuple[float, float]], name: str, fps: float) -> str:
    """A CMX 3600 edit decision list that puts the spans one after another.

    Time code without dropped frames counts frames, in seconds of whole numbers of them: at 29.97 it falls behind the clock.
    """
    rate = max(1, round(fps))

    def code(frames: int) -> str:
        seconds, frame = divmod(frames, rate)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}"

    lines = ["TITLE: sage", "FCM: NON-DROP FRAME"]
    placed = 0
    for number, span in enumerate(spans, start=1):
        start = round(span[0] * fps)
        end = max(round(span[1] * fps), start + 1)
        lines.append(f"{number:03}  AX       V     C        {code(start)} {code(end)} {code(placed)} {code(placed + end - start)}")
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

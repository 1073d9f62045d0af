"""Synthetic worlds as video files: H.264 and Opus or AAC in MP4, by PyAV; and the clips of ``sage demo``.

python -m training.clips --out src/sage_cli/assets/demo
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from training import entry
from training.speech import SAMPLE_RATE, soundtrack
from training.world import Line, Scene, Thing, World


def write_clip(
    world: World, path: Path, *, voice: str = "en-us", size: int = 192, rate: int = 4, sound: str | None = "libopus", crf: int = 30
) -> Path:
    """Write a world as a video.

    Args:
        voice: of the speaker.
        size: pixels a side.
        rate: frames a second.
        sound: the encoder of the sound track; ``None`` leaves it out. Opus makes the smallest file, ``aac`` is ten times faster on silence.
        crf: x264's quality; higher is smaller.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=rate)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(crf), "preset": "veryfast", "g": str(rate * 30)}
        audio = container.add_stream(sound, rate=SAMPLE_RATE, layout="mono") if sound else None
        if audio is not None:
            audio.bit_rate = 16_000 if sound == "libopus" else 32_000
            audio.options = {"aac_coder": "fast"} if sound == "aac" else {}
        for number in range(round(world.duration * rate)):
            frame = av.VideoFrame.from_ndarray(world.render(number / rate, size), format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _mux_sound(container, audio, soundtrack(world, voice))
    return path


def _mux_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: NDArray[np.float32]) -> None:
    for at in range(0, len(sound), SAMPLE_RATE):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None, at : at + SAMPLE_RATE]), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = at
        frame.time_base = Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


# ---- the demo's clips ----------------------------------------------------------------------------------------------


def _scenes(*parts: tuple[float, float, str]) -> tuple[Scene, ...]:
    return tuple(Scene(start, end, Thing(*reversed(what.split())), seed) for seed, (start, end, what) in enumerate(parts))


def demo_worlds() -> dict[str, World]:
    """The worlds of the demo, by clip name."""
    short = World(12, _scenes((0, 4, "blue circle"), (4, 8, "yellow triangle"), (8, 12, "red star")), (), (), (30, 20, 40))
    lines = (
        Line(3, 4.5, "Hello, I am Sophie.", "name", "Sophie"),
        Line(10, 12, "The secret number is seven.", "number", "seven"),
        Line(17, 18.5, "Welcome to Vienna.", "city", "Vienna"),
    )
    speech = World(24, _scenes((0, 13, "green square"), (13, 24, "white diamond")), (), lines, (20, 30, 45))
    flash = _scenes((463, 470, "purple star"))
    long = World(660, _scenes((0, 240, "orange circle"), (240, 480, "cyan cross"), (480, 660, "green triangle")), flash, (), (40, 30, 20))
    return {"short": short, "speech": speech, "long": long}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the clips of `sage demo`.")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, world in demo_worlds().items():
        path = write_clip(world, args.out / f"{name}.mp4", voice="en-gb+f3", sound="libopus" if world.lines else None)
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    entry.run(main)

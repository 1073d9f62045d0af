"""Find the chapters of a long synthetic video whose scenes are known, and measure memory: ``python -m benchmarks.chapters WORK``.

Each scene has colours of its own, in shots that alternate every few seconds, and subtitles about a subject of its own, with sentences that
could be said in any of them. A boundary counts as found if a chapter begins within 5 seconds of it. ``--model`` also writes the summary.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from sage_cli.session.chapters import find_chapters
from sage_cli.speech.subtitles import find_subtitles
from sage_cli.timecode import format_clock, format_clock_ms
from sage_cli.tools import complete
from sage_cli.video import Video

FPS, WIDTH, HEIGHT = 5, 160, 90
NEAR_S = 5.0

# A subject: what it is called, and words of it.
SUBJECTS = {
    "baking bread": "flour dough yeast oven crust kneading loaf baker sourdough salt proofing butter",
    "sailing": "sail mast harbour rudder wind anchor keel crew rope deck tide buoy",
    "beekeeping": "hive honey queen bees swarm nectar frame smoker pollen colony wax brood",
    "the night sky": "telescope star galaxy comet planet orbit eclipse nebula crater meteor lens constellation",
    "repairing bicycles": "chain brake wheel spoke pedal gear saddle tyre handlebar pump cable hub",
    "growing tomatoes": "tomato seedling greenhouse compost pruning watering trellis soil harvest basil pest sunlight",
    "medieval castles": "castle moat tower knight drawbridge siege dungeon banner lord armour gate stone",
    "railways": "train locomotive track signal carriage platform conductor timetable tunnel freight viaduct steam",
    "learning the violin": "violin bow string rosin melody tuning teacher scale orchestra fingers rhythm concert",
    "volcanoes": "volcano lava magma eruption ash crater earthquake basalt geyser plume rock vent",
    "the human heart": "heart artery valve blood pulse pressure surgeon vein rhythm oxygen muscle doctor",
    "photography": "camera lens shutter exposure portrait tripod aperture focus film darkroom contrast print",
    "chess": "bishop pawn queen rook opening endgame checkmate tournament clock castling gambit board",
    "coral reefs": "coral reef diver fish algae lagoon turtle plankton bleaching anemone current shark",
    "coffee": "coffee roast bean espresso grinder aroma filter barista plantation crema kettle cup",
    "glaciers": "glacier ice crevasse meltwater moraine fjord snow climate drill core valley iceberg",
    "puppet theatre": "puppet stage curtain marionette costume audience carver voice lantern script workshop applause",
    "typewriters": "typewriter ribbon key carriage lever letter paper margin platen bell mechanic office",
    "cheese": "cheese milk rennet curd whey cellar goat rind cow mould dairy shepherd",
    "lighthouses": "lighthouse lamp keeper fog cliff beam horn ship storm island reflector signal",
}
SENTENCES = (
    "Here you can see the {0} and, right beside it, the {1}.",
    "Without a good {0} there would be no {1} at all.",
    "People often ask me about the {0}, and I tell them to look at the {1} first.",
    "My grandmother taught me how the {0} works.",
    "It took years until we understood the {0}, the {1} and the {2}.",
    "Be careful with the {0}: the {1} is easily damaged.",
)
FILLERS = (
    "Let me show you this from another side.",
    "That was a long day for all of us.",
    "I have done this for more than twenty years now.",
    "And this is what most people do not know.",
    "We will come back to that question a little later.",
    "It is easier than it looks, believe me.",
)


@dataclass(frozen=True)
class World:
    """What the video shows.

    Attributes:
        scenes: start in seconds, and subject.
        cues: start and end in seconds, and text.
    """

    duration: float
    scenes: list[tuple[float, str]]
    cues: list[tuple[float, float, str]]


def make_world(hours: float, seed: int) -> World:
    rng = random.Random(seed)
    count = min(len(SUBJECTS), max(2, round(hours * 9)))
    lengths = [rng.uniform(180, 720) for _ in range(count)]
    scale = hours * 3600 / sum(lengths)
    subjects = rng.sample(sorted(SUBJECTS), count)
    scenes, cues, at = [], [], 0.0
    for subject, length in zip(subjects, lengths, strict=True):
        end = round(at + length * scale)
        scenes.append((at, subject))
        cues += _said(rng, subject, at, end)
        at = float(end)
    return World(at, scenes, cues)


def _said(rng: random.Random, subject: str, start: float, end: float) -> list[tuple[float, float, str]]:
    words = SUBJECTS[subject].split()
    at, cues = start + rng.uniform(0.3, 1.5), []
    while at < end - 6:
        text = rng.choice(FILLERS) if rng.random() < 0.3 else rng.choice(SENTENCES).format(*rng.sample(words, 3))
        length = 0.35 * len(text.split()) + 0.5
        cues.append((at, min(at + length, end - 0.5), text))
        at += length + (rng.uniform(6, 20) if rng.random() < 0.2 else rng.uniform(0.5, 4))
    return cues


def write_world(world: World, path: Path, seed: int, *, pictures: bool, words: bool) -> None:
    """Write the video, and its subtitles beside it."""
    rng = np.random.default_rng(seed)
    boundaries = [start for start, _ in world.scenes] + [world.duration]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", FPS, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 10 * FPS
        palette = rng.integers(20, 236, (3, 3))
        for start, end in pairwise(boundaries):
            if pictures:
                palette = rng.integers(20, 236, (3, 3))
            shots = [_shot(rng, palette) for _ in range(4)]
            left, shot = 0, shots[0]
            for number in range(round(start * FPS), round(end * FPS)):
                if left == 0:
                    left, shot = int(rng.integers(5, 26)) * FPS, shots[int(rng.integers(4))]
                left -= 1
                image = shot.copy()
                x, y = number * 3 % (WIDTH - 16), number * 2 % (HEIGHT - 16)
                image[y : y + 16, x : x + 16] = palette[2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    if words:
        lines = (f"{number}\n{_stamp(start)} --> {_stamp(end)}\n{text}\n" for number, (start, end, text) in enumerate(world.cues, start=1))
        path.with_suffix(".srt").write_text("\n".join(lines), encoding="utf-8")


def _shot(rng: np.random.Generator, palette: Any) -> Any:
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = palette[0]
    for _ in range(4):
        x, y = int(rng.integers(WIDTH - 40)), int(rng.integers(HEIGHT - 30))
        image[y : y + int(rng.integers(15, 60)), x : x + int(rng.integers(20, 90))] = palette[int(rng.integers(3))]
    return image


def _stamp(seconds: float) -> str:
    return format_clock_ms(seconds).replace(".", ",")


def score(world: World, starts: list[float]) -> tuple[int, int, int]:
    """Boundaries found, boundaries there are, chapters too many."""
    true = [start for start, _ in world.scenes[1:]]
    found = sum(any(abs(start - time) <= NEAR_S for start in starts) for time in true)
    extra = sum(start > 0 and not any(abs(start - time) <= NEAR_S for time in true) for start in starts)
    return found, len(true), extra


def measure(path: Path) -> dict[str, Any]:
    """Chapters of a video, in this process."""
    began = time.process_time()
    video = Video(path)
    subtitles = find_subtitles(video)
    chapters = complete(find_chapters(video, subtitles.cues if subtitles else (), 0.0, video.duration))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {"starts": [start for start, _ in chapters], "cpu_s": time.process_time() - began, "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--hours", type=float, nargs="+", default=[0.25, 2.0], metavar="H")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {platform.system()}\n")
    print("| scenes differ in | hours | boundaries | found within 5 s | too many | CPU s | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for hours in options.hours:
        for name, pictures, words in (("pictures", True, False), ("words", False, True), ("pictures and words", True, True)):
            for seed in range(options.seeds):
                world = make_world(hours, seed)
                path = options.work / f"{name.replace(' ', '-')}-{format_clock(world.duration).replace(':', '')}-{seed}.mp4"
                if not path.exists():
                    write_world(world, path, seed, pictures=pictures, words=words)
                command = [sys.executable, "-m", "benchmarks.chapters", str(options.work), "--measure", str(path)]
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                found, there, extra = score(world, told["starts"])
                print(f"| {name} | {hours:g} | {there} | {found} | {extra} | {told['cpu_s']:.1f} | {told['peak_mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()

"""Speed of reading frames spread over an hour, resized for the model, compared with OpenCV, decord and torchcodec.

Every side gets the same file, frame numbers and size, in its own process. The time covers everything from the path to the last resized
frame, without starting Python and importing. Runs are interleaved, so that a busy machine slows all alike.
A side with wrong frames, by presentation time or by content, is reported and not compared.

The files are made on the first run and kept (``--work``): 1080p, 25 frames a second, 3 to 4 Mbit/s, H.264 by x264 (``veryfast``, with the
B-frames that it chooses), a view that wanders over a texture with pieces of it moving across. Two minutes are encoded, with a keyframe
every two or every ten seconds, and their packets written again and again until the hour is full. That takes minutes, and 3 GB of disk.

decord and torchcodec are measured where they can be imported: ``pip install decord torchcodec``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sage_cli.video import Video, fit_size, uniform_times

FPS = 25
WIDTH, HEIGHT = 1920, 1080
SIZE = fit_size(WIDTH, HEIGHT, min_pixels=128 * 28 * 28, max_pixels=192 * 28 * 28, multiple=32)
ENCODED_S = 120
PATCHES, PATCH = 24, 160

Shown = Iterator[tuple[float, NDArray[np.uint8]]]  # presentation time in seconds; RGB of SIZE

# ---- files ---------------------------------------------------------------------------------------------------------


def texture(seed: int) -> NDArray[np.uint8]:
    """Structure of several sizes, twice as wide and high as the picture."""
    noise = np.random.default_rng(seed)
    image = np.full((HEIGHT * 2, WIDTH * 2), 128, np.float32)
    for size, strength in ((240, 60), (60, 40), (15, 12)):
        grid = noise.normal(size=(HEIGHT * 2 // size + 2, WIDTH * 2 // size + 2)).astype(np.float32)
        image += strength * cv2.resize(grid, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return image.clip(16, 235).astype(np.uint8)


def encode(path: Path, gop: int, frames: int) -> Path:
    planes = [texture(0), texture(1)[::2, ::2], texture(2)[::2, ::2]]
    paths = np.random.default_rng(3).uniform(0.002, 0.01, (PATCHES, 2))
    with av.open(str(path), "w") as output:
        stream = cast(VideoStream, output.add_stream("libx264", rate=FPS, options={"preset": "veryfast"}))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", gop
        for number in range(frames):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            left, top = int((1 + np.sin(number / 199)) * WIDTH / 2), int((1 + np.cos(number / 263)) * HEIGHT / 2)
            for plane, source, step in zip(frame.planes, planes, (1, 2, 2), strict=True):
                y, x, height, width = top // step, left // step, HEIGHT // step, WIDTH // step
                target = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
                target[:height, :width] = source[y : y + height, x : x + width]
                for patch, (across, down) in enumerate(paths):
                    x = int((1 + np.sin(patch + number * across)) * (WIDTH - PATCH) / 2) // step
                    y = int((1 + np.cos(patch + number * down)) * (HEIGHT - PATCH) / 2) // step
                    side = PATCH // step
                    target[y : y + side, x : x + side] = source[-side * (patch % 8 + 1) :, -side:][:side]
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def repeat(source: Path, target: Path, times: int) -> None:
    """The packets of a file again and again, as one long file."""
    part = target.with_suffix(".part.mp4")
    with av.open(str(part), "w") as output:
        stream = None
        for turn in range(times):
            with av.open(str(source)) as container:
                template = container.streams.video[0]
                stream = stream or output.add_stream_from_template(template)
                length = round(ENCODED_S / cast(Fraction, template.time_base))
                for packet in container.demux(template):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                        packet.stream = stream
                        output.mux(packet)
    part.replace(target)


def files(work: Path, minutes: int) -> dict[str, Path]:
    work.mkdir(parents=True, exist_ok=True)
    found = {}
    for seconds in (2, 10):
        long = work / f"{minutes}min-gop{seconds}.mp4"
        if not long.exists():
            print(f"making {long}", file=sys.stderr)
            piece = work / f"piece-gop{seconds}.mp4"
            if not piece.exists():
                encode(work / "piece.part.mp4", seconds * FPS, ENCODED_S * FPS).replace(piece)
            repeat(piece, long, minutes * 60 // ENCODED_S)
        found[f"{minutes} minutes, keyframe every {seconds} s"] = long
    clip = work / "clip-gop2.mp4"
    if not clip.exists():
        encode(work / "clip.part.mp4", 2 * FPS, 30 * FPS).replace(clip)
    return {**found, "30 seconds, keyframe every 2 s": clip}


def frame_numbers(path: Path, frames: int) -> list[int]:
    """Of the frames on screen at uniform times."""
    with av.open(str(path)) as container:
        count = container.streams.video[0].frames
    return [min(int(moment * FPS), count - 1) for moment in uniform_times(count / FPS, frames)]


# ---- sides ---------------------------------------------------------------------------------------------------------


def resized(image: Any) -> NDArray[np.uint8]:
    return cast("NDArray[np.uint8]", cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA))


def sage(path: Path, numbers: list[int]) -> Shown:
    for frame in Video(path).frames([number / FPS for number in numbers], SIZE):
        yield frame.time, frame.image


def sage_keyframes(path: Path, numbers: list[int]) -> Shown:
    for frame in Video(path).frames([number / FPS for number in numbers], SIZE, sampling="keyframe"):
        yield frame.time, frame.image


def opencv(path: Path, numbers: list[int]) -> Shown:
    capture = cv2.VideoCapture(str(path))
    for number in numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        _, image = capture.read()
        yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, cast("NDArray[np.uint8]", cv2.cvtColor(resized(image), cv2.COLOR_BGR2RGB))


def decord(path: Path, numbers: list[int]) -> Shown:
    import decord

    reader = decord.VideoReader(str(path), width=SIZE[0], height=SIZE[1])
    for number in numbers:
        image = reader[number].asnumpy()
        yield float(reader.get_frame_timestamp(number)[0]), image


def torchcodec(path: Path, numbers: list[int]) -> Shown:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0, seek_mode="approximate")
    for number in numbers:
        frame = decoder.get_frame_at(number)
        yield frame.pts_seconds, resized(frame.data.numpy())


PEERS: dict[str, Callable[[Path, list[int]], Shown]] = {"OpenCV": opencv, "decord": decord, "torchcodec": torchcodec}
SIDES = {"sage": sage, "sage, keyframes": sage_keyframes, **PEERS}


def child(side: str, path: Path, result: Path, frames: int) -> None:
    """Read the frames as one side does, and save the result."""
    numbers = frame_numbers(path, frames)
    if side not in ("sage", "sage, keyframes", "OpenCV"):
        __import__(side)
    began, worked = time.perf_counter(), time.process_time()
    shown = list(SIDES[side](path, numbers))
    spent: dict[str, Any] = {"seconds": time.perf_counter() - began, "processor": time.process_time() - worked}
    np.savez(result, **spent, times=[at for at, _ in shown], images=np.stack([image for _, image in shown])[:, ::8, ::8])


# ---- comparison ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    seconds: float
    processor: float  # seconds of processor time
    peak: float  # MB of resident memory
    times: NDArray[np.float64]
    images: NDArray[np.uint8]  # every eighth pixel


def measure(side: str, path: Path, frames: int) -> Run | str:
    """A run in its own process, or the reason for its failure."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.npz"
        command = [sys.executable, "-m", "benchmarks.frames", "--side", side, "--file", str(path), "--result", str(result)]
        command += ["--frames", str(frames)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        complaints = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if status:
            return complaints.strip().rpartition("\n")[2] or f"status {status}"
        with np.load(result) as found:
            scale = 1e-6 if sys.platform == "darwin" else 1e-3
            return Run(float(found["seconds"]), float(found["processor"]), usage.ru_maxrss * scale, found["times"], found["images"])


def wrong(run: Run, numbers: list[int], model: Run) -> str:
    """What is wrong with the frames, or nothing."""
    if len(run.times) != len(numbers) or np.abs(run.times - np.array(numbers) / FPS).max() > 0.5 / FPS:
        return "other frames than asked for"
    if np.abs(run.images.mean(axis=3) - model.images.mean(axis=3)).mean() > 6:  # resizing differs between the sides
        return "other pictures"
    return ""


def compare(title: str, path: Path, runs: int, frames: int, sides: Sequence[str]) -> Iterator[str]:
    """Rows of the table."""
    numbers = frame_numbers(path, frames)
    title = f"{len(numbers)} frames of {title}"
    found: dict[str, list[Run]] = {}
    failed: dict[str, str] = {}
    for _ in range(runs):
        for side in (side for side in sides if side not in failed):
            run = measure(side, path, frames)
            if isinstance(run, str):
                failed[side] = run
                continue
            found.setdefault(side, []).append(run)
            if side != "sage, keyframes" and (problem := wrong(run, numbers, found["sage"][0])):
                failed[side] = problem
    peers = {side: results for side, results in found.items() if side in PEERS and side not in failed}
    best = min(peers, key=lambda side: statistics.median(run.seconds for run in peers[side]))
    for side, results in found.items():
        ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in zip(results, peers[best], strict=False))
        work = statistics.median(ours.processor / theirs.processor for ours, theirs in zip(results, peers[best], strict=False))
        seconds, peak = statistics.median(run.seconds for run in results), statistics.median(run.peak for run in results)
        note = failed.get(side, "")
        if side == "sage, keyframes":
            away = np.abs(results[0].times[:, None] - np.array(numbers) / FPS).min(axis=0)
            note = f"{len(results[0].times)} frames, at most {away.max():.1f} s from the time asked for"
        yield f"| {title} | {side} | {ratio:.2f} | {work:.2f} | {seconds:.1f} s | {peak:.0f} MB | {note} |"
        title = ""
    for side in failed.keys() - found.keys():
        yield f"|  | {side} | | | | | not measured: {failed[side]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "sage-bench-frames", help="where the files are kept")
    parser.add_argument("--minutes", type=int, default=60, help="length of the long files")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=128, help="how many to read, at most two a second")
    parser.add_argument("--only", type=int, choices=[0, 1, 2], help="one of the three files")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--make", action="store_true", help="make the files and stop")
    for internal in ("--side", "--file", "--result"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        child(options.side, Path(options.file), Path(options.result), options.frames)
        return
    made = files(options.work, options.minutes)
    if options.make:
        return
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; PyAV {av.__version__}, {', '.join(_versions())}; "
        f"frames of {SIZE[0]}x{SIZE[1]}, medians of {options.runs} interleaved runs\n"
    )
    print("| file | side | wall time / best peer's | processor time | wall time | peak memory | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number, (title, path) in enumerate(made.items()):
        if options.only in (None, number):
            for row in compare(title, path, options.runs, options.frames, options.sides):
                print(row, flush=True)


def _versions() -> Iterator[str]:
    for package in ("opencv-python-headless", "decord", "torchcodec"):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} missing"


if __name__ == "__main__":
    main()

"""How fast frames are read: ``python -m benchmarks.frames FILE...``.

Prints, for each file, the seconds to sample 128 uniform frames at the size a model sees them with ``sage_cli.video``, the same with OpenCV
seeking to each (what most programs do), and the ratio: below 1 is faster than OpenCV.
"""

from __future__ import annotations

import sys
import time

import cv2

from sage_cli.video import Video, fit_size, uniform_times

FRAMES = 128


def main(paths: list[str]) -> None:
    print(f"{'file':40} {'method':>6} {'sage':>8} {'OpenCV':>8} {'ratio':>6}")
    for path in paths:
        video = Video(path)
        times = uniform_times(video.duration, FRAMES)
        size = fit_size(video.width, video.height, min_pixels=128 * 28 * 28, max_pixels=192 * 28 * 28, multiple=32)
        video.frames(times[:1], size)  # the keyframe index is built once a file; OpenCV builds its own when it opens

        began = time.perf_counter()
        reader = video.frames(times, size)
        for _ in reader:
            pass
        ours = time.perf_counter() - began

        began = time.perf_counter()
        capture = cv2.VideoCapture(path)
        for moment in times:
            capture.set(cv2.CAP_PROP_POS_MSEC, moment * 1000)
            ok, image = capture.read()
            if ok:
                cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size, interpolation=cv2.INTER_AREA)
        theirs = time.perf_counter() - began
        print(f"{path[-40:]:40} {reader.method:>6} {ours:8.2f} {theirs:8.2f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Damage small media files and run ``sage ask`` and ``sage transcribe`` on them: no crash, no hang, bounded memory, no leftover files.

Some 40 valid files in as many containers and codecs are each damaged in 10 ways. A run passes if its exit code is documented, it prints at
most three lines on stderr, stays within limits of time and memory, and leaves no unrequested file. Failed runs are listed; their files are
kept in WORK/problems.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("SVT_LOG", "0")  # read when its library is loaded

import av
import numpy as np

from tests.media import numbered

MEMORY = 1_500_000_000  # bytes
LINES = 3
CODES = {"ask": {0, 4, 5}, "transcribe": {0, 4}}  # of these commands: answered, no answer within the limits, unreadable media
RATE, FPS, SECONDS, SIZE = 48000, 25, 2, (96, 64)
_ENCODERS = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12", "svtav1-params": "lookahead=0"}}


# ---- valid files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A kind of file: its suffix and the encoders of its streams; ``""`` for none."""

    suffix: str
    video: str
    audio: str

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.suffix, self.video, self.audio) if part)


_KINDS = """
mp4|libx264|aac
mp4|libx265|aac
mp4|mpeg4|libmp3lame
mp4|libsvtav1|libopus
mp4|libx264|
mov|libx264|alac
mov|prores|pcm_s16le
mov|mjpeg|pcm_s24le
3gp|libx264|aac
mkv|libx264|flac
mkv|libx265|ac3
mkv|mpeg2video|mp2
mkv|ffv1|pcm_f32le
mkv|libvpx-vp9|libopus
avi|huffyuv|pcm_s16le
mkv|libx264|eac3
webm|libvpx|libopus
webm|libvpx-vp9|libopus
webm|libsvtav1|libopus
avi|mpeg4|libmp3lame
avi|mjpeg|pcm_s16le
avi|msmpeg4v2|mp2
avi|libx264|ac3
ts|libx264|aac
ts|mpeg2video|mp2
ts|libx265|ac3
mpg|mpeg1video|mp2
vob|mpeg2video|ac3
flv|libx264|aac
flv|flv|libmp3lame
wmv|wmv2|libmp3lame
asf|msmpeg4|mp2
nut|mpeg4|pcm_s16le
mxf|mpeg2video|pcm_s16le
gif|gif|
wav||pcm_s16le
wav||pcm_f32le
mp3||libmp3lame
flac||flac
ogg||libopus
opus||libopus
m4a||aac
m4a||alac
aac||aac
ac3||ac3
aiff||pcm_s16be
au||pcm_mulaw
caf||pcm_s16le
mka||libopus
"""
SAMPLES = tuple(Sample(*row.split("|")) for row in _KINDS.split())


def make(sample: Sample, folder: Path) -> Path | None:
    """Write a valid file of two seconds; ``None`` if this build of FFmpeg has no such encoder."""
    path = folder / f"{sample.name}.{sample.suffix}"
    try:
        with av.open(str(path), "w") as container:
            video = audio = None
            if sample.video:
                video = container.add_stream(sample.video, rate=FPS)
                video.width, video.height = SIZE
                formats = video.codec_context.codec.video_formats or ()
                names = [one.name for one in formats]
                video.pix_fmt = "yuv420p" if not names or "yuv420p" in names else names[0]
                if sample.video == "mjpeg":
                    video.pix_fmt = "yuvj420p"
                video.options = _ENCODERS.get(sample.video, {})
            if sample.audio:
                audio = container.add_stream(sample.audio, rate=RATE, layout="stereo")
            if video is not None:
                for number in range(SECONDS * FPS):
                    frame = av.VideoFrame.from_ndarray(numbered(number, SIZE), format="rgb24").reformat(format=video.pix_fmt)
                    frame.pts, frame.time_base = number, Fraction(1, FPS)
                    container.mux(video.encode(frame))
                container.mux(video.encode(None))
            if audio is not None:
                _write_sound(container, audio)
    except (av.FFmpegError, ValueError, TypeError):
        path.unlink(missing_ok=True)
        return None
    return path


def _write_sound(container: Any, audio: Any) -> None:
    """A voice-like sound: it swells and fades twice a second."""
    at = np.arange(SECONDS * RATE) / RATE
    sound = (0.5 * np.sin(2 * np.pi * 180 * at) * np.abs(np.sin(2 * np.pi * at)) * 32767).astype(np.int16)
    source = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
    source.sample_rate, source.pts = RATE, 0
    context = audio.codec_context
    resampler = av.AudioResampler(context.format, context.layout, context.rate or RATE, frame_size=context.frame_size or 1024)
    for frame in [*resampler.resample(source), *resampler.resample(None)]:
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


# ---- damage --------------------------------------------------------------------------------------------------------

Damage = Callable[[bytearray, random.Random], bytes]


def _place(data: bytearray, rng: random.Random, length: int = 1) -> int:
    return rng.randrange(max(1, len(data) - length))


def cut(data: bytearray, rng: random.Random) -> bytes:
    """Ends somewhere in the middle."""
    return bytes(data[: _place(data, rng)])


def flipped(data: bytearray, rng: random.Random) -> bytes:
    """One bit in a thousand bytes is wrong, at least three."""
    for _ in range(max(3, len(data) // 1000)):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def zeroed(data: bytearray, rng: random.Random) -> bytes:
    """A block is zeros, as after a bad sector."""
    length = min(4096, max(1, len(data) // 4))
    at = _place(data, rng, length)
    data[at : at + length] = bytes(length)
    return bytes(data)


def swapped(data: bytearray, rng: random.Random) -> bytes:
    """Two quarters have changed places."""
    quarter = len(data) // 4
    first, second = sorted(rng.sample(range(4), 2))
    parts = [data[index * quarter : (index + 1) * quarter] for index in range(4)] + [data[4 * quarter :]]
    parts[first], parts[second] = parts[second], parts[first]
    return b"".join(parts)


def huge(data: bytearray, rng: random.Random) -> bytes:
    """A size field in the head says 2 GiB or 4 GiB."""
    at = rng.randrange(min(len(data), 2048) - 4)
    data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80"))
    return bytes(data)


def garbage(data: bytearray, rng: random.Random) -> bytes:
    """Something else follows."""
    return bytes(data) + rng.randbytes(20_000)


def suffix(data: bytearray, _rng: random.Random) -> bytes:
    """The name says another format."""
    return bytes(data)


def head(data: bytearray, rng: random.Random) -> bytes:
    """Only the head was copied."""
    return bytes(data[: rng.choice((16, 200, 1000, 4000))])


def tail(data: bytearray, _rng: random.Random) -> bytes:
    """The second half is zeros, as after a download that reserved its space; and more zeros follow."""
    return bytes(data[: len(data) // 2]) + bytes(len(data) // 2 + 2_000_000)


def repeated(data: bytearray, rng: random.Random) -> bytes:
    """A stretch comes twice."""
    at = _place(data, rng)
    return bytes(data[:at]) + bytes(data[at // 2 :])


DAMAGES: tuple[Damage, ...] = (cut, flipped, zeroed, swapped, huge, garbage, suffix, head, tail, repeated)
_WRONG = {"mp4": "wav", "wav": "mp4", "mkv": "mp3"}


# ---- runs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The outcome of a run and its problems."""

    command: str
    media: Path
    damage: str
    code: int
    seconds: float
    cpu: float
    memory: int
    stderr: str
    problems: tuple[str, ...]


def damaged(sample: Path, damage: Damage, seed: int, folder: Path) -> Path:
    """A damaged copy, determined by the seed."""
    rng = random.Random(f"{sample.name} {damage.__name__} {seed}")
    ending = _WRONG.get(sample.suffix[1:], "avi") if damage is suffix else sample.suffix[1:]
    path = folder / f"{sample.stem}.{damage.__name__}.{ending}"
    path.write_bytes(damage(bytearray(sample.read_bytes()), rng))
    return path


def run(command: str, media: Path, damage: str, work: Path, limit_s: float) -> Run:
    """Run ``sage`` on a file in an empty folder, with the bundled models, and check everything it did."""
    place = Path(tempfile.mkdtemp(dir=work))
    scratch, out = place / "scratch", place / "out"
    scratch.mkdir()
    out.mkdir()
    asked = [str(media), "What is it?", "--frames", "4"] if command == "ask" else [str(media), "-o", str(out / "x.srt")]
    settings = {"TMPDIR": str(scratch), "SAGE_CACHE_DIR": str(work / "cache"), "SAGE_CONFIG": str(place / "none.toml")}
    began = time.monotonic()
    with (place / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "sage_cli", command, *asked, "--model", "nano", "--quiet", "--threads", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **settings},
            cwd=out,
        )
        code, usage = _wait(process, limit_s)
    seconds, said = time.monotonic() - began, (place / "stderr").read_text(errors="replace")
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    left = [path.name for path in (*scratch.rglob("*"), *out.rglob("*")) if path.name != "x.srt" or code != 0]
    problems = []
    if code is None:
        problems.append(f"no end after {limit_s:.0f} s")
    elif code not in CODES[command]:
        problems.append(f"exit code {code}")
    if said.count("\n") > LINES or "Traceback" in said or "bug in sage" in said:
        problems.append("stderr")
    if memory > MEMORY:
        problems.append(f"{memory / 1e9:.1f} GB")
    if left:
        problems.append(f"left {', '.join(left)}")
    shutil.rmtree(place)
    cpu = usage.ru_utime + usage.ru_stime
    return Run(command, media, damage, -1 if code is None else code, seconds, cpu, memory, said, tuple(problems))


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> tuple[int | None, Any]:
    """The exit code (``None`` after a timeout) and the resources used."""
    end = time.monotonic() + limit_s
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.monotonic() > end:
            process.kill()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            return None, usage
        time.sleep(0.02)


def campaign(samples: Sequence[Path], damages: Sequence[Damage], work: Path, *, seed: int, jobs: int, limit_s: float) -> Iterator[Run]:
    """Ask about and transcribe every file with every damage; delete files whose runs passed."""
    (problems := work / "problems").mkdir(parents=True, exist_ok=True)

    def both(case: tuple[Path, Damage]) -> list[Run]:
        sample, damage = case
        media = damaged(sample, damage, seed, work)
        runs = [run(command, media, damage.__name__, work, limit_s) for command in CODES]
        if any(one.problems for one in runs):
            media.replace(problems / media.name)
        else:
            media.unlink()
        return runs

    with ThreadPoolExecutor(jobs) as pool:
        for runs in pool.map(both, [(sample, damage) for sample in samples for damage in damages]):
            yield from runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "sage-damage", metavar="WORK")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="longest that a run may take")
    parser.add_argument("--only", default="", metavar="TEXT", help="only samples whose names hold this")
    options = parser.parse_args()
    work = options.work.resolve()
    (folder := work / "samples").mkdir(parents=True, exist_ok=True)
    wanted = [sample for sample in SAMPLES if options.only in sample.name]
    samples = [path for sample in wanted if (path := make(sample, folder))]
    print(f"{len(samples)} files, {len(DAMAGES)} damages, seed {options.seed}; {platform.machine()}, {os.cpu_count()} cores", flush=True)
    runs: list[Run] = []
    for one in campaign(samples, DAMAGES, work, seed=options.seed, jobs=options.jobs, limit_s=options.limit):
        runs.append(one)
        if one.problems:
            last = " / ".join(one.stderr.strip().splitlines()[-4:])
            print(f"PROBLEM {one.command} {one.media.name}: {'; '.join(one.problems)}: {last[:500]}", flush=True)
    print(report(runs))
    raise SystemExit(any(one.problems for one in runs))


def report(runs: Sequence[Run]) -> str:
    """The figures as Markdown."""
    lines = ["| command | runs | exit codes | most CPU | longest | most memory | most lines | problems |", "| --- |" + " --- |" * 7]
    for command in CODES:
        own = [one for one in runs if one.command == command]
        if own:
            codes = ", ".join(f"{code}: {count}" for code, count in sorted(Counter(one.code for one in own).items()))
            cells = (
                command,
                len(own),
                codes,
                f"{max(one.cpu for one in own):.1f} s",
                f"{max(one.seconds for one in own):.0f} s",
                f"{max(one.memory for one in own) / 1e6:.0f} MB",
                max(one.stderr.count("\n") for one in own),
                sum(bool(one.problems) for one in own),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""The cost of a second question about a video, compared with llama.cpp's own programs.

Prints seconds from the loaded model to the first token, and tokens prefilled.

``python -m benchmarks.second_question WORK``, after ``python -m benchmarks.peers``. Every program gets the same model, text and frames at
the same size (as PNG files where files are needed), one slice per frame, and generates one token.

    sage            a first question with an empty cache, the second in another process
    llama-server    the same two questions to one server, whose slot then holds the frames; and to a server that was started again with the
                    slot's state from its --slot-save-path
    llama-mtmd-cli  the second question; it caches nothing

The programs take turns with the second question, which differs each time. Frames are noise and weights random, which does not change the
cost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.models import model
from benchmarks.peers import Cost
from benchmarks.report import median, show
from sage_cli.video import FrameTimeCache, Video, uniform_times
from tests.media import make_video

SIZE = (416, 224)
SYSTEM = "You watch a video and answer the question about it."
FIRST = "What is shown here, and where?"
CONTEXT = 4096


def second(number: int) -> str:
    return f"{('Why', 'How', 'When', 'Where')[number % 4]} did she leave the room?"


# ---- sage ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Cost of a question.

    Attributes:
        wall, processor: seconds from the loaded model to the first token, including reading frames.
        tokens, reused: of the prompt.
        encoded: frames.
    """

    wall: float
    processor: float
    tokens: int
    reused: int
    encoded: int


def ask_here(work: Path, path: Path, name: str, frames: int, threads: int, questions: list[str]) -> list[Asked]:
    """Ask in this process, as ``sage ask`` does."""
    from sage_cli.model.base import Frames, Message, Reply, Text
    from sage_cli.model.disk import ModelCache
    from sage_cli.model.llama import LlamaModel

    files = model(work, name)
    found = []
    cache = ModelCache(work / "cache")
    with LlamaModel(files.text, files.mmproj, context_size=CONTEXT, threads=threads, cache=cache) as loaded:
        for question in questions:
            began = Cost(time.perf_counter(), time.process_time())
            video = Video(path, cache=FrameTimeCache(work / "cache" / "times"))
            shown = tuple(video.frames(uniform_times(video.duration, frames), SIZE))
            prompt = [Message("system", (Text(SYSTEM),)), Message("user", (Frames(shown, pairs=False), Text(question)))]
            *_, reply = loaded.stream(prompt, max_tokens=1)
            assert isinstance(reply, Reply)
            cost, usage = Cost(time.perf_counter(), time.process_time()) - began, reply.usage
            found.append(Asked(cost.wall, cost.processor, usage.prompt_tokens, usage.prompt_reused, usage.images - usage.images_reused))
    return found


def ask(options: argparse.Namespace, path: Path, *questions: str) -> list[Asked]:
    """Ask in another process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.second_question",
        str(options.work),
        "--frames",
        str(options.frames),
        "--model",
        options.model,
    ]
    command += ["--threads", str(options.threads), "--child", str(path), *questions]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return [Asked(**record) for record in json.loads(told)]


# ---- the others ----------------------------------------------------------------------------------------------------


def peer_text(marker: str, times: list[float], question: str) -> str:
    """What sage writes for a Qwen3-VL, with markers where the frames go."""
    frames = "".join(f"<{at:.1f} seconds>{marker}" for at in times)
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{frames}{question}<|im_end|>\n<|im_start|>assistant\n"


def write_frames(work: Path, path: Path, count: int, size: tuple[int, int] = SIZE) -> tuple[list[Path], list[float]]:
    import cv2

    video = Video(path)
    files, times = [], []
    for number, frame in enumerate(video.frames(uniform_times(video.duration, count), size)):
        files.append(work / f"frame-{number:03}.png")
        cv2.imwrite(str(files[-1]), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        times.append(frame.time)
    return files, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="qwen3-vl-2b")
    parser.add_argument("--child", nargs="+", metavar="VIDEO QUESTION...", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work, threads = options.work, options.threads
    if options.child:
        path, *questions = options.child
        print(json.dumps([asdict(asked) for asked in ask_here(work, Path(path), options.model, options.frames, threads, questions)]))
        return

    files = model(work, options.model)
    path = make_video(work / "second.mp4", seconds=60, fps=25, size=(832, 448))
    images, times = write_frames(work, path, options.frames)
    pngs = [image.read_bytes() for image in images]
    shutil.rmtree(work / "cache", ignore_errors=True)
    sizes: dict[str, Any] = {"threads": threads, "context": CONTEXT}

    (first,) = ask(options, path, FIRST)
    same_process = ask(options, path, second(0), second(1))[1]
    ours: list[Asked] = []
    held: list[Cost] = []
    with peers.server(work, files.text, files.mmproj, **sizes) as running:
        server_first = running.first_token(peer_text(running.marker, times, FIRST), pngs, n_predict=1)
        running.post("/slots/0?action=save", {"filename": "second"})
        for number in range(options.runs):
            ours += ask(options, path, second(number))
            held.append(running.first_token(peer_text(running.marker, times, second(number)), pngs, n_predict=1))
    restored: list[Cost] = []
    with peers.server(work, files.text, files.mmproj, **sizes) as running:
        for number in range(options.runs):
            began = running.cost()
            running.post("/slots/0?action=restore", {"filename": "second"})
            restore = running.cost() - began
            restored.append(restore + running.first_token(peer_text(running.marker, times, second(number)), pngs, n_predict=1))

    # What loading costs is taken off by a run with one frame, so the first frame counts nothing.
    def plain(count: int) -> Cost:
        prompt = peer_text("<__media__>", times[:count], second(0)).partition("user\n")[2].partition("<|im_end|>")[0]
        return peers.cli(work, files.text, files.mmproj, prompt, images[:count], tokens=1, **sizes)

    nothing_kept = plain(len(images)) - plain(1)

    def told(asked: Asked) -> str:
        return f"it prefills {asked.tokens - asked.reused} of {asked.tokens} tokens and encodes {asked.encoded} frames"

    def row(who: str, first: Cost | Asked | None, later: Sequence[Cost | Asked]) -> list[str]:
        wall, processor = median([cost.wall for cost in later]), median([cost.processor for cost in later])
        times_ours = median([mine.processor for mine in ours]) / processor
        begun = f"{first.processor:.1f} s ({first.wall:.0f} s)" if first else ""
        return [who, begun, f"{processor:.2f} s ({wall:.1f} s)", f"{times_ours:.3f}"]

    show(
        f"Second question: {options.frames} frames of {SIZE[0]}x{SIZE[1]}, {options.model}",
        threads,
        ["processor (wall) time from loaded model to first token", "first question", "second question", "sage / this"],
        [
            row("sage, each in a process of its own", first, ours),
            row("llama-server, both to one process", server_first, held),
            row("llama-server, started again, slot restored", None, restored),
            row("llama-mtmd-cli, which keeps nothing", None, [nothing_kept]),
        ],
        f"sage's second question costs 1/{first.processor / median([asked.processor for asked in ours]):.0f} of its first. "
        f"In another process {told(ours[-1])}; in the same one {told(same_process)}.",
    )


if __name__ == "__main__":
    main()

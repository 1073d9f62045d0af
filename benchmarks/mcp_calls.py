"""Memory of ``sage mcp`` over many calls, and how soon it is free after a cancelled one: ``python -m benchmarks.mcp_calls``.

Starts the server as a client does, through the SDK of the Model Context Protocol. The calls are of all kinds and answered by the bundled
model. Then the first call of a server is cancelled, at moments that are spread over the time it takes: while the model is loaded, frames
are read and encoded, the prompt is decoded, a reply is written, speech is transcribed. The time counts from the cancel notification until
the server has answered another call (frames of a video that it knows), less what that call takes by itself. The client's own call ends at
once; the protocol has no answer to a cancelled request. ``--model`` names another model for the questions, which spends seconds in single
native calls; ``--cold`` drops its files from the page cache before each.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters, stdio_client

from benchmarks.report import median, show
from sage_cli.assets import CLIPS, NANO

LONG = {"video": "long.mp4", "question": "What appears between 07:43 and 07:50?"}
QUESTION = {"video": "short.mp4", "question": "Which shape appears last?"}
FRAMES = {"video": "short.mp4", "times": ["1", "2"]}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ask", QUESTION),
    ("transcribe", {"media": "speech.mp4"}),
    ("frames", FRAMES),
    ("find_event", {"video": "short.mp4", "event": "a red circle"}),
    ("ask", LONG),
    ("list_models", {}),
)


def server(work: Path, threads: int, words: Sequence[str]) -> Any:
    words = ["-m", "sage_cli", "mcp", str(CLIPS), "--threads", str(threads), "--timeout", "0", "--quiet", *words]
    environment = {name: str(work / name) for name in ("SAGE_CACHE_DIR", "SAGE_MODELS_DIR", "SAGE_CONFIG")}
    return stdio_client(StdioServerParameters(command=sys.executable, args=words, env=environment))


def resident() -> float:
    """MB of the server, which is this process's only child."""
    return max(child.memory_info().rss for child in psutil.Process().children()) / 1e6


async def memory(work: Path, count: int, threads: int) -> list[list[str]]:
    rows = []
    async with Client(server(work, threads, ["--model", "nano"])) as client:
        for number in range(1, count + 1):
            name, arguments = CALLS[number % len(CALLS)]
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            if number in (len(CALLS) * 2, count // 2, count):
                rows.append([str(number), f"{resident():.0f} MB"])
    return rows


async def cancelled(work: Path, words: Sequence[str], threads: int, call: tuple[str, dict[str, Any]], after: float) -> tuple[float, float]:
    """Seconds until a new server is free again when its first call is cancelled, and how long the call lasted: ``after`` at most."""
    with tempfile.TemporaryDirectory(dir=work) as cache:
        async with Client(server(Path(cache), threads, words)) as client:
            await client.call_tool("frames", FRAMES)
            began = time.perf_counter()
            with anyio.move_on_after(after):
                await client.call_tool(*call)
            ended = time.perf_counter()
            await client.call_tool("frames", FRAMES)
            free = time.perf_counter()
            await client.call_tool("frames", FRAMES)
            return max(0.0, (free - ended) - (time.perf_counter() - free)), ended - began


async def cancellations(work: Path, words: Sequence[str], threads: int, runs: int, within: float, cold: Sequence[Path]) -> list[list[str]]:
    rows = []
    for name, call in (("ask", ("ask", LONG)), ("transcribe", ("transcribe", {"media": "speech.mp4"}))):
        drop(cold)
        _, whole = await cancelled(work, words, threads, call, after=within)
        waits = []
        for number in range(runs):
            drop(cold)
            after = whole * (number + 0.5) / runs
            wait, _ = await cancelled(work, words, threads, call, after)
            print(f"{name} cancelled after {after:.2f} s of {whole:.1f} s: free after {wait:.2f} s", file=sys.stderr, flush=True)
            waits.append(wait)
        rows.append([name, f"{'over ' * (whole >= within)}{whole:.1f} s", f"{median(waits):.2f} s", f"{max(waits):.2f} s"])
    return rows


def drop(files: Sequence[Path]) -> None:
    """Drop files from the page cache (Linux)."""
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--model", default="nano", help="of the cancelled questions")
    parser.add_argument("--mmproj", help="of that model")
    parser.add_argument("--frames", type=int, default=16, help="of the cancelled questions")
    parser.add_argument("--runs", type=int, default=10, help="cancelled calls of each kind")
    parser.add_argument("--within", type=float, default=60.0, help="seconds of the first call in which it is cancelled")
    parser.add_argument("--cold", action="store_true", help="read the model from the disk each time")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    words = ["--model", options.model, *(["--mmproj", options.mmproj] if options.mmproj else [])]
    words += ["--frames", str(options.frames), "--speech-model", str(NANO.speech)]
    cold = [Path(file) for file in (options.model, options.mmproj) if file] if options.cold else []
    with tempfile.TemporaryDirectory() as folder:
        rows = anyio.run(memory, Path(folder), options.calls, options.threads) if options.calls else []
        waits = anyio.run(cancellations, Path(folder), words, options.threads, options.runs, options.within, cold)
    if rows:
        show("sage mcp: memory", options.threads, ["calls", "resident memory"], rows)
    title = f"sage mcp: free again after a cancelled call ({Path(options.model).stem}{', cold' if cold else ''}; {options.runs} runs)"
    show(title, options.threads, ["first call", "takes", "median", "longest"], waits)


if __name__ == "__main__":
    main()

"""Memory of ``sage mcp`` over many calls, and how soon it is free after a cancelled one: ``python -m benchmarks.mcp_calls``.

Starts the server as a client does, through the SDK of the Model Context Protocol. The calls are of all kinds and answered by the bundled
model. Then a question is cancelled several times, and the time counts until the next call is answered: before it, the cancelled one has to
let go of the session. With ``--model`` those questions go to another model, which spends seconds in single native calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters, stdio_client

from benchmarks.report import machine, median, show
from sage_cli.assets import CLIPS

QUESTION = {"video": "short.mp4", "question": "Which shape appears last?"}
FRAMES = {"video": "short.mp4", "times": ["1", "2"]}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ask", QUESTION),
    ("transcribe", {"media": "speech.mp4"}),
    ("frames", FRAMES),
    ("find_event", {"video": "short.mp4", "event": "a red circle"}),
    ("ask", {"video": "long.mp4", "question": "What appears between 07:43 and 07:50?"}),
    ("list_models", {}),
)


def server(work: Path, model: str, threads: int) -> Any:
    words = ["-m", "sage_cli", "mcp", str(CLIPS), "--model", model, "--threads", str(threads), "--timeout", "0", "--quiet"]
    environment = {name: str(work / name) for name in ("SAGE_CACHE_DIR", "SAGE_MODELS_DIR", "SAGE_CONFIG")}
    return stdio_client(StdioServerParameters(command=sys.executable, args=words, env=environment))


def resident() -> float:
    """MB of the server, which is this process's only child."""
    return max(child.memory_info().rss for child in psutil.Process().children()) / 1e6


async def memory(work: Path, count: int, threads: int) -> list[list[str]]:
    rows = []
    async with Client(server(work, "nano", threads)) as client:
        for number in range(1, count + 1):
            name, arguments = CALLS[number % len(CALLS)]
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            if number in (len(CALLS) * 2, count // 2, count):
                rows.append([str(number), f"{resident():.0f} MB"])
    return rows


async def cancellations(work: Path, model: str, runs: int, after: float, threads: int) -> list[float]:
    """Seconds from cancelling a question to the answer to the next call, less what that takes by itself."""
    waits = []
    async with Client(server(work, model, threads)) as client:
        await client.call_tool("frames", FRAMES)
        for _ in range(runs):
            with anyio.move_on_after(after):
                await client.call_tool("ask", {"video": "long.mp4", "question": "What appears between 07:43 and 07:50?"})
            began = time.perf_counter()
            await client.call_tool("frames", FRAMES)
            free = time.perf_counter()
            await client.call_tool("frames", FRAMES)
            waits.append((free - began) - (time.perf_counter() - free))
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--model", default="nano", help="of the cancelled questions")
    parser.add_argument("--runs", type=int, default=5, help="cancelled questions")
    parser.add_argument("--after", type=float, default=3.0, help="seconds after which a question is cancelled")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = anyio.run(memory, Path(folder), options.calls, options.threads) if options.calls else []
        waits = anyio.run(cancellations, Path(folder), options.model, options.runs, options.after, options.threads)
    if rows:
        show("sage mcp: memory", options.threads, ["calls", "resident memory"], rows)
    print(f"\n### sage mcp: free again after a cancelled question ({Path(options.model).stem})\n\n{machine(options.threads)}\n")
    print(f"median {max(0.0, median(waits)):.2f} s, longest {max(0.0, *waits):.2f} s of {options.runs}")


if __name__ == "__main__":
    main()

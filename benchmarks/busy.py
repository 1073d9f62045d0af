"""Decoding speed while other programs keep the processor busy, compared with llama-server: ``python -m benchmarks.busy WORK``.

Tokens of free text per second of wall time, with one thread per core, beside 0, 1 and 4 busy processes; with ``--reply`` instead characters
per second of a tool-calling reply under its schema, as ``sage ask`` writes them (see :mod:`benchmarks.decoding`).
llama.cpp's threads wait for each other after every operation; how they wait (see :mod:`sage_cli.hardware.openmp`) makes the difference.
Run it on an idle machine. Run after ``python -m benchmarks.peers``. ``--model NAME`` also takes real weights: WORK/NAME.gguf and
WORK/mmproj-NAME.gguf.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.decoding import SCHEMA
from benchmarks.models import model
from benchmarks.report import median, show

CONTEXT = 2048
STORY = "Tell a long story."
PROMPT = f"<|im_start|>user\n{STORY}<|im_end|>\n<|im_start|>assistant\n"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes at work."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def write_here(work: Path, name: str, threads: int, loads: Sequence[int], tokens: int) -> Iterator[float]:
    """Tokens per second in this process, for each number of busy processes; without ``tokens`` characters per second under the schema."""
    from sage_cli.model.base import Delta, Message, Reply, Text
    from sage_cli.model.llama import LlamaModel

    files, prompt = model(work, name), [Message("user", (Text(STORY),))]
    with LlamaModel(files.text, files.mmproj, context_size=CONTEXT, threads=threads, sharing=True, stop_loops=False) as loaded:

        def write() -> float:
            began, written = 0.0, 0
            for item in loaded.stream(prompt, max_tokens=tokens + 1):
                if isinstance(item, Delta):
                    began = began or time.perf_counter()
                    written += 1
            return (written - 1) / (time.perf_counter() - began)

        def reply(most: int = 1000) -> float:
            began = time.perf_counter()
            *_, item = loaded.stream(prompt, schema=SCHEMA, max_tokens=most)
            assert isinstance(item, Reply)
            return len(item.text) / (time.perf_counter() - began)

        if not tokens:
            reply(1)  # reads the prompt
        for load in loads:
            with busy(load):
                yield write() if tokens else reply()


def write_there(running: peers.Server, tokens: int) -> float:
    """The same in llama-server, without reading the prompt."""
    if tokens:
        return float(running.complete(PROMPT, [], n_predict=tokens + 1)["timings"]["predicted_per_second"])
    reply = running.complete(PROMPT, [], json_schema=SCHEMA, n_predict=1000)
    return 1000 * len(reply["content"]) / float(reply["timings"]["predicted_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--model", default="qwen3-vl-2b")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 4], help="numbers of busy processes")
    parser.add_argument("--tokens", type=int, default=16, help="of free text")
    parser.add_argument("--reply", dest="tokens", action="store_const", const=0, help="a reply under a schema instead of free text")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-server", action="store_true", help="without llama-server")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        for rate in write_here(options.work, options.model, options.threads, options.busy, options.tokens):
            print(rate, flush=True)
        return
    files = model(options.work, options.model)
    command = [sys.executable, "-m", "benchmarks.busy", str(options.work), "--child", "--model", options.model]
    command += ["--threads", str(options.threads), "--tokens", str(options.tokens), "--busy", *map(str, options.busy)]
    plain = peers.environment()
    # A user's own setting takes precedence; this one is the default of GNU's runtime.
    sides = {"sage": plain, "sage, spinning as by default": {**plain, "GOMP_SPINCOUNT": "300000"}}
    rates: dict[str, list[list[float]]] = {side: [] for side in (*sides, *(() if options.no_server else ("llama-server",)))}
    for _ in range(options.runs):
        for side, environment in sides.items():
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            rates[side].append([float(line) for line in told.split()])
        if options.no_server:
            continue
        with peers.server(options.work, files.text, files.mmproj, threads=options.threads, context=CONTEXT) as running:
            found = []
            for load in options.busy:
                with busy(load):
                    found.append(write_there(running, options.tokens))
            rates["llama-server"].append(found)

    def cell(side: str, at: int) -> str:
        ours = [run[at] for run in rates[side]]
        return f"{median(ours):.2f} ({median([mine[at] / run[at] for mine, run in zip(rates['sage'], rates[side], strict=True)]):.2f})"

    show(
        f"A busy machine: {options.model}, {options.runs} runs of {f'{options.tokens} tokens' if options.tokens else 'a reply'}",
        options.threads,
        [f"{'tokens' if options.tokens else 'characters'} a second (sage / this)", *(f"{load} busy processes" for load in options.busy)],
        [[side, *(cell(side, at) for at in range(len(options.busy)))] for side in rates],
    )


if __name__ == "__main__":
    main()

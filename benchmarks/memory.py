"""Memory of a question with 128 frames, besides the model: ``python -m benchmarks.memory WORK``.

The peak of ``sage ask`` until the first words of the reply, less that of a process that only loads the same model with the same KV cache.
The model is as wide as Qwen3-VL-2B and has its vocabulary, and so the same embeddings and logits, but fewer layers: only weights and KV
cells grow with those.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.models import model
from benchmarks.report import show
from tests.media import make_video

FRAMES = 128
CONTEXT = 12288
NAME = "qwen3-vl-2b-shallow"


def peak(command: list[str], until: bytes = b"") -> float:
    """Peak resident memory of a command, in MB; the command is stopped after a line that contains ``until``."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if until and not any(until in line for line in process.stdout):
            raise SystemExit(f"{' '.join(command)} did not get as far as {until!r}")
        if until:
            process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not until:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return usage.ru_maxrss * (1e-6 if sys.platform == "darwin" else 1.024e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = model(options.work, NAME)
    if options.load:
        from sage_cli.model.llama import LlamaModel

        LlamaModel(files.text, files.mmproj, context_size=CONTEXT, threads=options.threads).close()
        return
    path = make_video(options.work / "memory.mp4", seconds=128, fps=5, size=(832, 448))
    cache = options.work / "memory-cache"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ |= {"SAGE_CACHE_DIR": str(cache), "SAGE_CONFIG": str(options.work / "none.toml")}
    loaded = peak([sys.executable, "-m", "benchmarks.memory", str(options.work), "--threads", str(options.threads), "--load"])
    ask = [sys.executable, "-m", "sage_cli", "ask", str(path), "What is shown?", "-m", str(files.text), "--frames", str(FRAMES)]
    ask += ["--ctx-size", str(CONTEXT), "--threads", str(options.threads), "--no-tools", "--jsonl", "--timeout", "0"]
    most = peak(ask, b'"text_delta"')
    show(
        f"Memory: {FRAMES} frames, a context of {CONTEXT} tokens, {NAME}",
        options.threads,
        ["the loaded model and its KV cache", "with frames and prompt read", "difference"],
        [[f"{loaded:.0f} MB", f"{most:.0f} MB", f"{most - loaded:.0f} MB"]],
    )


if __name__ == "__main__":
    main()

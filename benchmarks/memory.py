"""How much memory a question with 128 frames takes beside the model: ``python -m benchmarks.memory WORK``.

The peak of a whole ``sage ask``, less that of a process that only loads the same model with the same KV cache. The model is as wide as
Qwen3-VL-2B and has its vocabulary, and so the same embeddings and logits, but fewer layers: only weights and KV cells grow with those.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.models import model
from benchmarks.report import show
from tests.media import make_video

FRAMES = 128
CONTEXT = 8192
NAME = "qwen3-vl-2b-shallow"


def peak(command: list[str], environment: dict[str, str]) -> float:
    """Most resident memory of a command that succeeds, or gives no answer, in MB."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 5):
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return megabytes(usage)


def megabytes(usage: resource.struct_rusage) -> float:
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
    environment = {**os.environ, "SAGE_CACHE_DIR": str(cache), "SAGE_CONFIG": str(options.work / "none.toml")}
    loaded = peak([sys.executable, "-m", "benchmarks.memory", str(options.work), "--threads", str(options.threads), "--load"], environment)
    ask = [sys.executable, "-m", "sage_cli", "ask", str(path), "What is shown?", "-m", str(files.text), "--frames", str(FRAMES)]
    ask += ["--ctx-size", str(CONTEXT), "--threads", str(options.threads), "--no-tools", "--quiet", "--timeout", "0"]
    rows = []
    shutil.rmtree(cache, ignore_errors=True)
    for run in "first question", "second question, another process":
        most = peak(ask, environment)
        rows.append([run, f"{most:.0f} MB", f"{most - loaded:.0f} MB"])
    show(
        f"Memory: {FRAMES} frames, a context of {CONTEXT} tokens, {NAME}",
        options.threads,
        ["run", "peak", f"above the loaded model and its KV cache ({loaded:.0f} MB)"],
        rows,
    )


if __name__ == "__main__":
    main()

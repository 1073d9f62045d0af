"""Run the benchmarks in order and print their figures as Markdown: ``python -m benchmarks WORK``; hours on a small machine.

WORK is a folder for models, videos and the programs to compare with, which are built in it if ``--llama-cpp`` names a source tree.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

# In the order of docs/performance.md. The others are building blocks, or need files that cannot be generated.
IN_WORK = ("second_question", "decoding", "speculation", "memory", "wall", "busy")
ALONE = ("frames", "transcripts", "startup")


def about() -> str:
    """One line about each module of the folder."""
    lines = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            lines.append(f"python -m benchmarks.{path.stem:<16} {summary}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=about(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?", metavar="WORK")
    parser.add_argument(
        "--llama-cpp", type=Path, metavar="SOURCE", help="source tree of llama.cpp, to build llama-server and llama-mtmd-cli from"
    )
    options = parser.parse_args()
    if options.work is None:
        print(about())
        return
    options.work.mkdir(parents=True, exist_ok=True)
    commands = [[name, str(options.work)] for name in IN_WORK] + [[name] for name in ALONE]
    if options.llama_cpp:
        commands.insert(0, ["peers", str(options.llama_cpp), str(options.work)])
    failed = [
        name for name, *words in commands if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], check=False).returncode
    ]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

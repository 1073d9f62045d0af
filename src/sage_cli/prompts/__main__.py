"""Print the tool lines of a checkout of allenai/SAGE as its system prompts hold them: ``python -m sage_cli.prompts FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from sage_cli.prompts.reference import reference_tools

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m sage_cli.prompts FOLDER")
    lines = reference_tools(Path(sys.argv[1]))
    if lines is None:
        raise SystemExit(f"{sys.argv[1]} is no checkout of allenai/SAGE: it has no tools")
    sys.stdout.write(f"<tools>\n{lines}\n</tools>\n")

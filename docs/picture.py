"""Pictures for the documentation, drawn from recorded runs: see ``docs/generate.py``.

``python -m docs.picture`` records the run again: the bundled model answers a question about a bundled clip.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from sage_cli.agent.events import Event

PICTURES = Path(__file__).parent / "pictures"
RECORDED = PICTURES / "run.jsonl"
QUESTION = "What appears between 07:43 and 07:50?"
COMMAND = f'sage ask long.mp4 "{QUESTION}" --model nano'
WIDTH = 95
# Rich's template loads a font from a server; a document must not.
TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono"'
)


def run_picture() -> str:
    """The recorded run as the live view leaves it on a terminal, as SVG."""
    from sage_cli.cli.renderers.plain import Styled
    from sage_cli.cli.renderers.terminal import Terminal

    # On a "dumb" terminal nothing changes in place.
    terminal = {"force_terminal": True, "color_system": "truecolor", "_environ": {"TERM": "dumb"}}
    console = Console(file=io.StringIO(), record=True, width=WIDTH, height=100, highlight=False, **terminal)  # type: ignore[arg-type]
    console.print(Text.assemble(("$ ", "dim"), COMMAND))
    with Terminal(Styled(console), console=console) as view:
        for line in RECORDED.read_text(encoding="utf-8").splitlines():
            view.show(_event(json.loads(line)))
    svg = console.export_svg(title="", code_format=TEMPLATE, unique_id="run")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _event(record: dict[str, Any]) -> Event:
    kinds = {kind.type: kind for kind in get_args(Event)}
    kind = kinds[record.pop("type")]
    event: Event = TypeAdapter(kind).validate_python(record)
    return event


def record() -> None:
    """Run the command and keep its events."""
    from sage_cli.assets import CLIPS

    words = [sys.executable, "-m", "sage_cli", "ask", "long.mp4", QUESTION, "--model", "nano", "--jsonl", "--quiet"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGE_")}
    environment |= {"SAGE_CONFIG": os.devnull, "SAGE_CACHE_LIMIT": "0"}
    done = subprocess.run(words, cwd=CLIPS, env=environment, check=True, capture_output=True, text=True)
    RECORDED.write_text(done.stdout, encoding="utf-8")


if __name__ == "__main__":
    record()
    (PICTURES / "run.svg").write_text(run_picture(), encoding="utf-8")

"""Functions have at most 80 lines, files at most 450."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "sage_cli"
FUNCTION_LINES: Final = 80
FILE_LINES: Final = 450

# What may be longer, and why.
LONGER: Final[dict[str, str]] = {}


def sizes() -> Iterator[tuple[str, int, int]]:
    """Every file and function by name, with its lines and the most it may have."""
    for path in sorted(SOURCE.rglob("*.py")):
        name, text = path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")
        yield name, len(text.splitlines()), FILE_LINES
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1, FUNCTION_LINES


def test_nothing_is_too_long() -> None:
    assert {name: lines for name, lines, most in sizes() if lines > most and name not in LONGER} == {}


def test_exceptions_are_needed() -> None:
    found = {name: lines > most for name, lines, most in sizes()}
    assert [name for name in LONGER if not found.get(name)] == []

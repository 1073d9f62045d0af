"""The texts the models are told, as files that a user can replace.

The files and their ``<<<placeholders>>>`` are laid out as in the reference implementation of SAGE, so a checkout of it can serve
as the directory: its ``sage/prompts`` then gives the wording that the SAGE-MM weights were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sage_cli.errors import UsageError

# Every prompt file (less its .txt) and the placeholders it may use.
PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "context_vlm": frozenset({"tools"}),
        "iterative_reasoner": frozenset({"tools"}),
        "iterative_reasoner_msg": frozenset({"previous_tool_call", "visual_context", "query", "video_info", "tools_so_far"}),
        "visual_temporal_grounding": frozenset({"event", "begin", "end"}),
        "analyze": frozenset(),
    }
)

# Where a prompt may lie below the directory given, which may be a checkout's root or `sage/prompts/sage` or between. The last wins.
_PLACES: Final = ("sage/prompts/sage", "sage/prompts", "prompts/sage", "prompts", "sage", "")
_PLACEHOLDER: Final = re.compile("<<<(.*?)>>>")


class Prompts:
    """The prompt texts in force.

    Args:
        directory: where replacements are looked for, under the same file names; a file that is not there keeps its built-in text.

    Raises:
        UsageError: the directory holds none of the files, or one of them is unreadable or has an unknown placeholder.
    """

    def __init__(self, directory: Path | None = None) -> None:
        package = files(__name__)
        self._texts = {name: package.joinpath(f"{name}.txt").read_text(encoding="utf-8") for name in PLACEHOLDERS}
        if directory is None:
            return
        found = {name: path for place in _PLACES for name in PLACEHOLDERS if (path := directory / place / f"{name}.txt").is_file()}
        if not found:
            raise UsageError(
                f"{directory}: no prompt file in it; it should hold one of {', '.join(f'{name}.txt' for name in PLACEHOLDERS)}"
            )
        for name, path in found.items():
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path}: cannot be read as UTF-8 text ({error}); fix the file or leave it out") from error
            if unknown := set(_PLACEHOLDER.findall(text)) - PLACEHOLDERS[name]:
                known = ", ".join(sorted(PLACEHOLDERS[name])) or "none"
                raise UsageError(f"{path}: unknown placeholder <<<{min(unknown)}>>>; known in this file: {known}")
            self._texts[name] = text

    def render(self, name: str, **values: str) -> str:
        """The prompt with its placeholders filled in. What is filled in is never searched for placeholders itself."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self._texts[name])

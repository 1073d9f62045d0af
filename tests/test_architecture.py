"""The picture in ``docs/architecture.md`` shows the layers of the import-linter contract; some calls are made in one place only."""

from __future__ import annotations

import re
from pathlib import Path

import tomlkit

from sage_cli.text import user_path
from sage_cli.tools import TITLES

ROOT = Path(__file__).parents[1]
SINGLE_FILES = {"errors", "nativelog", "output", "signals", "text", "timecode", "version", "assets"}


def test_the_picture_shows_todays_packages() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.partition("```\n")[2].partition("```")[0]
    packages = {path.name for path in (ROOT / "src" / "sage_cli").iterdir() if (path / "__init__.py").exists()}
    drawn = [sorted(packages & {*re.findall(r"│ (\w+)", line)}) for line in picture.splitlines()]
    contracts = tomlkit.parse((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [sorted({*layer.split(" | ")} - SINGLE_FILES) for layer in contracts[0]["layers"]]
    assert [layer for layer in drawn if layer] == [layer for layer in layers if layer]


def test_the_names_of_tools_are_written_once() -> None:
    """In the tool and in the wire format; elsewhere they are ``Tool.name``."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}
    for name in TITLES.keys() - {"analyze"}:  # which is also the name of a prompt
        written = [source for source, text in sources.items() if f'"{name}"' in text or f"no-tool {name}" in text]
        assert sorted(written) == sorted(["protocol.py", f"{name.replace('-', '_')}.py"])


def test_no_name_of_a_file_is_an_error_by_its_tilde() -> None:
    """``Path.expanduser`` raises RuntimeError for a file that is called ``~clip.mp4``: :func:`sage_cli.text.user_path` does not."""
    used = [path.name for path in (ROOT / "src").rglob("*.py") if ".expanduser()" in path.read_text(encoding="utf-8")]
    assert used == []
    assert (user_path("~/clip.mp4"), user_path("~clip.mp4")) == (Path.home() / "clip.mp4", Path("~clip.mp4"))

"""The examples of ``docs/python.md`` run, in the demo's folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sage_cli.assets import CLIPS

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(CLIPS)
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SAGE_THREADS", "1")
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 6
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), {})  # a test of documentation
    said = capsys.readouterr().out
    for line in (
        "A red star appears last.",
        "Which shape appears first? A blue circle appears first.",
        "The number is seven.",
        "The secret number is seven.",
        "16 frames, context",
        "cannot read the video: ",
    ):
        assert line in said

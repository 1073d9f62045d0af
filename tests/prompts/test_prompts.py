from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.errors import UsageError
from sage_cli.prompts import PACKS, PLACEHOLDERS, Prompts


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_built_in_prompts_use_their_placeholders(name: str) -> None:
    """All of them in some pack; what a pack leaves out, its models know without being told."""
    values = {placeholder: f"value of {placeholder}" for placeholder in PLACEHOLDERS[name]}
    texts = [Prompts(pack).render(name, **values) for pack in PACKS]
    text = "".join(texts)
    assert all(value in text for value in values.values())
    assert "<<<" not in text


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    text = Prompts().render("visual_temporal_grounding", event="<<<begin>>>", begin="00:00:00", end="00:00:10")
    assert "<<<begin>>>" in text


@pytest.mark.parametrize("place", ["", "sage", "prompts", "prompts/sage", "sage/prompts", "sage/prompts/sage"])
def test_replacements_are_found_at_any_depth_of_a_checkout(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "context_vlm.txt").write_text("Mine: <<<tools>>>", encoding="utf-8")
    prompts = Prompts(tmp_path)
    assert prompts.render("context_vlm", tools="none") == "Mine: none"
    assert prompts.render("analyze") == Prompts().render("analyze")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "context_vlm.txt").write_bytes("Mine:\r\n<<<tools>>>".encode(encoding))
    assert Prompts(tmp_path).render("context_vlm", tools="none") == "Mine:\nnone"


def test_the_layout_of_the_reference(tmp_path: Path) -> None:
    folder = tmp_path / "sage" / "prompts"
    (folder / "sage").mkdir(parents=True)
    for name in PLACEHOLDERS.keys() - {"analyze", "system", "visual_temporal_grounding"}:
        (folder / "sage" / f"{name}.txt").write_text(f"theirs {name}", encoding="utf-8")
    (folder / "visual_temporal_grounding.txt").write_text("theirs visual_temporal_grounding", encoding="utf-8")
    for directory in (tmp_path, tmp_path / "sage", folder):
        prompts = Prompts(directory)
        for name in PLACEHOLDERS.keys() - {"analyze", "system"}:
            assert prompts.render(name) == f"theirs {name}"


def test_a_directory_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompt file"):
        Prompts(tmp_path)


def test_an_unknown_placeholder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "context_vlm.txt").write_text("<<<tools>>> <<<query>>>", encoding="utf-8")
    with pytest.raises(UsageError, match="unknown placeholder <<<query>>>"):
        Prompts(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "analyze.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"analyze\.txt"):
        Prompts(tmp_path)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage_cli.assets import NANO
from sage_cli.errors import UsageError
from sage_cli.prompts import GENERAL, PACKS, TRAINED, Prompts, pack_for


@pytest.mark.parametrize(
    ("metadata", "name", "pack"),
    [
        ({"general.name": "SAGE MM Qwen3 VL 8B SFT_RL"}, "model", TRAINED),
        ({"general.basename": "SAGE-MM-Qwen2.5-VL"}, "ggml-q4", TRAINED),
        ({"general.name": "Qwen2.5 VL", "general.base_model.0.name": "SAGE MM Qwen2.5 VL 7B SFT_RL"}, "x", TRAINED),
        ({}, "sage-mm-8b-Q4_K_M", TRAINED),
        ({"general.name": "Qwen3-VL-8B-Instruct", "general.file_type": 15}, "Qwen3-VL-8B-Instruct-Q4_K_M", GENERAL),
        ({"general.name": "Sage Photographer", "tokenizer.model": "sage-mm"}, "sage", GENERAL),
    ],
)
def test_the_pack_follows_the_checkpoint(metadata: dict[str, object], name: str, pack: str) -> None:
    assert pack_for(metadata, name) == pack


def test_a_folder_replaces_files_of_the_models_pack(tmp_path: Path) -> None:
    (tmp_path / "analyze.txt").write_text("Look.", encoding="utf-8")
    prompts = Prompts(tmp_path, GENERAL)
    assert prompts.render("analyze") == "Look."
    assert prompts.style == Prompts(GENERAL).style
    assert prompts.digest != Prompts(GENERAL).digest


def test_a_folder_may_describe_tools_and_style(tmp_path: Path) -> None:
    (tmp_path / "tools.jsonl").write_text('{"type": "function", "function": {"name": "verbal_transcript"}}\n', encoding="utf-8")
    style = (Path(__file__).parents[2] / "src/sage_cli/prompts/packs/general/pack.toml").read_text(encoding="utf-8")
    (tmp_path / "pack.toml").write_text(style.replace("smallest_window_s = 10.0", "smallest_window_s = 3.0"), encoding="utf-8")
    prompts = Prompts(tmp_path, TRAINED)
    assert prompts.tool_lines(["verbal_transcript", "perform_reasoning"]).split("\n")[1:-1] == [
        '{"type": "function", "function": {"name": "verbal_transcript"}}'
    ]
    assert prompts.style.smallest_window_s == 3.0


def test_general_models_are_told_of_no_limit_that_there_is_not() -> None:
    """Whole transcripts and the video itself can be asked for."""
    tools = {name: json.loads(line)["function"] for name, line in Prompts(GENERAL).tools.items()}
    assert not any("minutes after" in tool["description"] for tool in tools.values())
    assert "or in all of it" in tools["verbal_transcript"]["description"]
    assert "of the video itself" in tools["perform_reasoning"]["parameters"]["properties"]["media_paths"]["description"]


def test_the_example_of_the_first_look_shows_nothing_that_could_be_copied_for_a_description() -> None:
    text = Prompts(GENERAL).render("context_vlm", tools="", video_path="a.mp4", begin="00:00:00", end="00:03:00")
    example = json.loads(text.rpartition("<json>")[2].partition("</json>")[0])
    assert example["video_context"] == "(the description of these frames)"
    [call] = example["recommended_tools"]["tool_calls"]
    assert call["arguments"] == {"video_path": "a.mp4", "timestamp_start": "00:00:00", "timestamp_end": "00:03:00"}


def test_a_pack_may_do_without_texts_that_another_has() -> None:
    have = {pack: {name for name in ("last_step", "no_sound", "no_speech") if Prompts(pack).render(name)} for pack in PACKS}
    assert have == {TRAINED: {"no_sound", "no_speech"}, GENERAL: {"last_step"}, NANO.name: {"last_step"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pack.toml", "replies = 3"),
        ("pack.toml", "[replies"),
        ("pack.toml", '[replies]\nfirst = []\n[tools]\n[frames."qwen3-vl"]\ncolour = 3'),
        ("tools.jsonl", "{}"),
        ("tools.jsonl", "not JSON"),
        ("tools.jsonl", "[" * 100_000),
        ("pack.toml", "a = " + "[" * 100_000),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=name):
        Prompts(tmp_path)


def test_a_pack_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such pack or folder; give sage-mm, general, nano"):
        Prompts(tmp_path / "sage-mn")

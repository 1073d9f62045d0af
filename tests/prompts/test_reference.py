"""A checkout of the reference gives the system prompt that the trained weights know, byte for byte.

The checkout is written here with texts of our own in its layout; what is made of it follows the facts of its ``format_tool_descs`` and
``_get_function_info``. `python -m sage_cli.prompts CHECKOUT` prints the same for a real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sage_cli.agent.protocol import tool_lines
from sage_cli.errors import UsageError
from sage_cli.prompts import PLACEHOLDERS, TRAINED, Prompts
from sage_cli.tools import TOOLS, web_tools
from sage_cli.web import Web, WebSettings

AUDIO = '''
from typing import Any, Dict
import whisperx  # nothing of a checkout is imported

def verbal_transcript(
    video_path: str,
    timestamp_start: str,
    timestamp_end: str,
) -> Dict[str, Any]:
    """
    Write down what is said, "word by word": caf\u00e9.
    A line with a trailing blank.\x20
    \x20\x20An indented one.

    Args:
        video_path: Path: to the file
        timestamp_start:
        timestamp_end: When to stop (HH:MM:SS)
    Returns:
        Dictionary: with the words
    """
    raise NotImplementedError
'''
SEARCH = '''
def unified_web_search(query: str, search_type: str = "web", num_results: int = 3):
    """Search."""

def parse_web_data(website_url: str, max_content_length: int = 5000) -> dict:
    """Read.

    Args:
       website_url: The address
       max_content_length: Most characters
    """

class Helper:
    def method(self, b: str): ...
'''
REASON = '''
from typing import List
LIMIT = 3

def perform_reasoning(query: str, media_paths: List[str], plain: list, whole: list[str], share: float, sure: bool = False,
                      untyped=None, computed: "str" = LIMIT):
    """Think. Args: are told below.

    Args:
        query: What to think about
        Args: a second section is not read
        share: never read
    """
'''

REQUESTS = """
import torch  # nothing of a checkout is imported

class Model:
    def _prepare_input(self, prompt, system_prompt=None):
        turn = {"role": "user", "content": "No."}
        if system_prompt is not None:
            messages = [{"role": "system", "content": system_prompt}]
        else:
            messages = [{"role": "system", "content": "Be brief with caf\u00e9s."}]
"""

# In the order of the functions; one line a tool.
TRANSCRIPT_LINE = (
    '{"type": "function", "function": {"name": "verbal_transcript", "description": "Write down what is said, \\"word by word\\": '
    'caf\u00e9.\\nA line with a trailing blank. \\n  An indented one.", "parameters": {"type": "object", "properties": {"video_path": '
    '{"type": "string", "description": "Path: to the file"}, "timestamp_start": {"type": "string", "description": ""}, "timestamp_end": '
    '{"type": "string", "description": "When to stop (HH:MM:SS)"}}, "required": ["video_path", "timestamp_start", "timestamp_end"]}}}'
)
SEARCH_LINE = (
    '{"type": "function", "function": {"name": "unified_web_search", "description": "Search.", "parameters": {"type": "object", '
    '"properties": {"query": {"type": "string", "description": ""}, "search_type": {"type": "string", "description": "", '
    '"default": "web"}, "num_results": {"type": "integer", "description": "", "default": 3}}, "required": ["query"]}}}'
)
READ_LINE = (
    '{"type": "function", "function": {"name": "parse_web_data", "description": "Read.", "parameters": {"type": "object", "properties": '
    '{"website_url": {"type": "string", "description": "The address"}, "max_content_length": {"type": "integer", '
    '"description": "Most characters", "default": 5000}}, "required": ["website_url"]}}}'
)
REASON_LINE = (
    '{"type": "function", "function": {"name": "perform_reasoning", "description": "Think.", "parameters": {"type": "object", '
    '"properties": {"query": {"type": "string", "description": ""}, "media_paths": {"type": "any", "description": ""}, "plain": '
    '{"type": "array", "description": ""}, "whole": {"type": "array", "description": ""}, "share": {"type": "number", '
    '"description": ""}, "sure": {"type": "boolean", "description": "", "default": false}, "untyped": {"type": "string", '
    '"description": "", "default": null}, "computed": {"type": "any", "description": "", "default": "unknown"}}, '
    '"required": ["query", "media_paths", "plain", "whole", "share"]}}}'
)
LINES = {"audio.py": [TRANSCRIPT_LINE], "search.py": [SEARCH_LINE, READ_LINE], "reason.py": [REASON_LINE]}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    prompts, tools = tmp_path / "sage" / "prompts", tmp_path / "sage" / "src" / "functions" / "tools"
    (prompts / "sage").mkdir(parents=True)
    tools.mkdir(parents=True)
    for name in ("context_vlm", "iterative_reasoner", "iterative_reasoner_msg"):
        holes = "\n".join(f"<<<{hole}>>>" for hole in sorted(PLACEHOLDERS[name] - {"facts", "video_path", "begin", "end"}))
        (prompts / "sage" / f"{name}.txt").write_text(f"Theirs {name}:\n\n{holes}", encoding="utf-8")
    (prompts / "visual_temporal_grounding.txt").write_text("Find <<<event>>> in <<<begin>>>-<<<end>>>", encoding="utf-8")
    for name, text in (("audio.py", AUDIO), ("search.py", SEARCH), ("reason.py", REASON)):
        (tools / name).write_text(text, encoding="utf-8")
    (tools / "notes.md").write_text("def nothing(): ...", encoding="utf-8")
    return tmp_path


def expected(checkout: Path) -> list[str]:
    [(_, _, names)] = os.walk(checkout / "sage" / "src" / "functions" / "tools")
    return [line for name in names for line in LINES.get(name, ())]


@pytest.mark.parametrize("place", ["", "sage", "sage/prompts", "sage/prompts/sage"])
def test_the_system_prompt_byte_for_byte(checkout: Path, place: str, tmp_path: Path) -> None:
    prompts = Prompts(checkout / place)
    tools = (*TOOLS, *web_tools(Web(WebSettings(), tmp_path / "web")))
    lines = "\n".join(["<tools>", *expected(checkout), "</tools>"])
    # perform_reasoning stands there with arguments of its own; what is told is theirs, what can be called is ours.
    assert tool_lines(prompts, tools) == lines
    assert prompts.render("context_vlm", tools=tool_lines(prompts, tools)) == f"Theirs context_vlm:\n\n{lines}"
    assert prompts.style == Prompts(TRAINED).style


@pytest.mark.parametrize("place", ["", "sage", "sage/prompts", "sage/prompts/sage"])
@pytest.mark.parametrize("module", ["qwen3_vl.py", "qwen_vl.py"])
def test_the_system_prompt_of_other_requests(checkout: Path, place: str, module: str) -> None:
    own, prompts = Prompts(TRAINED), Prompts(checkout / place)
    assert [prompts.render(name) for name in ("system", "analyze")] == [own.render(name) for name in ("system", "analyze")]
    (checkout / "sage" / "src" / "api").mkdir()
    (checkout / "sage" / "src" / "api" / module).write_text(REQUESTS, encoding="utf-8")
    prompts = Prompts(checkout / place)
    assert [prompts.render(name) for name in ("system", "analyze")] == ["Be brief with caf\u00e9s."] * 2
    (checkout / "sage" / "prompts" / "analyze.txt").write_text("Mine.", encoding="utf-8")
    assert Prompts(checkout / place).render("analyze") == ("Mine." if place != "sage/prompts/sage" else "Be brief with caf\u00e9s.")


def test_a_tool_that_is_not_there_is_not_told(checkout: Path) -> None:
    told = tool_lines(Prompts(checkout, "general"), [tool for tool in TOOLS if tool.name == "transcribe-speech"])
    assert told == f"<tools>\n{TRANSCRIPT_LINE}\n</tools>"


def test_the_command_that_compares(checkout: Path) -> None:
    command = [sys.executable, "-m", "sage_cli.prompts"]
    done = subprocess.run([*command, str(checkout)], capture_output=True, check=True)
    assert done.stdout.decode() == "\n".join(["<tools>", *expected(checkout), "</tools>", ""])
    failed = subprocess.run([*command, str(checkout / "sage" / "prompts" / "sage" / "x")], capture_output=True, check=False, text=True)
    assert failed.returncode == 1
    assert "no checkout" in failed.stderr


def test_a_byte_order_mark_is_no_part_of_a_module(checkout: Path) -> None:
    module = next((checkout / "sage" / "src" / "functions" / "tools").glob("*.py"))
    module.write_bytes(module.read_text(encoding="utf-8").encode("utf-8-sig"))
    assert tool_lines(Prompts(checkout), TOOLS)


def test_a_module_that_cannot_be_parsed_is_an_error(checkout: Path) -> None:
    (checkout / "sage" / "src" / "functions" / "tools" / "audio.py").write_text("def broken(", encoding="utf-8")
    with pytest.raises(UsageError, match=r"audio\.py: cannot be parsed"):
        Prompts(checkout)

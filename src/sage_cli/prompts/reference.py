"""What the code of a checkout of SAGE's reference implementation tells models, byte for byte: tool descriptions and a system prompt.

Its tools are the functions of the modules in ``sage/src/functions/tools``, and their descriptions are generated from the source: the
docstring up to ``Args:`` describes the tool, ``name: text`` lines after it describe the arguments, and annotations become JSON types.
The system prompt of all requests that have none of their own (``analyze``, ``ground-event``, direct questions) is a string in the modules
that prepare requests. The checkout's files are parsed; nothing in it is imported or run.

To compare the tools with a real checkout, run there (in its own environment) ::

    python -c "from sage.src.functions.utils.utils import *
    print(format_tool_descs(get_functions_from_folder('sage/src/functions/tools')[0]))"

and here ::

    python -m sage_cli.prompts CHECKOUT

Both print the same bytes.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sage_cli.errors import UsageError

# The folder of the code, relative to what may be given as prompts: the checkout's root, `sage`, `sage/prompts`, `sage/prompts/sage`.
_PLACES: Final = ("sage/src", "src", "../src", "../../src")
_TOOLS: Final = "functions/tools"
_REQUESTS: Final = ("api/qwen3_vl.py", "api/qwen_vl.py")

# Only bare names are understood there: `List[str]` is "any".
_TYPES: Final = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "None": "null",
}


def reference_tools(folder: Path) -> str | None:
    """The tool lines of a checkout, or ``None`` if the folder belongs to none.

    Raises:
        UsageError: one of its modules cannot be parsed.
    """
    place = _place(folder)
    if place is None:
        return None
    described = [function for path in _modules(place) for function in _functions(path)]
    return "\n".join(json.dumps({"type": "function", "function": function}, ensure_ascii=False) for function in described)


def reference_system(folder: Path) -> str | None:
    """The system prompt of requests that have none of their own, or ``None`` if the folder belongs to no checkout, or it is not found.

    It is the text in ``{"role": "system", "content": "..."}``.

    Raises:
        UsageError: one of the modules cannot be parsed.
    """
    place = _place(folder)
    modules = [path for name in _REQUESTS if place is not None and (path := place.parents[1] / name).is_file()]
    for node in (node for path in modules for node in ast.walk(_parsed(path)) if isinstance(node, ast.Dict)):
        pairs = zip(node.keys, node.values, strict=True)
        texts = {key.value: value.value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)}
        if texts.get("role") == "system" and isinstance(content := texts.get("content"), str):
            return content
    return None


def _place(folder: Path) -> Path | None:
    """The folder of the tools."""
    return next((found for place in _PLACES if (found := folder / place / _TOOLS).is_dir()), None)


def _modules(place: Path) -> Iterator[Path]:
    """In the order of ``os.walk``, which is the order of the tools there."""
    for root, _, names in os.walk(place):
        yield from (Path(root) / name for name in names if name.endswith(".py"))


def _functions(path: Path) -> list[dict[str, Any]]:
    return [_described(node) for node in _parsed(path).body if isinstance(node, ast.FunctionDef)]


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: cannot be parsed ({error}); check out allenai/SAGE anew") from error


def _described(node: ast.FunctionDef) -> dict[str, Any]:
    docstring = ast.get_docstring(node) or ""
    description, _, told = docstring.partition("Args:")
    # A second "Args:" would end the section.
    about = _arguments(told.partition("Args:")[0])
    arguments = [argument for argument in node.args.args if argument.arg != "self"]
    defaults: list[ast.expr | None] = [None] * (len(arguments) - len(node.args.defaults))
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument, default in zip(arguments, [*defaults, *node.args.defaults], strict=True):
        properties[argument.arg] = {"type": _type(argument.annotation), "description": about.get(argument.arg, "")}
        if default is None:
            required.append(argument.arg)
        else:
            properties[argument.arg]["default"] = default.value if isinstance(default, ast.Constant) else "unknown"
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": node.name, "description": description.strip(), "parameters": parameters}


def _arguments(section: str) -> dict[str, str]:
    """What each ``name: text`` line says."""
    about: dict[str, str] = {}
    for line in map(str.strip, section.split("\n")):
        name, colon, text = line.partition(":")
        if colon and name.strip() and text.strip() and not line.startswith("Returns:"):
            about[name.strip()] = text.strip()
    return about


def _type(annotation: ast.expr | None) -> str:
    if annotation is None:
        return "string"
    if isinstance(annotation, ast.Name):
        return _TYPES.get(annotation.id, "any")
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        return _TYPES.get(annotation.value.id, "any")
    return "any"

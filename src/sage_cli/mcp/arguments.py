"""The arguments of a tool: unknown ones are refused, and what is wrong is told in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import new_class
from typing import Any, Final, cast

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import ValidationError

_WORDS: Final = (  # of pydantic, and of people
    (r"^(\w+ )*?should ", "should "),  # "Input", "List" and so on are the argument, which is named
    (r"^(?!should )", "is wrong: "),
    (r" after validation|(?<=: )(Value error|Assertion failed), ", ""),
    (r", (unable to|got) .*", ""),
    (r"\ba valid string\b", "text"),
    (r"\ba valid integer\b", "a whole number"),
    (r"\ba valid boolean\b", "true or false"),
    (r"\b(an?) valid (?=[aeiou])", "an "),
    (r"\bvalid ", ""),
)


class StrictTool(Tool):
    """A tool of the SDK, which by itself drops unknown arguments and reports wrong ones as a page of the library that found them."""

    @classmethod
    def of(cls, function: Callable[..., Any], *, structured: bool = True) -> StrictTool:
        """A tool with the function's name, arguments and documentation."""
        tool = cls.from_function(function, structured_output=structured)
        loose = tool.fn_metadata.arg_model
        strict = cast("type[Any]", new_class(loose.__name__, (loose,), {"extra": "forbid"}))
        tool.fn_metadata.arg_model = strict
        tool.parameters = strict.model_json_schema(by_alias=True)
        return cast("StrictTool", tool)

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Run the tool.

        Raises:
            ToolError: the arguments are wrong, or the tool failed; without the tool's name in front, which the client knows.
        """
        try:
            return await super().run(arguments, context, convert_result=convert_result)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            cause = error.__cause__
            raise ToolError(self._told(cause) if isinstance(cause, ValidationError) else str(cause or error)) from cause

    def _told(self, error: ValidationError) -> str:
        unknown, missing = [], []
        wrong: dict[str, list[str]] = {}
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            name, message = str(one["loc"][0]), _plain(one["msg"])
            if one["type"] == "extra_forbidden":
                unknown.append(name)
            elif one["type"] == "missing":
                missing.append(name)
            elif message not in wrong.setdefault(name, []):  # once for each type that the argument may have
                wrong[name].append(message)
        # Each message is "should be ...", or a sentence of its own.
        parts = [f"{name} {' or '.join(messages)}".replace(" or should be ", " or ") for name, messages in wrong.items()]
        if missing:
            parts.insert(0, f"missing: {', '.join(missing)}")
        if unknown:
            parts.insert(0, f"unknown: {', '.join(unknown)}")
        known = ", ".join(self.fn_metadata.arg_model.model_fields) or "no arguments"
        return f"{'; '.join(parts)} ({self.name} takes {known})"


def _plain(message: str) -> str:
    """What pydantic says of a wrong value, as a sentence about the argument: ``should have at least 1 item, not 0``."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message

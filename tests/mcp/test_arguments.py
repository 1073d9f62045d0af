"""What is wrong with the arguments of a tool is told in plain sentences."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from sage_cli.mcp import tools
from sage_cli.mcp.arguments import _plain


def refuse(_text: str) -> str:
    raise ValueError("too late")


class Kinds(BaseModel):
    text: Annotated[str, Field(max_length=2)] = ""
    pattern: Annotated[str, Field(pattern="^a")] = "a"
    items: Annotated[list[int], Field(max_length=1)] = []
    count: Annotated[int, Field(gt=0)] = 1
    size: Annotated[float, Field(le=1)] = 1
    flag: bool = False
    choice: Literal["a", "b"] = "a"
    table: dict[str, int] = {}
    own: Annotated[str, AfterValidator(refuse)] = ""


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("text", "abc", "text should have at most 2 characters"),
        ("text", 1, "text should be text"),
        ("pattern", "b", "pattern should match pattern '^a'"),
        ("items", [1, 2], "items should have at most 1 item, not 2"),
        ("items", "x", "items should be a list"),
        ("count", 0, "count should be greater than 0"),
        ("count", 1.5, "count should be a whole number"),
        ("count", "x", "count should be a whole number"),
        ("size", 2, "size should be less than or equal to 1"),
        ("size", "x", "size should be a number"),
        ("size", None, "size should be a number"),
        ("flag", "x", "flag should be true or false"),
        ("choice", "c", "choice should be 'a' or 'b'"),
        ("table", 1, "table should be a dictionary"),
        ("own", "x", "own is wrong: too late"),
    ],
)
def test_every_kind_is_told_as_a_sentence(name: str, value: Any, told: str) -> None:
    """Regression: "times: expected List should have at least 1 item after validation"."""
    with pytest.raises(ValidationError) as raised:
        Kinds.model_validate({name: value})
    assert f"{name} {_plain(raised.value.errors()[0]['msg'])}" == told


def test_times_that_are_left_out() -> None:
    """Agents fill optional arguments with empty text."""
    assert [tools._time(given) for given in (None, "", " ", "0:02", 2)] == [None, None, None, 2, 2]

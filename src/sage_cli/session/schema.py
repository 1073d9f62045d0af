"""The user's JSON schema for answers, read and checked before a model is loaded."""

from __future__ import annotations

import json
from typing import Any, Final

from sage_cli.agent.structured import AnswerSchema
from sage_cli.errors import SageError, UsageError
from sage_cli.text import decode, user_path

_LARGEST: Final = 1 << 20  # bytes of a schema file

# What llguidance says, by its beginning or a part of it, and what it means here.
_REASONS: Final = {
    "coerce_one_of": "branches of its oneOf overlap: make them exclude each other, or use anyOf",
    "not present in a registry": "a $ref leads outside it: put what it refers to under $defs",
}


def read_schema(given: str) -> AnswerSchema:
    """Read the schema of the option: a file, or JSON itself.

    Raises:
        UsageError: it is neither, is not a JSON schema, or uses a keyword that replies cannot be constrained to.
        SageError: the file cannot be read.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    from sage_cli.model.constrain import check_schema

    inline = given.lstrip().startswith("{")
    name = "the schema" if inline else f"the schema {given}"
    try:
        schema: Any = json.loads(given if inline else _file(given))
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply") from error
    if not isinstance(schema, dict):
        raise UsageError(f'{name} is not a JSON schema: it has to be an object, such as {{"type": "object"}}')
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        check_schema(schema)
    except SchemaError as error:
        where = f" at {error.json_path}" if error.path else ""
        limits = " (look-around and classes such as \\p{Lu} are not supported)" if error.validator_value == "regex" else ""
        raise UsageError(f"{name} is not a JSON schema{where}: {error.message[:300]}{limits}") from error
    except ValueError as error:
        raise UsageError(f"{name}: answers cannot be held to this schema: {_reason(str(error))}; see 'sage help schema'") from error
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deeply") from error
    return AnswerSchema(json.dumps(schema))


def _reason(said: str) -> str:
    """The compiler's reason, without advice about settings of its own."""
    for sign, reason in _REASONS.items():
        if sign in said:
            return reason
    return said[:300]


def _file(given: str) -> str:
    path = user_path(given)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise UsageError(f"the schema {given}: there is no such file, and it is not a JSON object") from error
    except (OSError, ValueError) as error:
        raise SageError(f"cannot read {given}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _LARGEST:
        raise UsageError(f"the schema {given}: larger than 1 MiB")
    return decode(data)

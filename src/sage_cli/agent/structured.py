"""An answer in the shape of the user's own JSON schema: written by one more reply, after the answer in words.

The reply continues the one that answered, so the model sees what it saw then, and only the request itself has to be read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from sage_cli.agent.nonsense import without_loops
from sage_cli.text import standard_json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCE: Final = "```"


@dataclass(frozen=True)
class AnswerSchema:
    """A JSON schema for answers.

    Attributes:
        text: the schema as JSON.
    """

    text: str

    @cached_property
    def schema(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    def read(self, reply: str, *, looped: bool = False) -> Any:
        """The value that a reply holds: JSON alone, or in a code fence, as served models write it.

        Args:
            looped: the reply was stopped where it repeated itself: strings lose such a tail.

        Raises:
            ValueError: it is not JSON, or does not obey the schema; the message says where. Or it only repeats itself.
        """
        from jsonschema.exceptions import best_match

        said = reply.strip()
        if said.startswith(_FENCE) and said.endswith(_FENCE):
            said = said.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json")
        value = standard_json(json.loads(said))
        if looped:
            value = without_loops(value)
        if (error := best_match(self._validator.iter_errors(value))) is not None:
            raise ValueError(f"{error.json_path}: {error.message[:200]}")
        return value

    @cached_property
    def _validator(self) -> Validator:
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry

        # An empty registry: the default one would fetch references over the network.
        made: Validator = validator_for(self.schema, default=Draft202012Validator)(self.schema, registry=Registry())
        return made

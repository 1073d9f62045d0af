"""What a server accepts of the OpenAI API. Servers differ in names and parameters, and in how they hold a reply to a schema; each tells
what it does not know by refusing it, and is asked in another way from then on."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sage_cli.model.portable import portable
from sage_cli.model.received import reason
from sage_cli.model.refusals import cause_of, names, words

if TYPE_CHECKING:
    from openai import APIStatusError

logger = logging.getLogger(__name__)

# Ways to hold a reply to a schema, best first: as it is; simplified; to any JSON object; not at all.
Form: TypeAlias = Literal["schema", "portable", "object", "text"]

_REFUSED: Final = (400, 415, 422, 500, 501)  # where a request is not understood; some servers fail over it
_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_OPTIONAL: Final = ("temperature", "seed", "stream_options")
# Words about a parameter itself; others may be about its value.
_UNKNOWN: Final = re.compile(r"un(?:known|supported|recognized|expected)|extra[ _](?:inputs|forbidden)|\binstead\b", re.IGNORECASE)
_OF_SCHEMA: Final = re.compile(r"(?<!json_)(?:schema|grammar)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a reply.

    Attributes:
        model: by its name on the server.
        messages: in the API's format.
        schema: that the reply is to satisfy; ``None`` for free text.
        tokens: of the reply that the caller needs at least.
        room: tokens that the context leaves for it.
        protocol: whether the reply is one of the agent's protocol: the prompt says its form, and a key that is null counts as absent.
        temperature, seed: of the sampler.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any] | None
    tokens: int
    room: int
    temperature: float
    seed: int
    protocol: bool


class Dialect:
    """How to write requests for a server.

    Args:
        strict: it is known to take simple schemas only.
        most: tokens of a reply that are enough for anything.
    """

    def __init__(self, *, strict: bool, most: int) -> None:
        self._strict, self._most = strict, most
        self._limit: str | None = _LIMITS[0]
        self._sparing = False
        self._unknown: set[str] = set()
        self._forms: dict[tuple[str, ...], Form] = {}

    def limit(self, request: Request) -> int:
        """Tokens that the reply may have. Callers know how long what they read can be, but not how long a served model thinks before it."""
        return request.tokens if self._sparing else max(request.tokens, min(self._most, request.room))

    def forms(self, request: Request) -> list[Form]:
        """The ways to hold the reply to its schema that are worth a try."""
        schema = request.schema
        if schema is None:
            return ["text"]
        simple = portable(schema, nulls=request.protocol)
        forms: list[Form] = ["schema"] if simple is None or not self._strict else []
        if simple is not None and (simple != schema or not forms):
            forms.append("portable")
        if simple is not None or schema.get("type") == "object":
            forms.append("object")
        forms.append("text")
        known = self._forms.get(_kind(schema))
        return forms[forms.index(known) :] if known in forms else forms

    def body(self, request: Request, form: Form) -> dict[str, Any]:
        """The request as the server takes it."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages,
            "temperature": request.temperature,
            "seed": request.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body = {name: value for name, value in body.items() if name not in self._unknown}
        if self._limit:
            body[self._limit] = self.limit(request)
        if request.schema is None:
            return body
        if form in ("schema", "portable"):
            schema = portable(request.schema, nulls=request.protocol) if form == "portable" else dict(request.schema)
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
            return body
        if form == "object":
            body["response_format"] = {"type": "json_object"}
        body["messages"] = _asked_for_json(request)
        return body

    def adapts(self, error: APIStatusError, request: Request, body: Mapping[str, Any]) -> bool:
        """Learn from a refusal; whether the request is now another one."""
        if error.status_code not in _REFUSED:
            return False
        long = cause_of(error.body) == "length"
        named = next((name for name in (*_LIMITS, *_OPTIONAL) if name in body and names(error, name)), None)
        if (long or (named in _LIMITS and not _UNKNOWN.search(words(error.body)))) and self.limit(request) > request.tokens:
            self._sparing = True
            return True
        if long or named is None:
            return False
        logger.info("the server does not take %s (%s)", named, reason(error))
        if named in _LIMITS:
            self._limit, self._sparing = _LIMITS[1] if named == _LIMITS[0] else None, False
        else:
            self._unknown.add(named)
        return True

    def accepted(self, request: Request, form: Form) -> None:
        """Keep to the way in which the server took a schema, for schemas of its kind."""
        if request.schema is not None:
            self._forms[_kind(request.schema)] = form


def other_forms(error: APIStatusError, forms: Sequence[Form]) -> Sequence[Form]:
    """What is left to try after a refusal of the first of these forms; none if it was refused for another reason."""
    if error.status_code not in _REFUSED or cause_of(error.body) != "format":
        return ()
    # Where it takes no schemas, a simpler one is of no use.
    return [form for form in forms[1:] if form != "portable" or _OF_SCHEMA.search(words(error.body))]


def _kind(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """What the schemas of all replies of one kind have in common, whatever they allow at the moment."""
    return tuple(sorted({name for part in (schema, *schema.get("anyOf", ())) for name in part.get("properties", ())}))


def _asked_for_json(request: Request) -> Sequence[Mapping[str, Any]]:
    """The messages, in which it is said what the reply has to be: prompts outside the protocol leave that to the schema."""
    *before, last = request.messages
    if request.schema is None or request.protocol or "json" in " ".join(_texts(request.messages)).casefold():
        return request.messages
    schema = portable(request.schema, nulls=request.protocol) or request.schema
    asked = f"\nReply with one JSON object that is valid under this JSON schema: {json.dumps(schema, ensure_ascii=False)}"
    content = last["content"]
    return [*before, {**last, "content": content + asked if isinstance(content, str) else [*content, {"type": "text", "text": asked}]}]


def _texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    contents = [message["content"] for message in messages]
    return [
        text for content in contents for text in ([content] if isinstance(content, str) else [part.get("text", "") for part in content])
    ]

"""Why a server refused a request, by its own words, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from sage_cli.errors import ModelError
from sage_cli.model.address import KEY_VARIABLE, RemoteAddress
from sage_cli.model.received import reason, said

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

# What servers say, by cause; the first that fits counts. There is no code for most of them that two servers have in common.
_CAUSES: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        cause: re.compile(pattern, re.IGNORECASE)
        for cause, pattern in {
            "quota": r"insufficient_quota|billing_(?:not_active|hard_limit)|credit balance|insufficient (?:credits|balance|funds)",
            "key": r"api[ _-]?key (?:is )?(?:not valid|invalid|missing)|(?:invalid|incorrect|missing|no) api[ _-]?key|API_KEY_INVALID",
            "length": r"context[ _](?:length|size|window)|max_model_len|too many (?:\w+ )?tokens\b"
            r"|\b(?:prompt|request|inputs?|messages?|text|content|sequence|images?|max_(?:completion_)?tokens)\b['\"`]?"
            r"(?: (?:text|length|size))?(?: (?:is|are|was|were))? too (?:long|large)\b"
            r"|exceeds?\b.{0,60}(?:context|tokens)|at most \d+ (?:completion |output )?tokens",
            "number": r"(?:at most|too many|more than|max(?:imum)?(?: number)?(?: of)?|limit(?: of)?) (?:\d+ )?image|images?\b.{0,60}"
            r"\b(?:at most|limit|exceeds?|maximum|too many)\b",
            "pictures": r"image_url|mmproj|\b(?:not|no|cannot|only|n't)\b.{0,60}\b(?:images?|multimodal|multi-modal|vision)\b"
            r"|\b(?:images?|multimodal|vision)\b.{0,60}\b(?:not supported|unsupported|not enabled|not available)",
            "format": r"response[ _]format|\bjson|schema|grammar|guided|structured",
        }.items()
    }
)
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "key": f"set {KEY_VARIABLE} (for a judge, SAGE_JUDGE_KEY)",
        "number": "use fewer --frames, or raise the server's limit (vLLM: --limit-mm-per-prompt)",
        "pictures": "the model must take pictures: name another one, or start the server with its vision encoder (llama-server: --mmproj)",
        "length": "use fewer --frames or --frame-tokens, or start the server with a larger context",
    }
)
# What passes, whatever else is said: providers end such a refusal with what a plan for more of it costs.
_PASSING: Final = re.compile(r"(?:try again|retry) (?:in|after)\b|RetryInfo|rate_limit_exceeded", re.IGNORECASE)
# More than a minute's limit of tokens in one request.
_NEVER: Final = re.compile(r"\brequest too large for\b", re.IGNORECASE)
# A status of 500 says little: these are what llama-server, Ollama, vLLM and llama-cpp-python refuse with it for good.
_FAILED: Final = re.compile(
    r"mmproj|image input|multi-?modal model|at most \d+ image|response_format|grammar|json[ _]schema", re.IGNORECASE
)
_SKIPPED: Final = frozenset({"input", "ctx", "url"})  # of a message: what the request held
_LONG: Final = 4000  # characters of a message


class UnreachableError(ModelError):
    """A server cannot be reached, is overloaded, or breaks off. Another one may do better."""


def cause_of(message: object) -> str:
    """Why a request was refused: ``"quota"``, ``"key"``, ``"number"`` of images, ``"pictures"`` at all, ``"length"``, ``"format"`` of the
    reply, or ``""``.

    Args:
        message: the body of the response, in any shape.
    """
    told = words(message)
    return next((cause for cause, pattern in _CAUSES.items() if pattern.search(told)), "")


def words(message: object) -> str:
    """All that a message says, in any shape."""
    match message:
        case str():
            return message[:_LONG]
        case Mapping():
            return " ".join(words(value) for key, value in message.items() if key not in _SKIPPED)
        case list() | tuple():
            return " ".join(map(words, message))
    return ""


def is_lasting(status: int, message: object, headers: Mapping[str, str]) -> bool:
    """Whether a request is refused for good; a limit of requests, an overload and most failures of a server pass."""
    told = words(message)
    if status == 429:
        passing = "retry-after" in headers or _PASSING.search(told)
        return bool(_NEVER.search(told) or (cause_of(message) == "quota" and not passing))
    if status == 500:
        return cause_of(message) == "quota" or _FAILED.search(told) is not None
    return status <= 501


def failure(error: APIError, address: RemoteAddress, model: str) -> ModelError:
    """What to tell the user."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    host = address.host
    match error:
        case APITimeoutError():
            return UnreachableError(f"{host} did not answer in time: is the server overloaded?")
        case APIConnectionError():
            why = reason(error)
            return UnreachableError(f"cannot reach {host} ({why}): {_connection(why)}")
        case APIStatusError():
            return _of_status(error, address, model)
    return ModelError(f"{host} failed: {reason(error)}")


def _connection(why: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return "set SSL_CERT_FILE to the certificate of the server or of its authority"
    if "WRONG_VERSION_NUMBER" in why or "record layer failure" in why.lower():
        return "it does not speak TLS: use http://"
    return "is the server running?"


def _of_status(error: APIStatusError, address: RemoteAddress, model: str) -> ModelError:
    host, status = address.host, error.status_code
    told = f" ({line})" if (line := said(error.body)) else ""
    moved = next((past for past in error.response.history if past.status_code in (301, 302, 303)), None)
    if moved is not None:  # the client follows it with another method, as browsers do
        return ModelError(f"{host} has moved to {moved.headers.get('location', 'another address')}: use that")
    if not is_lasting(status, error.body, error.response.headers):
        advice = ": it takes no more requests for now, try again later" if status == 429 else "" if told else ": is it overloaded?"
        return UnreachableError(f"{host} answered with status {status}{told}{advice}")
    if status in (401, 403):
        return ModelError(f"{host} refuses the key{told}: {_REMEDIES['key']}")
    if status == 413:
        return ModelError(f"{host} does not take requests of this size{told}: use fewer --frames or --frame-tokens, or raise its limit")
    if remedy := _REMEDIES.get(cause_of(error.body)):
        return ModelError(f"{host}: {line.rstrip('.')}; {remedy}")
    if status in (404, 405):
        wanted = f" or no model {model!r}" if model else ""
        path = error.request.url.path
        advice = "check the address and the name" if "/v1" in path else f"did you mean {address.shown}/v1?"
        return ModelError(f"{host} has no {path}{wanted}{told}: {advice}")
    return ModelError(f"{host} answered with status {status}{told}")


def names(error: APIStatusError, parameter: str) -> bool:
    """Whether a refusal names a parameter of the request."""
    return re.search(rf"(?<![\w-]){parameter}(?![\w-])", words(error.body)) is not None

"""What OpenAI-compatible servers send back. They leave out, add and shape what they like, so everything is read with care."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from sage_cli.model.base import Usage
from sage_cli.text import in_circles, without_surrogates

_LONGEST: Final = 200  # characters of a server's message
# OpenRouter's words of the provider, in JSON; OpenAI, FastAPI, Ollama, FastAPI's lists, OAuth.
_SAID_IN: Final = ("metadata", "raw", "message", "detail", "error", "msg", "error_description")
_LOOP: Final = 1000  # characters that repeat themselves and end a reply: refrains and blocks of code do for a while
_OPENS: Final = re.compile(r"[{\[]")
_ENDS: Final = {"{": "}", "[": "]"}
_DONE: Final = re.compile(rb"data:\s*\[DONE\]")
_THOUGHT_IN: Final = ("reasoning_content", "reasoning", "thinking")  # DeepSeek, vLLM and llama-server; OpenRouter and Ollama


class NotAReplyError(Exception):
    """What a server sent is neither a stream nor a completion; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a reply.

    Attributes:
        text: that it adds.
        refusal: what the server says in place of a reply.
        thought: that it adds to the model's thinking, which is no part of the reply.
        finish: why the reply ended, ``None`` before its end.
        usage: of the whole reply, mostly in the last chunk.
    """

    text: str
    refusal: str
    thought: str
    finish: str | None
    usage: Usage | None


def chunks_of(stream: Any) -> Iterator[Any]:
    """The chunks of a reply; a server that does not stream sends a completion, which is the only one.

    Args:
        stream: the client's, of which nothing has been read.

    Raises:
        NotAReplyError: it is something else, such as a page to log in.
    """
    response = stream.response
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if response.status_code == 204 or response.headers.get("content-length") == "0":
        raise NotAReplyError("it is empty")
    if "html" in kind:
        raise NotAReplyError(kind)
    if kind in ("application/json", "text/plain"):
        data = response.read()  # an event stream under this name can still be read below
        if not data.lstrip().startswith((b"data:", b"event:", b":")):
            yield _completion(data)
            return
    tail = _Tail(response)
    yield from stream
    if tail.done:  # some servers say that alone
        yield SimpleNamespace(choices=[SimpleNamespace(finish_reason="stop")])


class _Tail:
    """The end of what a response sends, while somebody else reads it."""

    def __init__(self, response: Any) -> None:
        self._bytes, self._read = b"", response.iter_bytes
        response.iter_bytes = self._pass

    @property
    def done(self) -> bool:
        return _DONE.search(self._bytes) is not None

    def _pass(self, *size: int) -> Iterator[bytes]:
        for piece in self._read(*size):
            self._bytes = (self._bytes + piece)[-64:]
            yield piece


def _completion(data: bytes) -> Any:
    from openai.types.chat import ChatCompletion

    value: Any = None
    try:
        value = json.loads(data)
        choice = value["choices"][0]
        made = ChatCompletion.construct(**{**value, "choices": [{**choice, "finish_reason": choice.get("finish_reason") or "stop"}]})
        if getattr(made.choices[0], "message", None) is not None:
            return made
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise NotAReplyError(said(value) or "application/json")


def read_chunk(chunk: Any, images: int) -> Piece:
    """A chunk of a stream, or a completion."""
    choice = next(iter(getattr(chunk, "choices", None) or ()), None)
    delta = getattr(choice, "delta", None) or getattr(choice, "message", None)
    counts = getattr(chunk, "usage", None)
    cached = getattr(getattr(counts, "prompt_tokens_details", None), "cached_tokens", None)
    usage = Usage(
        prompt_tokens=positive(getattr(counts, "prompt_tokens", None)) or 0,
        prompt_reused=positive(cached) or 0,
        images=images,
        output_tokens=positive(getattr(counts, "completion_tokens", None)) or 0,
    )
    text, refusal = (_text(getattr(delta, name, None)) for name in ("content", "refusal"))
    thought = next(filter(None, (_text(getattr(delta, name, None)) for name in _THOUGHT_IN)), "")
    return Piece(text, refusal, thought, getattr(choice, "finish_reason", None), usage if counts else None)


def _text(content: object) -> str:
    """Text as it is, or in parts such as ``{"type": "text", "text": "..."}``."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return without_surrogates(content) if isinstance(content, str) else ""


def said(body: object) -> str:
    """The first line of a server's message about an error, in any of the shapes that servers use; ``""`` if it is none for people."""
    if isinstance(body, Mapping):
        text = next((text for key in _SAID_IN if (text := said(body.get(key)))), "")
        where = body.get("loc")  # of FastAPI's lists: what is wrong
        return f"{'.'.join(map(str, where))}: {text}" if text and isinstance(where, list) and where else text
    if isinstance(body, list):
        return said(body[0]) if body else ""
    if not isinstance(body, str) or body.lstrip().startswith("<"):
        return ""
    if body.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            return said(json.loads(body))
    first, *others = [*filter(None, map(str.strip, body.splitlines())), ""]
    line = f"{first} {others[0]}" if first.endswith(":") and others else first
    return " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())[:_LONGEST]


def reason(error: Exception) -> str:
    """The server's or network's message, on one line."""
    return said(getattr(error, "body", None)) or said(str(error.__cause__ or error)) or type(error).__name__


def closers_of(text: str) -> str:
    """What closes the strings, lists and objects that are open at the end of a reply in JSON, after any thinking."""
    return _open_at_end(text)[0]


def _open_at_end(text: str) -> tuple[str, int | None]:
    """What closes a reply in JSON, and where the string begins that is open at its end, if one is."""
    begun = _OPENS.search(text, text.rfind("</think>") + 1)
    ends, escaped = "", False
    string: int | None = None
    for at in range(begun.start(), len(text)) if begun else ():
        letter = text[at]
        if string is not None:
            string, escaped = string if letter != '"' or escaped else None, letter == "\\" and not escaped
        elif letter == '"':
            string = at + 1
        elif end := _ENDS.get(letter):
            ends = end + ends
        elif letter in "}]" and not (ends := ends[1:]):
            return "", None
    return ("\\" if escaped else "") + ('"' if string is not None else "") + ends, string


def repeats_itself(text: str, *, as_json: bool) -> bool:
    """Whether a reply goes in circles, and would up to its limit.

    Args:
        as_json: it was asked for in JSON. There a string does, or blanks do: items of a list may be equal, however many.
    """
    if not in_circles(text, _LOOP):
        return False
    closers, string = _open_at_end(text) if as_json else ("", None)
    return not closers or text[-_LOOP:].isspace() or (string is not None and in_circles(text[string:], _LOOP))


def is_json_object(text: str) -> bool:
    """Whether it is one, between Markdown's fences or not."""
    try:
        json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return False
    return True


def entry_of(models: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """A server's entry of the model with a name: its id, another name that the entry lists (llama-server, Mistral), or an id of Ollama's
    without the tag ``latest``."""
    exact = (model for model in models if model["id"] == name)
    other = (model for model in models if model["id"] == f"{name}:latest" or name in _listed(model.get("aliases")))
    return next(exact, None) or next(other, None)


def distinct(models: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A server's entries, one for each model: the first one. vLLM has an entry for each name of a model, with the same files."""
    return [model for model in models if first_of(models, model) is model]


def first_of(models: Sequence[Mapping[str, Any]], model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first entry of the same model."""
    return next(one for one in models if one is model or (_files(one) is not None and _files(one) == _files(model)))


def _files(model: Mapping[str, Any]) -> tuple[object, ...] | None:
    """What vLLM says of a model's files. Its adapters have a parent or no context size; to other servers a root is something else."""
    found = model.get("root"), model.get("max_model_len")
    return (*found, model.get("parent")) if all(found) else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def context_of(model: Mapping[str, Any]) -> int | None:
    """The context size in a server's entry of a model: of LM Studio, vLLM and SGLang, OpenRouter and Ollama, Groq."""
    names = ("loaded_context_length", "max_model_len", "context_length", "context_window")
    return next((size for name in names if (size := positive(model.get(name)))), None)


def context_elsewhere(answer: Any, model: str) -> int | None:
    """The context size in what a server tells outside the OpenAI API: of a slot of llama-server, or in a list of models."""
    with suppress(LookupError, TypeError):
        return positive(answer["default_generation_settings"]["n_ctx"])
    with suppress(LookupError, TypeError, AttributeError):
        entries = answer["data"] if "data" in answer else answer["models"]
        return next((size for entry in entries if model in (entry.get("id"), entry.get("name")) and (size := context_of(entry))), None)
    return None


def positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def broken() -> tuple[type[Exception], ...]:
    """What is raised while a reply is read: the connection breaks, the reply is no stream of JSON, or the server reports an error in it."""
    import httpx2
    from openai import APIError

    return (httpx2.TransportError, APIError, ValueError, RecursionError, EOFError)


def reported(error: Exception) -> bool:
    """Whether the server itself says that something went wrong."""
    from openai import APIConnectionError, APIError

    return isinstance(error, APIError) and not isinstance(error, APIConnectionError)

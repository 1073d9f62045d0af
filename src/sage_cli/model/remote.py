"""A vision-language model behind an OpenAI-compatible address (vLLM, SGLang, llama-server, Ollama, LM Studio): ``POST /chat/completions``.

Frames are sent as JPEG images, each after its time as text. Servers differ in how they constrain a reply: the schema goes into
``response_format``; a server that refuses it is asked for any JSON object, then for plain text, which the agent parses leniently.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING, Any, Final, cast

from sage_cli.errors import ModelError
from sage_cli.model.address import KEY_VARIABLE, RemoteAddress
from sage_cli.model.base import Delta, Frames, ModelInfo, Progress, Prompt, Reply, StreamItem, Text, Usage, bounded_frame_size
from sage_cli.model.received import (
    NoReplyError,
    broken,
    chunks_of,
    context_of,
    is_json_object,
    positive,
    read_chunk,
    reason,
    reported,
    said,
)
from sage_cli.text import without_surrogates
from sage_cli.video.background import iterate_in_background
from sage_cli.video.frame import Frame

if TYPE_CHECKING:
    from openai import APIError, OpenAI

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT: Final = 16384  # where neither the server nor --ctx-size says: what SAGE needs for 128 frames

_UNIT: Final = 32  # pixels of a vision token's side in Qwen3-VL, for estimates
_BYTES_PER_TOKEN: Final = 3.0  # cautious: English has about 4 in UTF-8, and a Chinese character has 3
_JPEG_QUALITY: Final = 90
_AHEAD: Final = 256  # chunks
_ATTEMPTS: Final = 4  # of a request whose connection breaks, beside the client's own retries of 429 and 5xx
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 600.0  # servers send nothing while they read a large prompt

# Ways to constrain a reply, best first. After a refusal the next one is used from then on.
_FORMATS: Final = ("json_schema", "json_object", "text")
_REFUSED: Final = (400, 415, 422, 501)


class UnreachableError(ModelError):
    """A server cannot be reached, is overloaded, or breaks off. Another one may do better."""


class RemoteModel:
    """A served vision-language model; implements :class:`sage_cli.model.base.ChatModel`.

    Args:
        address: where it is; one alone, see :class:`sage_cli.model.endpoints.Endpoints` for several.
        key: bearer token; ``""`` for none.
        context_size: tokens of a prompt and its reply; ``None`` for what the server says.
        retries: of a request that fails in a way that may pass; the wait doubles each time, or is what the server asks for.

    Raises:
        ModelError: the server cannot be reached, or does not serve this model.
    """

    def __init__(self, address: RemoteAddress, *, key: str = "", context_size: int | None = None, retries: int = 4) -> None:
        import httpx2
        from openai import DefaultHttpxClient, Omit, OpenAI

        self.address = address
        timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
        # A proxy of the environment is for other machines.
        http = DefaultHttpxClient(timeout=timeout, trust_env=not address.loopback)
        # Of the environment, too: whose account it is concerns OpenAI alone.
        hidden = cast(dict[str, str], {} if address.openai else dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), Omit()))
        self._client: OpenAI = OpenAI(
            base_url=address.url, api_key=key or "none", max_retries=retries, timeout=timeout, http_client=http, default_headers=hidden
        )
        self._format = _FORMATS[0]
        self._interrupted = False
        self._images: dict[str, str] = {}
        self._name = address.name
        try:
            served = self._served()
        except BaseException:
            self.close()
            raise
        self._name = str(served["id"])
        self._context = context_size or context_of(served) or self._llama_server_context(key) or DEFAULT_CONTEXT

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Safe to call again."""
        self._client.close()

    @cached_property
    def info(self) -> ModelInfo:
        at = f"a server at {self.address.host}"
        return ModelInfo(self._name, "remote", self._context, at, at, self.address.outside)

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, max_pixels: int | None = None) -> tuple[int, int]:
        return bounded_frame_size(width, height, _UNIT, max_tokens, max_pixels)

    def count_tokens(self, prompt: Prompt) -> int:
        """An estimate: 3 bytes of UTF-8 to a token, and a token for 32x32 pixels of every frame. Servers do not merge frame pairs."""
        count = 0.0
        for part in chain.from_iterable(message.parts for message in prompt):
            if isinstance(part, Text):
                count += len(part.text.encode(errors="replace")) / _BYTES_PER_TOKEN
            else:
                count += sum(frame.width * frame.height / _UNIT**2 + 8 for frame in part.frames)
        return int(count) + 8 * len(prompt)

    def prefetch(self, prompt: Prompt) -> None:
        """Does nothing: the server encodes the frames of the prompt."""

    def forget(self) -> None:
        """Does nothing: the cache is the server's."""

    def stream(
        self,
        prompt: Prompt,
        *,
        schema: Mapping[str, Any] | None = None,
        wrap: tuple[str, str] = ("", ""),
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generator[StreamItem]:
        """As :meth:`ChatModel.stream`; a reply under a schema is valid JSON if the server supports schemas. Empty pieces come while the
        server is silent.

        Raises:
            ModelError: the server cannot be reached, refuses the request, or keeps breaking off.
        """
        frames = [frame for message in prompt for part in message.parts if isinstance(part, Frames) for frame in part.frames]
        if frames:  # the next question usually shows the same frames
            self._images = {frame.key: self._images.get(frame.key) or _jpeg(frame) for frame in frames}
        self._interrupted = False
        yield Progress("prefill", 0, 0)
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [_message(message.role, message.parts, self._images) for message in prompt],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started = time.perf_counter()
        first: float | None = None
        formats = _FORMATS[_FORMATS.index(self._format) :] if schema is not None else _FORMATS[-1:]
        spoken = False  # deltas of a broken attempt cannot be taken back: only the whole reply tells of the next one
        for left in reversed(range(_ATTEMPTS)):
            text, refusal, finish, usage = "", "", None, Usage(images=len(frames))
            try:
                # In a thread, so that the wait for the server can be interrupted; what it is ahead of us is text, and small.
                read = partial(self._chunks, body, schema, formats)
                with closing(iterate_in_background(read, _AHEAD, self._idle)) as chunks:
                    for chunk in chunks:
                        piece = read_chunk(chunk, len(frames))
                        usage, finish = piece.usage or usage, piece.finish or finish
                        if piece.text and first is None:
                            first = time.perf_counter()
                        text, refusal = text + piece.text, refusal + piece.refusal
                        yield Delta("" if spoken else piece.text)
                if finish is None:  # the end of a stream that breaks without a word looks like its end
                    raise EOFError("the reply ended in the middle")
                break
            except broken() as error:
                if reported(error) and schema is not None:
                    # llama-server parses a constrained reply again and may then disown it.
                    if is_json_object(text):
                        break
                    formats = formats[1:] or formats
                logger.info("%s: the reply broke off (%s)", self.address.host, error)
                if not left:
                    raise UnreachableError(
                        f"{self.address.host} broke off {_ATTEMPTS} times: {reason(error)}; is the server healthy?"
                    ) from error
                spoken = spoken or bool(text)
        if finish == "content_filter" or (refusal and not text):
            why = f"the server refused to answer: {said(refusal)}" if refusal else "the server's content filter stopped the reply"
            raise ModelError(f"{self.address.host}: {why}")
        ended = time.perf_counter()
        first = first or ended
        usage = replace(usage, prefill_s=first - started, decode_s=ended - first)
        if schema is not None and wrap[0].strip() and wrap[0].strip() not in text:
            text = f"{wrap[0]}{text}{wrap[1]}"
        yield Reply(text, "length" if finish == "length" else "stop", usage)

    def interrupt(self) -> None:
        self._interrupted = True

    def _idle(self) -> tuple[None]:
        """What stands for a chunk while the server is silent: whoever reads the stream has a time limit to check."""
        if self._interrupted:
            raise KeyboardInterrupt
        return (None,)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _chunks(self, body: Mapping[str, Any], schema: Mapping[str, Any] | None, formats: Sequence[str], stop: Event) -> Iterator[Any]:
        """The reply as the server streams it."""
        with closing(self._create(body, schema, formats)) as stream:
            try:
                for chunk in chunks_of(stream):
                    if stop.is_set():  # the server sees the connection close, and stops
                        return
                    yield chunk
            except NoReplyError as error:
                raise UnreachableError(f"{self.address.host} sent no OpenAI-compatible reply ({error}): is the address right?") from error

    def _create(self, body: Mapping[str, Any], schema: Mapping[str, Any] | None, formats: Sequence[str]) -> Any:
        """Send the request, constrained in the first of these ways that the server accepts; later requests start with that one."""
        from openai import APIError, APIStatusError

        refusal: APIStatusError | None = None
        for kind in formats:
            request = dict(body)
            if schema is not None and kind != "text":
                request["response_format"] = _response_format(kind, schema)
            try:
                chunks = self._client.chat.completions.create(**request)
            except APIStatusError as error:
                if error.status_code not in _REFUSED:
                    raise self._failure(error) from error
                logger.info("%s refused a request constrained by %s (%s)", self.address.host, kind, reason(error))
                refusal = refusal or error
            except APIError as error:
                raise self._failure(error) from error
            else:
                if refusal is not None:
                    self._format = kind
                return chunks
        assert refusal is not None
        raise self._failure(refusal) from refusal

    def _served(self) -> dict[str, Any]:
        """The server's entry for the model."""
        from openai import APIError

        try:
            # A mistyped address should fail soon; what is worth waiting for comes later.
            client = self._client.with_options(max_retries=min(self._client.max_retries, 1))
            models = [model.model_dump(warnings=False) for model in client.models.list().data]
            models = [model for model in models if isinstance(model.get("id"), str)]
        except APIError as error:
            raise self._failure(error) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{self.address.shown} is not an OpenAI-compatible server: it lists no models") from error
        names = [model["id"] for model in models]
        if self.address.name:
            # Some servers know more names than they list, and OpenAI's list is long.
            return next((model for model in models if model.get("id") == self.address.name), {"id": self.address.name})
        if len(models) == 1:
            return models[0]
        if not models:
            raise ModelError(f"{self.address.host} serves no model: load one there first")
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise ModelError(
            f"{self.address.host} serves {len(names)} models: name one, as in --model {self.address.shown}#{names[0]} ({shown})"
        )

    def _llama_server_context(self, key: str) -> int | None:
        """llama-server reports the context size of a slot outside the OpenAI API."""
        import httpx2

        url = f"{self.address.url.removesuffix('/v1')}/props"
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            with httpx2.Client(headers=headers, timeout=_CONNECT_S, trust_env=not self.address.loopback) as client:
                return positive(client.get(url).json()["default_generation_settings"]["n_ctx"])
        except (httpx2.HTTPError, ValueError, LookupError, TypeError):
            return None

    def _failure(self, error: APIError) -> ModelError:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        host = self.address.host
        told = f" ({words})" if (words := said(error.body)) else ""
        match error:
            case APITimeoutError():
                return UnreachableError(f"{host} did not answer in time: is the server overloaded?")
            case APIConnectionError():
                return UnreachableError(f"cannot reach {host} ({reason(error)}): is the server running?")
            case APIStatusError(status_code=401 | 403):
                return ModelError(f"{host} refuses the key{told}: set {KEY_VARIABLE} (for a judge, SAGE_JUDGE_KEY)")
            case APIStatusError(status_code=404):
                model = f" or no model {self._name!r}" if self._name else ""
                return ModelError(f"{host} has no {error.request.url.path}{model}{told}: check the address and the name")
            case APIStatusError() if "context" in told:
                return ModelError(f"{host}: {reason(error)}; use fewer --frames, or start the server with a larger context")
            case APIStatusError(status_code=429 | 500 | 502 | 503 | 504):
                return UnreachableError(f"{host} answered with status {error.status_code}{told}; is it overloaded?")
            case APIStatusError():
                return ModelError(f"{host} answered with status {error.status_code}{told}")
        return ModelError(f"{host} failed: {reason(error)}")


# ---- what travels --------------------------------------------------------------------------------------------------


def _message(role: str, parts: tuple[Text | Frames, ...], images: Mapping[str, str]) -> dict[str, Any]:
    """A message in the API's format.

    Args:
        images: base64 of the JPEG file of every frame, by the frame's key.
    """
    if all(isinstance(part, Text) for part in parts):
        return {"role": role, "content": without_surrogates("".join(part.text for part in parts if isinstance(part, Text)))}
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": without_surrogates(part.text)})
            continue
        for frame in part.frames:
            content.append({"type": "text", "text": f"<{frame.time:.1f} seconds>"})
            content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{images[frame.key]}"}})
    return {"role": role, "content": content}


def _jpeg(frame: Frame) -> str:
    import cv2

    image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    return base64.b64encode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()).decode()


def _response_format(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": dict(schema), "strict": True}}

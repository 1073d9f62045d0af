"""A vision-language model behind an OpenAI-compatible address (vLLM, SGLang, llama-server, Ollama, LM Studio): ``POST /chat/completions``.

Frames are sent as JPEG images, each after its time as text. What a server does not take, such as a schema or a parameter, it is not sent
again: see :mod:`sage_cli.model.dialect`. Replies that no schema holds are parsed leniently by the agent.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

from sage_cli.errors import ModelError
from sage_cli.hardware.waiting import iterate_in_background
from sage_cli.model.address import RemoteAddress
from sage_cli.model.base import (
    DEFAULT_CONTEXT,
    Delta,
    Finish,
    Frames,
    ModelInfo,
    Progress,
    Prompt,
    Reply,
    StreamItem,
    Text,
    Usage,
    bounded_frame_size,
)
from sage_cli.model.dialect import Dialect, Form, Request, other_forms
from sage_cli.model.qwen import MERGE_PIXELS
from sage_cli.model.received import (
    NotAReplyError,
    broken,
    chunks_of,
    closers_of,
    context_elsewhere,
    context_of,
    distinct,
    entry_of,
    first_of,
    is_json_object,
    read_chunk,
    reason,
    repeats_itself,
    reported,
    said,
)
from sage_cli.model.refusals import UnreachableError, failure, is_lasting
from sage_cli.text import is_key, without_surrogates
from sage_cli.video.frame import Frame

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

logger = logging.getLogger(__name__)

_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 600.0  # servers send nothing while they read a large prompt
_BYTES_PER_TOKEN: Final = 3.0  # cautious: English has about 4 in UTF-8, and a Chinese character has 3
_JPEG_QUALITY: Final = 90
_AHEAD: Final = 256  # chunks
_ATTEMPTS: Final = 4  # of a request whose connection breaks, beside the client's own retries of 429 and 5xx
_REPLY_TOKENS: Final = 8192  # the reference's; a model that thinks takes most of them for that

# Fewer tokens than any model makes of a prompt: a server that read fewer has cut it.
_MOST_CHARACTERS: Final = 6.0  # of text in a token; no script has more than 5 on average
_LEAST_IMAGE: Final = 48  # tokens
_LEAST_CONTEXT: Final = 1000  # tokens; a server that reports fewer for such a prompt counts something else

_NO_LIST: Final = (404, 405, 501)  # of models: a gateway that has none
# Where servers tell the context size outside the OpenAI API: llama-server, LM Studio, Ollama of a model that is loaded.
_ELSEWHERE: Final = ("/props", "/api/v0/models", "/api/ps")
_QWEN25: Final = re.compile(r"qwen[-_ ]?2\.?5[-_ ]?(?:vl|omni)", re.IGNORECASE)


class RemoteModel:
    """A served vision-language model; implements :class:`sage_cli.model.base.ChatModel`.

    Args:
        address: where it is; one alone, see :class:`sage_cli.model.endpoints.Endpoints` for several.
        key: bearer token; ``""`` for none.
        context_size: tokens of a prompt and its reply; ``None`` for what the server says.
        retries: of a request that fails in a way that may pass; the wait doubles each time, or is what the server asks for.
        reply_tokens: that a reply may have if the context leaves room, also where its caller asks for fewer; 0 for the caller's limit.

    Raises:
        ModelError: the server cannot be reached, or does not serve this model.
    """

    def __init__(
        self,
        address: RemoteAddress,
        *,
        key: str = "",
        context_size: int | None = None,
        retries: int = 4,
        reply_tokens: int = _REPLY_TOKENS,
    ) -> None:
        self.address = address
        self._client, self._http = _connected(address, key, retries)
        self._dialect = Dialect(strict=address.openai, most=reply_tokens)
        self._told_of_cut = False
        self._interrupted = False
        self._images: dict[str, str] = {}
        self._name = self._id = address.name  # as it is asked for; as the server lists it
        try:
            served = self._served()
        except BaseException:
            self.close()
            raise
        self._id = str(served["id"])
        self._name = self._name or self._id
        qwen25 = _QWEN25.search(self._id) is not None
        self._family = "qwen2.5-vl" if qwen25 else "remote"
        self._unit = MERGE_PIXELS["qwen2.5-vl" if qwen25 else "qwen3-vl"]  # for estimates
        self._context = context_size or context_of(served) or self._context_elsewhere(key) or DEFAULT_CONTEXT

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
        return ModelInfo(self._id, self._family, self._context, at, at, self.address.outside)

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        return bounded_frame_size(width, height, self._unit, max_tokens, pixels)

    def count_tokens(self, prompt: Prompt) -> int:
        """An estimate: 3 bytes of UTF-8 to a token, and a token for the pixels that Qwen makes one of. Servers do not merge frame pairs."""
        count = 0.0
        for part in chain.from_iterable(message.parts for message in prompt):
            if isinstance(part, Text):
                count += len(part.text.encode(errors="replace")) / _BYTES_PER_TOKEN
            else:
                count += sum(frame.width * frame.height / self._unit**2 + 8 for frame in part.frames)
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
        images = self._images
        if frames:  # the next question usually shows the same frames
            self._images = images = {frame.key: images.get(frame.key) or _jpeg(frame) for frame in frames}
        self._interrupted = False
        yield Progress("prefill", 0, 0)
        count = self.count_tokens(prompt)
        messages = [_message(message.role, message.parts, images) for message in prompt]  # other threads may have other ones by now
        request = Request(self._name, messages, schema, max_tokens, self._context - count, temperature, seed, protocol=bool(wrap[0]))
        started = time.perf_counter()
        first: float | None = None
        forms = self._dialect.forms(request)
        spoken = False  # deltas of a broken attempt cannot be taken back: only the whole reply tells of the next one
        for left in reversed(range(_ATTEMPTS)):
            text, thought, refusal, usage = "", "", "", Usage(images=len(frames))
            finish: str | None = None
            try:
                # In a thread, so that the wait for the server can be interrupted; what it is ahead of us is text, and small.
                read = partial(self._chunks, request, forms)
                with closing(iterate_in_background(read, _AHEAD, self._idle)) as chunks:
                    for chunk in chunks:
                        piece = read_chunk(chunk, len(frames))
                        usage, finish, thought = piece.usage or usage, finish or piece.finish, thought + piece.thought
                        if piece.text and first is None:
                            first = time.perf_counter()
                            yield Progress("prefill", count, count)
                        text, refusal = text + piece.text, refusal + piece.refusal
                        yield Delta("" if spoken else piece.text)
                        newest = text if piece.text else thought
                        if finish is None and repeats_itself(newest, as_json=schema is not None and newest is text):
                            finish = "loop"  # it would go on to its limit; the server sees the connection close
                            break
                if finish is None:  # the end of a stream that breaks without a word looks like its end
                    raise EOFError("the reply ended in the middle")
                break
            except broken() as error:
                if reported(error) and schema is not None:
                    # llama-server parses a constrained reply again and may then disown it.
                    if is_json_object(text):
                        break
                    forms = [form for form in forms[1:] if form in ("object", "text")] or forms
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
        cut = self._is_cut(usage, prompt)
        advice = self._advice(finish, bool(thought) or "</think>" in text, request) or (self._of_cut(usage, count) if cut else "")
        kind: Finish = "loop" if finish == "loop" else "length" if finish == "length" else "stop"
        closers = "" if schema is None or kind == "stop" else closers_of(text)
        bare = schema is not None and wrap[0].strip() and wrap[0].strip() not in text and text.lstrip().startswith("{")
        begin, end = wrap if bare else ("", "")
        yield Reply(f"{begin}{text}{closers}{end}", kind, usage, advice, cut, closers and f"{closers}{end}")

    def _advice(self, finish: str | None, thought: bool, request: Request) -> str:
        """What to do about a reply that reached its limit."""
        if finish != "length":
            return ""
        ways = ["turn its thinking off on the server"] if thought else []
        if self._dialect.limit(request) < _REPLY_TOKENS:
            ways.append("start the server with a larger context, and give it as --ctx-size")
        return ", or ".join(ways)

    def _is_cut(self, usage: Usage, prompt: Prompt) -> bool:
        """Whether the server read a part of the prompt: Ollama cuts in silence what does not fit its context."""
        parts = [part for message in prompt for part in message.parts]
        least = sum(len(part.text) / _MOST_CHARACTERS for part in parts if isinstance(part, Text))
        frames = (frame for part in parts if isinstance(part, Frames) for frame in part.frames)
        least += sum(min(_LEAST_IMAGE, frame.width * frame.height / self._unit**2) for frame in frames)
        return _LEAST_CONTEXT < usage.prompt_tokens < least

    def _of_cut(self, usage: Usage, count: int) -> str:
        """What to do about it, told once."""
        if self._told_of_cut:
            return ""
        self._told_of_cut = True
        return (
            f"it says that it read {usage.prompt_tokens} tokens of a prompt of about {count}: if its context is smaller than "
            f"{self._context}, raise it (Ollama: OLLAMA_CONTEXT_LENGTH or num_ctx), or give it as --ctx-size"
        )

    def interrupt(self) -> None:
        self._interrupted = True

    def _idle(self) -> tuple[None]:
        """What stands for a chunk while the server is silent: whoever reads the stream has a time limit to check."""
        if self._interrupted:
            raise KeyboardInterrupt
        return (None,)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _chunks(self, request: Request, forms: Sequence[Form], stop: Event) -> Iterator[Any]:
        """The reply as the server streams it."""
        with closing(self._create(request, forms)) as stream:
            try:
                for chunk in chunks_of(stream):
                    if stop.is_set():  # the server sees the connection close, and stops
                        return
                    yield chunk
            except NotAReplyError as error:
                raise UnreachableError(f"{self.address.host} sent no OpenAI-compatible reply ({error}): is the address right?") from error

    def _create(self, request: Request, forms: Sequence[Form]) -> Any:
        """Send the request in the first of these forms that the server takes, without what it does not know."""
        from openai import APIError, APIStatusError

        refused = False
        while True:
            body = self._dialect.body(request, forms[0])
            try:
                chunks = self._client.chat.completions.create(**body)
            except APIStatusError as error:
                if not self._dialect.adapts(error, request, body):
                    logger.info("%s refused a request in the form %s (%s)", self.address.host, forms[0], reason(error))
                    forms, refused = other_forms(error, forms), True
                if not forms:
                    raise failure(error, self.address, self._name) from error
            except APIError as error:
                raise failure(error, self.address, self._name) from error
            else:
                if refused:
                    self._dialect.accepted(request, forms[0])
                return chunks

    def _served(self) -> Mapping[str, Any]:
        """The server's entry for the model, the same by whatever name it is asked for."""
        from openai import APIError, APIStatusError

        try:
            models: list[dict[str, Any]] = [model.model_dump(warnings=False) for model in self._listed()]
            models = [model for model in models if isinstance(model.get("id"), str)]
        except APIError as error:
            if self.address.name and isinstance(error, APIStatusError) and error.status_code in _NO_LIST:
                return {"id": self.address.name}
            raise failure(error, self.address, self._name) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{self.address.shown} is not an OpenAI-compatible server: it lists no models") from error
        if self.address.name:
            found = entry_of(models, self.address.name)
            # Some servers know more names than they list, and OpenAI's list is long.
            return {"id": self.address.name} if found is None else first_of(models, found)
        names = [str(model["id"]) for model in distinct(models)]
        if len(names) == 1:
            return models[0]
        if not models:
            raise ModelError(f"{self.address.host} serves no model: load one there first")
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise ModelError(
            f"{self.address.host} serves {len(names)} models: name one, as in --model {self.address.shown}#{names[0]} ({shown})"
        )

    def _listed(self) -> list[Any]:
        """The server's list of models. A mistyped address fails soon; a server that is there may be loading, or limit requests."""
        from openai import APIStatusError

        try:
            return self._client.with_options(max_retries=min(self._client.max_retries, 1)).models.list().data
        except APIStatusError as error:
            if is_lasting(error.status_code, error.body, error.response.headers):
                raise
            return self._client.models.list().data

    def _context_elsewhere(self, key: str) -> int | None:
        """The context size where the server does not tell it in its list of models."""
        import httpx2

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for path in () if self.address.openai else _ELSEWHERE:
            with suppress(httpx2.HTTPError, ValueError, RecursionError):
                answer = self._http.get(self.address.url.removesuffix("/v1") + path, headers=headers, timeout=_CONNECT_S)
                if size := context_elsewhere(answer.raise_for_status().json(), self._id):
                    return size
        return None


# ---- the connection ------------------------------------------------------------------------------------------------


def _connected(address: RemoteAddress, key: str, retries: int) -> tuple[OpenAI, httpx2.Client]:
    """The client, and the connections that it uses; see :class:`RemoteModel`.

    Raises:
        ModelError: the environment's proxy or the key cannot be used.
    """
    import httpx2
    from openai import DefaultHttpxClient, Omit, OpenAI

    if not is_key(key):
        raise ModelError(f"the key for {address.host} holds a letter that no key has, such as a line break: was it pasted whole?")
    timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
    # A proxy of the environment is for other machines; what it says of certificates is for this one, too.
    transport = httpx2.HTTPTransport() if address.loopback else None
    # Of the environment, too: whose account it is concerns OpenAI alone.
    hidden = cast(dict[str, str], {} if address.openai else dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), Omit()))
    try:
        http = DefaultHttpxClient(timeout=timeout, transport=transport, event_hooks={"response": [_no_vain_retries]})
    except (ImportError, ValueError, OSError) as error:  # a scheme that is unknown or needs another package; no such certificate
        raise ModelError(
            f"no connection to {address.host}: {' '.join(str(error).split())}; see HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from error
    client = OpenAI(
        base_url=address.url,
        api_key=key or "none",
        max_retries=retries,
        timeout=timeout,
        http_client=http,
        default_headers=hidden,
        default_query=dict(parse_qsl(address.query)),
    )
    return client, http


def _no_vain_retries(response: httpx2.Response) -> None:
    """Tell the client not to send a request again that is refused for good, whatever the status."""
    if response.status_code == 429 or response.status_code >= 500:
        response.read()
        if is_lasting(response.status_code, response.text, response.headers):
            response.headers["x-should-retry"] = "false"


# ---- what travels --------------------------------------------------------------------------------------------------


def _message(role: str, parts: tuple[Text | Frames, ...], images: Mapping[str, str]) -> dict[str, Any]:
    """A message in the API's format.

    Args:
        images: base64 of the JPEG file of every frame, by the frame's key.
    """
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": without_surrogates(part.text)})
            continue
        for frame in part.frames:
            if part.timed:
                content.append({"type": "text", "text": f"<{frame.time:.1f} seconds>"})
            content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{images[frame.key]}"}})
    if all(item["type"] == "text" for item in content):  # some servers know no other
        return {"role": role, "content": "".join(item["text"] for item in content)}
    return {"role": role, "content": content}


def _jpeg(frame: Frame) -> str:
    return base64.b64encode(frame.jpeg(_JPEG_QUALITY)).decode()

"""What the rest of the program may ask of a vision-language model: the prompt it takes and the stream it gives back.

A prompt is a list of chat messages, a message a list of parts: text, and frames with their times. How a family of models writes
them down (chat template, timestamp text, positions) is the implementation's own business.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, Final, Literal, Protocol, TypeAlias

from sage_cli.video.frame import Frame
from sage_cli.video.sampling import fit_size

DEFAULT_CONTEXT: Final = 16384  # tokens, where neither the model nor --ctx-size says: what SAGE needs for 128 frames

# ---- the prompt ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text. Control tokens spelled out in it (``<|im_start|>``) stay text: a prompt cannot be forged from inside."""

    text: str


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one video in time order, all of one size. None are nothing: the prompt is as without this part.

    Attributes:
        frames: what the model sees.
        pairs: merge two consecutive frames into one temporal slice, as for video input: half the tokens. ``False`` gives
            every frame a slice of its own, for the few frames that are to be looked at closely.
        timed: write the time before each slice, where the family of the model does so.
    """

    frames: tuple[Frame, ...]
    pairs: bool = True
    timed: bool = True


Part: TypeAlias = Text | Frames


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


Prompt: TypeAlias = Sequence[Message]

# ---- the reply -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost. Adds up over calls; :class:`Tally` counts it.

    Attributes:
        prompt_tokens: KV cells of the prompt, image tokens included.
        prompt_reused: of those, cells that were in the KV cache already.
        images: vision slices in the prompt (a merged frame pair is one).
        images_reused: of those, slices that were not encoded for this call.
        output_tokens: tokens of the reply.
        output_forced: of those, tokens the schema left no choice about: not sampled, fed in batches.
        load_s, encode_s, prefill_s, decode_s: wall seconds of loading the model (counted once, in the first call after
            it), vision encoding, prompt processing, and generation.
    """

    prompt_tokens: int = 0
    prompt_reused: int = 0
    images: int = 0
    images_reused: int = 0
    output_tokens: int = 0
    output_forced: int = 0
    load_s: float = 0.0
    encode_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})

    def __sub__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(Usage)})


class Tally:
    """A usage that is being counted, by several threads at once.

    Attributes:
        usage: so far.
    """

    def __init__(self, usage: Usage | None = None) -> None:
        self.usage = usage or Usage()
        self._lock = Lock()

    def add(self, usage: Usage) -> None:
        with self._lock:
            self.usage += usage

    @contextmanager
    def timing(self, counter: Literal["encode_s", "prefill_s"]) -> Iterator[None]:
        """Add the wall time of the block to one of the counters."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.add(Usage(encode_s=spent) if counter == "encode_s" else Usage(prefill_s=spent))


@dataclass(frozen=True, slots=True)
class Progress:
    """Work done before the first token: ``done`` of ``total`` vision slices encoded, or prompt tokens prefilled."""

    stage: Literal["encode", "prefill"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the reply's text."""

    text: str


Finish: TypeAlias = Literal["stop", "length", "loop"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole reply; the last item of every stream.

    Attributes:
        text: the concatenated deltas.
        finish: ``"stop"`` when the model (or the schema) ended it, ``"length"`` when the token limit did, ``"loop"`` when it repeated
            itself and was stopped there. Under a schema, a loop within a string ends that string alone: the model goes on after it.
        usage: what it cost.
        advice: what the user can do about a reply that was cut off, or about a prompt of which the model read only a part (told once).
        partial: whether the model read only a part of the prompt.
        closing: the end of the text that the model did not mean. A reply under a schema that is stopped by a limit or a loop is closed by
            the shortest way out of the schema, so that it is complete, valid JSON in any case. Only a schema that leaves no way out (a
            pattern that nothing matches soon), or a server, can leave it incomplete.
    """

    text: str
    finish: Finish
    usage: Usage
    advice: str = ""
    partial: bool = False
    closing: str = ""

    @property
    def said(self) -> str:
        """What the model meant: under a schema, JSON that may be incomplete."""
        return self.text.removesuffix(self.closing)

    @property
    def notice(self) -> str:
        """What the user has to know of it, besides the advice; ``""`` if nothing."""
        if self.finish == "stop":
            return "the server read only a part of the prompt" if self.advice else ""
        if self.finish == "loop":
            return "the model repeated itself and was stopped there: its answer may be wrong or incomplete"
        after = f" after {self.usage.output_tokens} tokens" if self.usage.output_tokens else ""
        return f"the model's reply was cut off{after}: its answer may be wrong or incomplete"


StreamItem: TypeAlias = Progress | Delta | Reply


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded and where it runs; for the event stream and for people.

    Attributes:
        name: short name for people.
        family: ``"qwen3-vl"`` or ``"qwen2.5-vl"``; ``"remote"`` for a served model whose name does not tell it.
        context_size: KV cells (tokens) that a prompt and its reply share.
        device: where the language model runs, e.g. ``"CPU"`` or ``"CUDA0 (28 of 36 layers)"``.
        vision_device: where the vision encoder runs.
        host: where prompts and frames are sent; ``""`` when they stay on this machine.
    """

    name: str
    family: str
    context_size: int
    device: str
    vision_device: str
    host: str = ""


class ChatModel(Protocol):
    """A vision-language model that streams its reply."""

    @property
    def info(self) -> ModelInfo: ...

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        """``(width, height)`` in pixels that a frame of the given display size should be resized to.

        Args:
            max_tokens: most vision tokens a slice may take.
            pixels: fewest and most pixels of a frame, where ``max_tokens`` is ``None``; both ``None`` for the reference's.
        """
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """KV cells the prompt takes, image tokens included. Nothing is encoded or decoded."""
        ...

    def prefetch(self, prompt: Prompt) -> None:
        """Prepare a coming prompt while some of its frames are still being decoded. A hint: a model may do nothing.

        Args:
            prompt: with the frames that are there already, in whole pairs. What follows its last frame may still change.

        Raises:
            ModelError: the model failed.
        """
        ...

    def forget(self) -> None:
        """Drop all prompts, so that the next reply does not depend on earlier ones, not even in rounding."""
        ...

    def interrupt(self) -> None:
        """Stop the current call from any thread, even inside native code; the thread that made the call gets a KeyboardInterrupt.

        Without a current call, the next one may be stopped instead: the caller must know that the right call is running.
        """
        ...

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
        """Generate a reply.

        Args:
            schema: JSON schema that the reply has to satisfy; ``None`` for free text.
            wrap: literal text before and after the JSON (``("<json>\\n", "\\n</json>")``); part of the reply's text.
            max_tokens: most tokens to generate.
            temperature: 0 is greedy.
            seed: of the sampler; the same seed and prompt give the same reply.

        Yields:
            Any number of :class:`Progress`, then of :class:`Delta`, and one :class:`Reply` at the end.

        Raises:
            ModelError: the prompt and reply do not fit the context, or the model failed.
        """
        ...


# The reference's bounds for a frame, in pixels (qwen-vl-utils, as SAGE configures it).
_REFERENCE_PIXELS: Final = (128 * 28 * 28, 105_369)


def bounded_frame_size(width: int, height: int, unit: int, max_tokens: int | None, pixels: tuple[int, int] | None) -> tuple[int, int]:
    """``(width, height)`` in pixels of a frame within the reference's bounds, or those given; see :meth:`ChatModel.frame_size`.

    Args:
        unit: side in pixels of the square that becomes one vision token.
    """
    least, most = pixels or _REFERENCE_PIXELS
    if max_tokens:
        most = max_tokens * unit * unit
    return fit_size(width, height, min_pixels=min(least, most), max_pixels=most, multiple=unit, strict=max_tokens is not None)

"""The model in training as a :class:`sage_cli.model.ChatModel`: many agents ask at once, each in a thread of its own, and are answered in
batches.

Prompts are rendered by the template and replies held to their schema by the constraint that ``sage`` uses at inference; only the forward
pass is torch's. Every call is recorded with what GRPO needs of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from llguidance import LLTokenizer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sage_cli.model.base import Delta, ModelInfo, Prompt, Reply, StreamItem, Usage
from sage_cli.model.constrain import Constraint
from sage_cli.model.qwen import Item, QwenTemplate, Slice, VisionBlock, item_cells
from training.language import Cache, positions
from training.model import IMAGE_PAD, SLICE_TOKENS, device_of, encode_slices, patches
from training.tokens import VOCABULARY, Encoder
from training.world import SIZE

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

T = TypeVar("T")
Role: TypeAlias = Literal["look", "reason", "ground", "analyze"]
CONTEXT: Final = 4096  # tokens
WIND_DOWN: Final = 24  # tokens before the limit at which a reply begins to close
_ROWS: Final = 128  # replies decoded side by side


@dataclass(eq=False)
class Call:
    """One call of the model: the prompt, and the reply as it came to be.

    Attributes:
        role: what it was asked for.
        prompt: tokens, image pads included.
        slices: keys of the slices the prompt shows, in order.
        reply: its tokens.
        sampled: places in the reply of the tokens that were chosen among several; the schema forced the others.
        allowed: which tokens could come there.
        ending: the token that ends a reply without a schema; it is not part of the reply.
        finish: as in :class:`sage_cli.model.Reply`.
    """

    role: Role
    prompt: list[int]
    slices: list[str]
    constraint: Constraint | None
    max_tokens: int
    temperature: float
    rng: np.random.Generator
    ending: int
    reply: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    allowed: list[NDArray[np.int32]] = field(default_factory=list)
    finish: Literal["stop", "length"] = "stop"
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Engine:
    """Generates replies in batches.

    Args:
        model: shared; its weights may change between rounds.
        tokenizer: path of ``tokenizer.json``.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, tokenizer: Path) -> None:
        self.model, self.encoder = model, Encoder(tokenizer)
        control = self.encoder.control
        self.grammar = LLTokenizer(tokenizer.read_text(encoding="utf-8"), n_vocab=VOCABULARY, eos_token=control["<|im_end|>"])
        self.template = QwenTemplate("qwen3-vl", tokenize=self.encoder.plain, control=lambda text: control[text])
        self.end = control["<|im_end|>"]
        self.image_pad = control[IMAGE_PAD]
        self.embeddings: dict[str, Tensor] = {}  # of slices, by key
        self._new_slices: dict[str, Slice] = {}
        self._lock = threading.Condition()
        self._asked: list[Call] = []
        self._running = 0

    # ---- agents ----------------------------------------------------------------------------------------------------

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run jobs in threads, answering all that wait whenever all wait. Returns their results in order.

        Raises:
            Exception: a job's first one.
        """
        with ThreadPoolExecutor(len(jobs)) as pool:
            self._running = len(jobs)
            futures: list[Future[T]] = [pool.submit(self._finish, job) for job in jobs]
            while True:
                with self._lock:
                    self._lock.wait_for(lambda: len(self._asked) == self._running)
                    if not self._running:
                        break
                    asked, self._asked = self._asked, []
                self._answer(asked)
        return [future.result() for future in futures]

    def _finish(self, job: Callable[[], T]) -> T:
        try:
            return job()
        finally:
            with self._lock:
                self._running -= 1
                self._lock.notify_all()

    def ask(self, call: Call, slices: Mapping[str, Slice]) -> None:
        """Wait for the reply to a call. For jobs of :meth:`run`."""
        with self._lock:
            self._new_slices.update({key: part for key, part in slices.items() if key not in self.embeddings})
            self._asked.append(call)
            self._lock.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error

    def forget(self) -> None:
        """Drop the embeddings of slices met so far."""
        self.embeddings.clear()

    # ---- batches ---------------------------------------------------------------------------------------------------

    def _answer(self, calls: list[Call]) -> None:
        error: BaseException | None = None
        try:
            self._embed()
            calls.sort(key=lambda call: -len(call.prompt))
            for at in range(0, len(calls), _ROWS):
                self._generate(calls[at : at + _ROWS])
        except BaseException as problem:
            error = problem
            raise
        finally:
            for call in calls:
                call.error = error
                call.done.set()

    @torch.no_grad()
    def _embed(self) -> None:
        slices, self._new_slices = self._new_slices, {}
        keys = list(slices)
        for at in range(0, len(keys), 256):
            pictures = [[frame.image for frame in slices[key].frames] for key in keys[at : at + 256]]
            frames = np.stack([np.stack([images[0], images[-1]]) for images in pictures])
            made = encode_slices(self.model, patches(frames).to(device_of(self.model)), deepstack_too=False)[0]
            self.embeddings.update(zip(keys[at : at + 256], made, strict=True))

    @torch.no_grad()
    def _generate(self, calls: Sequence[Call]) -> None:
        rows = [_Row(call) for call in calls]
        longest = max(len(call.prompt) for call in calls)
        cache = Cache(self.model, len(rows), longest + max(call.max_tokens for call in calls) + 2 * WIND_DOWN)
        logits = self._prefill(cache, rows, longest)
        while True:
            for row, scores in zip(rows, logits, strict=True):
                if not row.over:
                    row.choose(scores)
            live = [row for row in rows if not row.over]
            if not live:
                return
            if len(live) * 2 < len(rows):  # the rows that are over would only be carried along
                cache.keep([index for index, row in enumerate(rows) if not row.over])
                rows = live
            logits = self._decode(cache, rows)

    def _prefill(self, cache: Cache, rows: Sequence[_Row], longest: int) -> NDArray[np.float32]:
        device = device_of(self.model)
        ids = np.zeros((len(rows), longest), np.int64)
        places = np.zeros((3, len(rows), longest), np.int64)
        for number, row in enumerate(rows):
            prompt = row.call.prompt
            ids[number, : len(prompt)] = prompt
            places[:, number, : len(prompt)], row.place = positions(prompt, self.image_pad)
            row.length = len(prompt)
        given = torch.from_numpy(ids).to(device)
        embedded = self.model.model.language_model.embed_tokens(given)
        shown = [self.embeddings[key] for row in rows for key in row.call.slices]
        if shown:
            embedded[given == self.image_pad] = torch.cat(shown).to(embedded.dtype)
        hidden = cache.extend(
            embedded, torch.from_numpy(places).to(device), torch.zeros(len(rows), dtype=torch.long, device=device), longest
        )
        last = torch.tensor([row.length - 1 for row in rows], device=device)
        return self._logits(hidden[torch.arange(len(rows), device=device), last])

    def _decode(self, cache: Cache, rows: Sequence[_Row]) -> NDArray[np.float32]:
        device = device_of(self.model)
        new = max(len(row.pending) for row in rows)
        ids, starts, steps = np.zeros((len(rows), new), np.int64), np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        first = np.zeros(len(rows), np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row.pending)] = row.pending
            starts[number], first[number], steps[number] = row.length, row.place, max(0, len(row.pending) - 1)
            row.length += len(row.pending)
            row.place += len(row.pending)
            row.pending = []
        reach = int((starts + new).max())
        places = torch.from_numpy(first[:, None] + np.arange(new)).to(device).expand(3, -1, -1)
        embedded = self.model.model.language_model.embed_tokens(torch.from_numpy(ids).to(device))
        hidden = cache.extend(embedded, places, torch.from_numpy(starts).to(device), min(reach, cache.length))
        return self._logits(hidden[torch.arange(len(rows), device=device), torch.from_numpy(steps).to(device)])

    def _logits(self, hidden: Tensor) -> NDArray[np.float32]:
        logits = functional.linear(hidden, self.model.model.language_model.embed_tokens.weight)
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result


class _Row:
    """A reply in the making."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.pending: list[int] = []  # tokens of the reply that are not decoded yet
        self.over = False
        self.length = 0  # tokens decoded, and the M-RoPE position of the next
        self.place = 0

    def choose(self, logits: NDArray[np.float32]) -> None:
        """Take what the schema forces and one token more, or end the reply."""
        call = self.call
        if call.constraint is not None:
            forced = call.constraint.forced()
            if forced:
                self._take(forced)
                self.over = call.constraint.finished
                return  # what comes next depends on these
            if call.constraint.finished:
                self.over = True
                return
        elif len(call.reply) >= call.max_tokens:
            call.finish, self.over = "length", True
            return
        token = self._sample(logits)
        if token == call.ending:
            self.over = True
            return
        if call.constraint is not None:
            call.constraint.accept([token])
            self._take([token])
            self._take(call.constraint.forced())
            self.over = call.constraint.finished
        else:
            self._take([token])

    def _take(self, tokens: Sequence[int]) -> None:
        self.pending += tokens
        self.call.reply += tokens

    def _sample(self, logits: NDArray[np.float32]) -> int:
        call, constraint = self.call, self.call.constraint
        mask = None if constraint is None else constraint.mask()
        if constraint is not None and mask is not None and len(call.reply) >= call.max_tokens - WIND_DOWN:
            call.finish = "length"
            if (closing := constraint.closer(mask)) is not None:
                return closing
        allowed = np.arange(len(logits), dtype=np.int32) if mask is None else mask.tokens(len(logits))
        scores = logits[allowed]
        if call.temperature <= 0:
            chosen = int(scores.argmax())
        else:
            weights = np.exp((scores - scores.max()).astype(np.float64) / call.temperature).cumsum()
            chosen = int(np.searchsorted(weights, call.rng.random() * weights[-1], side="right"))
        call.sampled.append(len(call.reply))
        call.allowed.append(allowed)
        return int(allowed[min(chosen, len(allowed) - 1)])


class RolloutModel:
    """What one agent asks. Keeps its calls.

    Args:
        seed: of the sampler.
        temperature: of the agent's own calls; the tools' are greedy, as in ``sage``.
        reply_tokens: most tokens of any reply.
    """

    def __init__(self, engine: Engine, seed: int, *, temperature: float, reply_tokens: int) -> None:
        self.engine, self.temperature, self.reply_tokens = engine, temperature, reply_tokens
        self.info = ModelInfo("nano in training", "qwen3-vl", CONTEXT, "torch", "torch")
        self.calls: list[Call] = []
        self._rng = np.random.default_rng(seed)

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        return SIZE, SIZE

    def forget(self) -> None:
        """No prompt is held."""

    def interrupt(self) -> None:
        """A batch is waited for to its end."""

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(item_cells(item) for item in self.engine.template.render(prompt))

    def prefetch(self, prompt: Prompt) -> None:
        """All slices of a batch are encoded at once."""

    def stream(
        self,
        prompt: Prompt,
        *,
        schema: Mapping[str, Any] | None = None,
        wrap: tuple[str, str] = ("", ""),
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generator[StreamItem, None, None]:
        constraint = None if schema is None else Constraint(self.engine.grammar, schema, wrap)
        ids, slices = self._tokens(self.engine.template.render(prompt))
        role = _role(schema)
        warm = self.temperature if role in ("look", "reason") else 0.0
        call = Call(role, ids, list(slices), constraint, min(max_tokens, self.reply_tokens), warm, self._rng, self.engine.end)
        self.engine.ask(call, slices)
        self.calls.append(call)
        text = self.engine.encoder.tokenizer.decode(call.reply)
        yield Delta(text)
        yield Reply(text, call.finish, Usage(prompt_tokens=len(ids), output_tokens=len(call.reply)))

    def _tokens(self, items: Sequence[Item]) -> tuple[list[int], dict[str, Slice]]:
        ids: list[int] = []
        slices: dict[str, Slice] = {}
        for item in items:
            if isinstance(item, VisionBlock):
                ids += [self.engine.image_pad] * SLICE_TOKENS
                slices |= {part.key: part for part in item.slices}
            else:
                ids.append(item)
        return ids, slices


def _role(schema: Mapping[str, Any] | None) -> Role:
    if schema is None:
        return "analyze"
    keys = schema["anyOf"][0]["properties"] if "anyOf" in schema else schema["properties"]
    return "look" if "video_context" in keys else "reason" if "answerable" in keys else "ground"

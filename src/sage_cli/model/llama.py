"""SAGE-MM and its kin (Qwen3-VL, Qwen2.5-VL) as GGUF, through llama.cpp on Metal, CUDA, Vulkan or CPU.

Stands on llama-cpp-python's low-level API: its stock chat handlers clear the KV cache and encode every image again on every call.
"""

from __future__ import annotations

import codecs
import ctypes
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from llama_cpp import llama_cpp as llama
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.base import Delta, Frames, ModelInfo, Progress, Prompt, Reply, StreamItem, Usage
from sage_cli.model.constrain import Constraint
from sage_cli.model.disk import ModelCache
from sage_cli.model.kvcache import MAX_SEQUENCES, CachedSequence, KVCache
from sage_cli.model.native import Interruptible, KVType, c_array, default_threads, load_weights, make_context, metadata, route_logs
from sage_cli.model.qwen import Family, Item, QwenTemplate, VisionBlock, item_cells, slices_of
from sage_cli.model.vision import VisionEncoder
from sage_cli.store.content import fingerprint
from sage_cli.video.sampling import fit_size

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT: Final = 16384
BATCH: Final = 512  # most tokens of one llama_decode
CHUNK: Final = 64  # text of a prompt is decoded in chunks of this many tokens; a cached prefix is reused up to the end of a whole one
MIN_REPLY: Final = 256  # cells that a prompt has to leave for its reply
WIND_DOWN: Final = 256  # tokens before the limit at which a constrained reply starts to close

# The reference's bounds for a frame, in pixels (qwen-vl-utils, as SAGE configures it).
REFERENCE_MIN_PIXELS: Final = 128 * 28 * 28
REFERENCE_MAX_PIXELS: Final = 105_369

_FAMILIES: Final[dict[str, Family]] = {"qwen3vl": "qwen3-vl", "qwen3vlmoe": "qwen3-vl", "qwen2vl": "qwen2.5-vl"}
_MERGE_PIXELS: Final[dict[Family, int]] = {"qwen3-vl": 32, "qwen2.5-vl": 28}
_PROJECTORS: Final[dict[Family, str]] = {"qwen3-vl": "qwen3vl_merger", "qwen2.5-vl": "qwen2.5vl_merger"}


class LlamaModel:
    """A local vision-language model; implements :class:`sage_cli.model.base.ChatModel`.

    Owns the weights, the KV cache and the frame embeddings. Not thread-safe. Use as a context manager, or :meth:`close` it.

    Args:
        text: GGUF of the language model (of the first shard, for a split model).
        mmproj: GGUF of its vision encoder.
        context_size: KV cells; ``None`` for the smaller of the model's own limit and 16384.
        gpu_layers: layers to offload; ``None`` for all, 0 for CPU only.
        threads: CPU threads; ``None`` to fit the machine.
        kv_type: type of the KV cache; ``"q8_0"`` takes half the memory of ``"f16"``, ``"f32"`` twice as much.
        flash_attention: use it where the device can; a q8_0 cache needs it.
        cache: keeps embeddings and prompt prefixes on disk for later processes; ``None`` for memory only.
        reuse: keep KV cells and frame embeddings between calls. Off only to show that replies stay the same, token for token.

    Raises:
        ModelError: a file is missing, damaged, of an unknown family, or does not fit the other one or the memory.
    """

    def __init__(
        self,
        text: Path,
        mmproj: Path,
        *,
        context_size: int | None = None,
        gpu_layers: int | None = None,
        threads: int | None = None,
        kv_type: KVType = "f16",
        flash_attention: bool = True,
        cache: ModelCache | None = None,
        reuse: bool = True,
    ) -> None:
        started = time.perf_counter()
        self._context: Any = None
        self._vision: VisionEncoder | None = None
        self._reuse = reuse
        self._interruptible = Interruptible()
        route_logs()
        llama.llama_backend_init()
        self._model: Any = None
        try:
            with self._interruptible.guard():
                self._model, device = load_weights(text, gpu_layers)
                architecture = metadata(self._model, "general.architecture")
                if architecture not in _FAMILIES:
                    known = "Qwen3-VL and Qwen2.5-VL"
                    raise ModelError(f"{text}: this is a {architecture} model; sage runs {known} models such as SAGE-MM")
                self._family = _FAMILIES[architecture]
                self._vocab = llama.llama_model_get_vocab(self._model)
                self._n_vocab = int(llama.llama_vocab_n_tokens(self._vocab))
                generate, batch = (threads, threads) if threads else default_threads()
                limit = int(llama.llama_model_n_ctx_train(self._model))
                self._context = make_context(
                    self._model,
                    n_ctx=context_size or min(limit, DEFAULT_CONTEXT),
                    n_threads=generate,
                    n_threads_batch=batch,
                    n_batch=BATCH,
                    n_sequences=MAX_SEQUENCES,
                    kv_type=kv_type,
                    flash_attention=flash_attention,
                    offload=gpu_layers != 0,
                )
                self._cache = KVCache(self._context, int(llama.llama_n_ctx(self._context)), reuse=reuse)
                projector = _PROJECTORS[self._family]
                self._vision = VisionEncoder(mmproj, self._model, projector=projector, use_gpu=gpu_layers != 0, threads=batch, cache=cache)
                self._template = QwenTemplate(
                    self._family, tokenize=self.tokenize, control=self._control_token, merge_pixels=_MERGE_PIXELS[self._family]
                )
        except BaseException:
            self.close()
            raise
        self._disk = cache
        self._identity = " ".join(
            (
                fingerprint(text),
                fingerprint(mmproj),
                device,
                self._vision.device,
                kv_type,
                str(flash_attention),
                version("llama-cpp-python"),
            )
        )
        self._info = ModelInfo(text.stem, self._family, self._cache.size, device, self._vision.device)
        self._before = Usage(load_s=time.perf_counter() - started)  # of the work done before a reply was asked for
        self._prefetched: set[str] = set()  # keys of slices whose first prompt is still to come

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.persist()
        self.close()

    def persist(self) -> None:
        """Put the videos that prompts began with on disk, for later processes to start from. Done last: it can take seconds."""
        if self._disk is not None:
            for sequence in self._cache.sequences:
                self._keep(sequence, self._disk)

    def close(self) -> None:
        """Free the weights and all memory. Safe to call again."""
        if self._vision:
            self._vision.close()
            self._vision = None
        if self._context:
            llama.llama_free(self._context)
            self._context = None
        if self._model:
            self.__dict__.pop("_grammar_tokenizer", None)  # holds a pointer into the model
            llama.llama_model_free(self._model)
            self._model = None

    def forget(self) -> None:
        """Hold no prompt any more, so that the next reply does not depend on earlier ones, not even in rounding. Frame embeddings stay."""
        self._cache.clear()

    # ---- what a model is asked -------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        return self._info

    def frame_size(self, width: int, height: int, max_tokens: int | None = None) -> tuple[int, int]:
        unit = _MERGE_PIXELS[self._family]
        most = REFERENCE_MAX_PIXELS if max_tokens is None else max_tokens * unit * unit
        return fit_size(width, height, min_pixels=min(REFERENCE_MIN_PIXELS, most), max_pixels=most, multiple=unit)

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(map(item_cells, self._template.render(prompt)))

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens spelled out in it are ordinary text (llama_tokenize)."""
        data = text.encode()
        room = len(data) + 8
        buffer = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, room, False, False)
        return list(buffer[:count])

    def prefetch(self, frames: Frames) -> None:
        """Nothing where the encoder runs on the CPU: it would take the cores from the decoders, and memory beside theirs."""
        assert self._vision is not None
        if self._vision.device == "CPU" or not self._reuse:
            return
        for part in slices_of(frames):
            rows, columns = self._template.grid(part.frames[0])
            with _timing(self._before, "encode_s"), self._interruptible.guard():
                _, fresh = self._vision.embed(part, rows * columns)
            if fresh:
                self._prefetched.add(part.key)

    def stream(
        self,
        prompt: Prompt,
        *,
        schema: Mapping[str, Any] | None = None,
        wrap: tuple[str, str] = ("", ""),
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[StreamItem]:
        items = self._template.render(prompt)
        cells = sum(map(item_cells, items))
        if cells + min(MIN_REPLY, max_tokens) > self._cache.size:
            raise ModelError(
                f"the prompt takes {cells} tokens, the context holds {self._cache.size} with the reply; "
                "use fewer --frames, smaller --frame-tokens, or a larger --ctx-size"
            )
        constraint = Constraint(self._grammar_tokenizer, schema, wrap) if schema is not None else None
        assert self._vision is not None
        if not self._reuse:
            self._vision.clear()
        room = min(max_tokens, self._cache.size - cells)
        # Loading and prefetching are counted once, in the first call after them.
        usage = self._before + Usage(prompt_tokens=cells)
        self._before = Usage()
        sequence = self._cache.claim(items)
        self._restore(sequence, items)
        usage.prompt_reused = sequence.cells
        try:
            yield from self._prefill(sequence, items, usage)
            yield from self._generate(sequence, constraint, room, temperature, np.random.default_rng(seed), usage)
        finally:
            self._cache.truncate(sequence, len(sequence.items))  # a block that was cut off half-way leaves cells behind

    # ---- prefill ---------------------------------------------------------------------------------------------------

    def _prefill(self, sequence: CachedSequence, items: Sequence[Item], usage: Usage) -> Iterator[Progress]:
        """Encode and decode what the sequence does not hold yet; a stream of progress."""
        assert self._vision is not None
        held = len(sequence.items)
        todo = items[held:]
        total = sum(map(item_cells, todo))
        done = 0
        blocks = [item for item in todo if isinstance(item, VisionBlock)]
        slices = sum(len(block.slices) for block in blocks)
        usage.images = sum(len(item.slices) for item in items if isinstance(item, VisionBlock))
        usage.images_reused = usage.images - slices
        encoded = 0
        end = _end_of_frames(items)  # what comes after it is the question: another one is to find all the rest
        for group in chain(_batches(items[held:end]), _batches(items[max(held, end) :])):
            if isinstance(group, VisionBlock):
                for index, part in enumerate(group.slices):
                    with _timing(usage, "encode_s"), self._interruptible.guard():
                        embedding, fresh = self._vision.embed(part, group.rows * group.columns)
                    encoded += 1
                    usage.images_reused += not fresh and part.key not in self._prefetched
                    self._prefetched.discard(part.key)
                    yield Progress("encode", encoded, slices)
                    with _timing(usage, "prefill_s"):
                        self._decode_slice(sequence, group, index, embedding)
                sequence.push(group)
                done += group.cells
            else:
                with _timing(usage, "prefill_s"):
                    self._decode_tokens(sequence, group)
                done += len(group)
            # A block, a whole chunk of text, the text before a block and what closes the last one end at the same place in every prompt
            # that begins like this one.
            at_block = any(isinstance(item, VisionBlock) for item in items[len(sequence.items) : len(sequence.items) + 1])
            if isinstance(group, VisionBlock) or len(group) == CHUNK or at_block or len(sequence.items) == end:
                sequence.seams.append(len(sequence.items))
            yield Progress("prefill", done, total)

    def _restore(self, sequence: CachedSequence, items: Sequence[Item]) -> None:
        """Read the prompt up to its last frames from disk, if it lies there and not in the sequence already (llama_state_seq_load_file)."""
        prefix = items[: _end_of_frames(items)]
        if self._disk is None or len(prefix) <= len(sequence.items):
            return

        def load(path: Path) -> bool:
            self._cache.truncate(sequence, 0)
            tokens, count = (llama.llama_token * 1)(), ctypes.c_size_t(0)
            arguments = (self._context, os.fsencode(path), sequence.id, tokens, 1, ctypes.byref(count))
            while not (loaded := llama.llama_state_seq_load_file(*arguments)) and self._cache.make_room(sequence):
                pass
            return bool(loaded)

        if self._disk.prefix(self._prefix_key(prefix), load):
            for item in prefix:
                sequence.push(item)
            sequence.seams.append(len(prefix))

    def _keep(self, sequence: CachedSequence, disk: ModelCache) -> None:
        """Cut a sequence back to its last frames and put it on disk (llama_state_seq_save_file)."""
        self._cache.truncate(sequence, _end_of_frames(sequence.items))
        if not sequence.items:
            return
        size = int(llama.llama_state_seq_get_size(self._context, sequence.id))
        none = (llama.llama_token * 1)()

        def save(path: Path) -> bool:
            return bool(llama.llama_state_seq_save_file(self._context, os.fsencode(path), sequence.id, none, 0))

        disk.keep_prefix(self._prefix_key(sequence.items), size, save, quick=sequence.cells < self._cache.size // 8)

    def _prefix_key(self, items: Sequence[Item]) -> str:
        """The model and the items, as a digest."""
        digest = hashlib.blake2b(self._identity.encode(), digest_size=16)
        for item in items:
            digest.update(repr(item.identity if isinstance(item, VisionBlock) else item).encode())
        return digest.hexdigest()

    def _decode_tokens(self, sequence: CachedSequence, tokens: Sequence[int]) -> None:
        """Decode text tokens into a sequence; logits of the last one become current."""
        count = len(tokens)
        positions = np.arange(sequence.end, sequence.end + count, dtype=np.int32)
        self._decode(sequence, count, positions, token=np.asarray(tokens, dtype=np.int32))
        for token in tokens:
            sequence.push(token)

    def _decode_slice(self, sequence: CachedSequence, block: VisionBlock, index: int, embedding: NDArray[np.float32]) -> None:
        """Decode the embeddings of one slice at the block's M-RoPE positions. The caller pushes the block when all of it is in."""
        positions = block.slice_positions(index, sequence.end)
        for first in range(0, len(embedding), BATCH):
            part = slice(first, first + BATCH)
            self._decode(sequence, len(embedding[part]), np.ascontiguousarray(positions[:, part]), embedding=embedding[part])

    def _decode(
        self,
        sequence: CachedSequence,
        count: int,
        positions: NDArray[np.int32],
        *,
        token: NDArray[np.int32] | None = None,
        embedding: NDArray[np.float32] | None = None,
    ) -> None:
        """One ``llama_decode`` of ``count`` tokens or embeddings; other sequences make room if need be."""
        sequence_ids = (llama.llama_seq_id * 1)(sequence.id)
        id_pointers = (ctypes.POINTER(llama.llama_seq_id) * count)(*[ctypes.cast(sequence_ids, ctypes.POINTER(llama.llama_seq_id))] * count)
        ids_per_token = np.ones(count, dtype=np.int32)
        outputs = np.zeros(count, dtype=np.int8)
        outputs[-1] = embedding is None
        batch = llama.llama_batch(
            n_tokens=count,
            token=None if token is None else c_array(token, llama.llama_token),
            embd=None if embedding is None else c_array(embedding, ctypes.c_float),
            pos=c_array(positions, llama.llama_pos),
            n_seq_id=c_array(ids_per_token, ctypes.c_int32),
            seq_id=id_pointers,
            logits=c_array(outputs, ctypes.c_int8),
        )
        status = self._llama_decode(batch, sequence)
        while status == _NO_ROOM and self._cache.make_room(sequence):
            status = self._llama_decode(batch, sequence)
        if status == _NO_ROOM:
            raise ModelError(f"the context of {self._cache.size} tokens is full; use a larger --ctx-size or fewer --frames")
        if status != 0:
            raise ModelError(f"llama.cpp failed on {count} tokens (llama_decode: {status}); try --gpu-layers 0 or a smaller --ctx-size")

    def _llama_decode(self, batch: Any, sequence: CachedSequence) -> int:
        """``llama_decode``, stopping on Ctrl-C; when that or a failure cuts it off, the sequence loses what came after its last item."""
        # The abort callback runs Python at every graph node: worth it in long batches, not for single tokens.
        slow = batch.n_tokens > CHUNK // 2
        if slow:
            llama.llama_set_abort_callback(self._context, self._interruptible.abort_callback, None)
        status = -1
        try:
            with self._interruptible.guard():
                status = llama.llama_decode(self._context, batch)
        finally:
            if slow:
                llama.llama_set_abort_callback(self._context, _NO_ABORT, None)
            if status not in (0, _NO_ROOM):
                self._cache.truncate(sequence, len(sequence.items))
        return int(status)

    # ---- generation ------------------------------------------------------------------------------------------------

    def _generate(
        self,
        sequence: CachedSequence,
        constraint: Constraint | None,
        max_tokens: int,
        temperature: float,
        rng: np.random.Generator,
        usage: Usage,
    ) -> Iterator[Delta | Reply]:
        """Sample until the schema, the model or the limit ends the reply."""
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        text: list[str] = []
        finish: Literal["stop", "length"] = "stop"
        wind_down = max(max_tokens - WIND_DOWN, max_tokens // 2)
        pending: list[int] = []  # accepted, streamed, not decoded yet

        def take(tokens: Sequence[int]) -> Iterator[Delta]:
            pending.extend(tokens)
            usage.output_tokens += len(tokens)
            piece = utf8.decode(b"".join(map(self._piece, tokens)))
            if piece:
                text.append(piece)
                yield Delta(piece)

        started = time.perf_counter()  # of generation: the time a consumer takes over a delta counts too
        while True:
            if constraint:
                forced = constraint.forced()
                usage.output_forced += len(forced)
                yield from take(forced)
                if constraint.finished:
                    break
            elif usage.output_tokens >= max_tokens:
                finish = "length"
                break
            for first in range(0, len(pending), BATCH):
                self._decode_tokens(sequence, pending[first : first + BATCH])
            pending.clear()
            logits = self._logits()
            token: int | None = None
            if constraint:
                allowed = constraint.allowed(self._n_vocab)
                if usage.output_tokens >= wind_down:
                    finish = "length"
                    token = constraint.closer(allowed)
                logits = np.where(allowed, logits, -np.inf)
            if token is None:
                token = _sample(logits, temperature, rng)
            if llama.llama_vocab_is_eog(self._vocab, token):
                break
            if constraint:
                constraint.accept([token])
            yield from take([token])
        if tail := utf8.decode(b"", final=True):
            text.append(tail)
            yield Delta(tail)
        usage.decode_s += time.perf_counter() - started
        yield Reply("".join(text), finish, usage)

    def _logits(self) -> NDArray[np.float32]:
        """Of the last decoded token, shape ``(n_vocab,)``; valid until the next decode."""
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self._context, -1), shape=(self._n_vocab,))

    # ---- vocabulary ------------------------------------------------------------------------------------------------

    @cached_property
    def _grammar_tokenizer(self) -> LLTokenizer:
        """llguidance's view of the vocabulary; takes about a second for 150k tokens, so made when first needed."""
        return lltokenizer_from_vocab(self._vocab)

    def _control_token(self, text: str) -> int:
        buffer = (llama.llama_token * 8)()
        data = text.encode()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, 8, False, True)
        if count != 1:
            raise ModelError(f"the model's vocabulary has no {text} token: this is not a Qwen-VL chat model")
        return int(buffer[0])

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(size, 0)]


_NO_ABORT: Final = llama.ggml_abort_callback()
_NO_ROOM: Final = 1  # of llama_decode: too few free cells; nothing was changed


@contextmanager
def _timing(usage: Usage, counter: Literal["encode_s", "prefill_s"]) -> Iterator[None]:
    """Add the wall seconds of the block to one of the counters."""
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(usage, counter, getattr(usage, counter) + time.perf_counter() - started)


def _end_of_frames(items: Sequence[Item]) -> int:
    """How many items there are up to the last vision block and the token that closes it, those included; 0 without one."""
    return min(len(items), 2 + max((index for index, item in enumerate(items) if isinstance(item, VisionBlock)), default=-2))


def _batches(items: Sequence[Item]) -> Iterator[list[int] | VisionBlock]:
    """Runs of text tokens, at most a chunk each, and vision blocks."""
    run: list[int] = []
    for item in items:
        if isinstance(item, VisionBlock) or len(run) == CHUNK:
            if run:
                yield run
            run = []
        if isinstance(item, VisionBlock):
            yield item
        else:
            run.append(item)
    if run:
        yield run


def _sample(logits: NDArray[np.float32], temperature: float, rng: np.random.Generator) -> int:
    """Greedy at temperature 0, else from the softmax; ``-inf`` marks what may not come."""
    if temperature <= 0:
        return int(np.argmax(logits))
    scaled = (logits - logits.max()).astype(np.float64) / temperature
    weights = np.exp(scaled)
    return int(rng.choice(len(weights), p=weights / weights.sum()))

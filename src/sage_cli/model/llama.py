"""SAGE-MM and other Qwen3-VL and Qwen2.5-VL models as GGUF files, run by llama.cpp on Metal, CUDA, Vulkan or CPU.

Uses llama-cpp-python's low-level API: its chat handlers clear the KV cache and encode every image again on every call.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sage_cli.errors import ModelError
from sage_cli.hardware.memory import check_address_space
from sage_cli.hardware.threads import Sharing, compute_threads
from sage_cli.model.base import DEFAULT_CONTEXT, Delta, ModelInfo, Prompt, StreamItem, Tally, Usage, bounded_frame_size
from sage_cli.model.batches import ON_CPU, ON_GPU, BatchSizes, cells_of, end_of_frames
from sage_cli.model.constrain import Constraint
from sage_cli.model.decoder import Decoder
from sage_cli.model.disk import ModelCache
from sage_cli.model.generate import Generation
from sage_cli.model.libraries import llama
from sage_cli.model.native import Interruptible, KVType, load_weights, make_context, route_logs
from sage_cli.model.prefill import Prefill
from sage_cli.model.prefixes import SEQUENCES, Prefixes
from sage_cli.model.qwen import MERGE_PIXELS, Family, QwenTemplate
from sage_cli.model.tokens import TokenEmbeddings
from sage_cli.model.vision import VisionEncoder
from sage_cli.model.vocabulary import Vocabulary
from sage_cli.signals import signals_held
from sage_cli.store.content import fingerprint
from sage_cli.store.gguf import read_metadata
from sage_cli.store.models import shards, weights_fingerprint

LARGEST_CONTEXT: Final = 1 << 22  # cells; llama.cpp counts their bytes in 64 bits, and other things in 32
MOST_THREADS: Final = 512  # GGML_MAX_N_THREADS: ggml aborts the process over more
MOST_LAYERS: Final = 9999
MIN_REPLY: Final = 256  # cells that a prompt has to leave for its reply

_FAMILIES: Final[dict[str, Family]] = {"qwen3vl": "qwen3-vl", "qwen3vlmoe": "qwen3-vl", "qwen2vl": "qwen2.5-vl"}
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
        sharing: decode tokens with fewer threads while other programs keep processors busy; see :class:`sage_cli.hardware.threads.Sharing`.
            Replies then depend on these in rounding.
        kv_type: type of the KV cache; ``"q8_0"`` takes half the memory of ``"f16"``, ``"f32"`` twice as much.
        flash_attention: use it where the device can; a q8_0 cache needs it.
        cache: disk cache for frame embeddings and KV prefixes; ``None`` for memory only.
        reuse: keep KV cells and frame embeddings between calls. Off only to show that replies stay the same, token for token.
        stop_loops: end a reply that only repeats itself. Turn it off only for measurements with random weights.
        batch_sizes: batch sizes of the prefill; ``None`` to fit the device.

    Raises:
        ModelError: a file is missing, damaged, of an unknown family, or does not fit the other one or the memory; or a number is out of
            the range that llama.cpp can take.
    """

    def __init__(
        self,
        text: Path,
        mmproj: Path,
        *,
        context_size: int | None = None,
        gpu_layers: int | None = None,
        threads: int | None = None,
        sharing: bool = False,
        kv_type: KVType = "f16",
        flash_attention: bool = True,
        cache: ModelCache | None = None,
        reuse: bool = True,
        stop_loops: bool = True,
        batch_sizes: BatchSizes | None = None,
    ) -> None:
        started = time.perf_counter()
        _check_ranges(context_size, threads, gpu_layers)
        check_address_space(text, sum(path.stat().st_size for path in (*shards(text), mmproj) if path.is_file()))
        self._family = _family(text)
        # Before anything is loaded: it may take long, be interrupted, or fail.
        contents = (weights_fingerprint(text), fingerprint(mmproj)) if cache is not None else ("", "")
        self._model: Any = None
        self._decoder: Decoder | None = None
        self._vision: VisionEncoder | None = None
        self._prefill: Prefill | None = None
        self._prefixes: Prefixes | None = None
        self._reuse, self._stop_loops, self._streams = reuse, stop_loops, 0
        self._interruptible = Interruptible()
        route_logs()
        llama.llama_backend_init()
        try:
            with self._interruptible.guard():
                self._model, device = load_weights(text, gpu_layers, self._interruptible)
                self._vocabulary = Vocabulary(self._model)
                threads = threads or compute_threads()
                # Metal and Vulkan may not let one thread encode frames, or read cells, while another one decodes.
                cuda = device.startswith("CUDA")
                width = int(llama.llama_model_n_embd_inp(self._model))
                sizes = batch_sizes or (ON_CPU if device == "CPU" else ON_GPU)
                context = make_context(
                    self._model,
                    n_ctx=context_size or min(int(llama.llama_model_n_ctx_train(self._model)), DEFAULT_CONTEXT),
                    n_threads=threads,
                    capacity=sizes.capacity,
                    n_sequences=SEQUENCES,
                    kv_type=kv_type,
                    flash_attention=flash_attention,
                    offload=gpu_layers != 0,
                )
                shared = Sharing(threads) if sharing and _computes_here(device) else None
                self._decoder = Decoder(
                    context, self._vocabulary.size, sizes.capacity, self._interruptible, shared, release=self._release, reuse=reuse
                )
                self._vision = VisionEncoder(
                    mmproj,
                    self._model,
                    projector=_PROJECTORS[self._family],
                    use_gpu=device != "CPU",
                    threads=threads,
                    interruptible=self._interruptible,
                    cache=cache,
                    content=contents[1],
                )
                embeddings = TokenEmbeddings(text, self._vocabulary.size, int(llama.llama_model_n_embd(self._model)))
                self._prefill = Prefill(self._decoder, self._vision, embeddings, width, sizes, self._interruptible, overlapped=cuda)
                self._template = QwenTemplate(self._family, tokenize=self._vocabulary.tokenize, control=self._vocabulary.control)
            if cache is not None:
                # Cells depend on all of these besides the prompt.
                parts = (*contents, device, self._vision.device, kv_type, str(flash_attention), str(sizes), version("llama-cpp-python"))
                self._prefixes = Prefixes(self._decoder, cache.prefixes, " ".join(parts), concurrent=cuda or device == "CPU")
            self._overlapped = device != "CPU"
            self._info = ModelInfo(text.stem, self._family, self._decoder.cache.size, device, self._vision.device)
            self._before = Tally(Usage(load_s=time.perf_counter() - started))  # of the work done before a reply was asked for
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def persist(self) -> None:
        """Wait until the KV prefix being saved is on disk."""
        if self._prefixes is not None:
            self._prefixes.finish()

    def close(self) -> None:
        """Free the weights and all memory. Safe to call again; a stream that goes on after it raises a ModelError."""
        self._interruptible.clear()
        self._streams += 1
        try:
            if self._prefill is not None:
                self._prefill.close()
            if self._prefixes is not None:
                self._prefixes.finish()
        except BaseException:  # Ctrl-C, for the second time: the memory is left to the thread that still uses it
            self._prefill = self._prefixes = self._vision = self._decoder = self._model = None
            raise
        with signals_held():  # none may come between freeing memory and noting it
            self._prefill = self._prefixes = None
            if self._vision:
                self._vision.close()
                self._vision = None
            if self._decoder:
                self._decoder.close()
                self._decoder = None
            if self._model:
                vars(self).pop("_vocabulary", None)  # holds a pointer into the model
                llama.llama_model_free(self._model)
                self._model = None

    def interrupt(self) -> None:
        self._interruptible.interrupt()

    def forget(self) -> None:
        """Drop all prompts, so that the next reply does not depend on earlier ones, not even in rounding. Keeps frame embeddings."""
        decoder, _, prefill = self._opened()
        self._streams += 1
        prefill.settle()
        self.persist()
        decoder.cache.clear()

    # ---- what a model is asked -------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        return self._info

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        return bounded_frame_size(width, height, MERGE_PIXELS[self._family], max_tokens, pixels)

    def count_tokens(self, prompt: Prompt) -> int:
        self._opened()
        return cells_of(self._template.render(prompt))

    def prefetch(self, prompt: Prompt) -> None:
        """Does nothing where the encoder runs on the CPU: it would compete with video decoding for cores and memory.

        A stream under way cannot go on after it.
        """
        _, vision, prefill = self._opened()
        if vision.device == "CPU" or not self._reuse:
            return
        self._streams += 1
        if not prefill.under_way:
            self._interruptible.clear()
        items = self._template.render(prompt)
        beginning = items[: end_of_frames(items)]
        prefill.begin(beginning, self._before)

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
        """As :meth:`ChatModel.stream`; one at a time: once another stream starts or the model is closed, this one raises a ModelError."""
        with closing(self._stream(prompt, schema, wrap, max_tokens, temperature, seed)) as items:
            for item in items:
                number = self._streams
                yield item
                if number != self._streams:
                    raise ModelError("this reply cannot go on: the model was closed, or asked for another reply, before it ended")

    def _stream(
        self, prompt: Prompt, schema: Mapping[str, Any] | None, wrap: tuple[str, str], max_tokens: int, temperature: float, seed: int
    ) -> Generator[StreamItem, None, None]:
        decoder, vision, prefill = self._opened()
        self._streams += 1
        number = self._streams
        if not prefill.under_way:
            self._interruptible.clear()
        items = self._template.render(prompt)
        cells = cells_of(items)
        if cells + min(MIN_REPLY, max_tokens) > decoder.cache.size:
            raise ModelError(
                f"the prompt takes {cells} tokens, the context holds {decoder.cache.size} with the reply; "
                "use fewer --frames, smaller --frame-tokens, or a larger --ctx-size"
            )
        constraint = Constraint(self._vocabulary.grammar, schema, wrap) if schema is not None else None
        if not self._reuse:
            vision.clear()
        prefill.settle()
        # Loading and prefetching are counted once, in the first call after them.
        tally, self._before = self._before, Tally()
        tally.add(Usage(prompt_tokens=cells))
        sequence = decoder.cache.claim(items)
        if self._prefixes is not None:
            self._prefixes.restore(sequence, items)
        try:
            yield from prefill.run(sequence, items, tally)
            generation = Generation(
                decoder,
                sequence,
                self._vocabulary,
                constraint,
                max_tokens=min(max_tokens, decoder.cache.size - cells),
                room=decoder.cache.size - cells,
                tally=tally,
                overlapped=self._overlapped,
                stop_loops=self._stop_loops,
            )
            started = False
            for item in generation.stream(temperature, seed):
                yield item
                if not started and isinstance(item, Delta) and self._prefixes is not None:
                    started = True
                    self._prefixes.keep(sequence, tally.usage.encode_s + tally.usage.prefill_s)
        finally:
            if number == self._streams:
                decoder.cache.truncate(sequence, len(sequence.items))  # a block that was cut off half-way leaves cells behind

    def _opened(self) -> tuple[Decoder, VisionEncoder, Prefill]:
        if self._decoder is None or self._vision is None or self._prefill is None:
            raise ModelError("the model is closed")
        return self._decoder, self._vision, self._prefill

    def _release(self) -> bool:
        return self._prefixes is not None and self._prefixes.release()


def _family(path: Path) -> Family:
    architecture = str(read_metadata(path).get("general.architecture"))
    if architecture not in _FAMILIES:
        raise ModelError(f"{path}: this is a {architecture} model; sage runs Qwen3-VL and Qwen2.5-VL models such as SAGE-MM")
    return _FAMILIES[architecture]


def _computes_here(device: str) -> bool:
    """Whether layers run on the CPU; see :func:`sage_cli.model.native.load_weights`."""
    return device == "CPU" or device.endswith("layers)")


def _check_ranges(context_size: int | None, threads: int | None, gpu_layers: int | None) -> None:
    for name, value, least, most in (
        ("context size", context_size, 1, LARGEST_CONTEXT),
        ("number of threads", threads, 1, MOST_THREADS),
        ("number of GPU layers", gpu_layers, 0, MOST_LAYERS),
    ):
        if value is not None and not least <= value <= most:
            raise ModelError(f"the {name} is {value}; it has to be from {least} to {most}")

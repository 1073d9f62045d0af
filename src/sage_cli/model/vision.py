"""The vision encoder (mmproj) with a cache in memory and on disk: frames in, embeddings out, none computed twice.

Embeddings have half precision in memory and on disk, so an answer does not depend on where they come from.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.disk import ModelCache
from sage_cli.model.libraries import llama, mtmd
from sage_cli.model.native import Interruptible, log
from sage_cli.model.qwen import Slice
from sage_cli.model.tokens import to_half
from sage_cli.nativelog import LogLine
from sage_cli.store.gguf import read_metadata

# A slice's embedding of the 8B model is 32 KiB a token: 128 frames as the reference sizes them take 190 MB. What is on disk as well need
# not stay in memory: reading it takes milliseconds.
MEMORY_LIMIT: Final = 512 << 20
MEMORY_LIMIT_WITH_DISK: Final = 64 << 20

_LARGEST_HALF: Final = 65504.0


class Embedded(NamedTuple):
    """The embedding of one slice.

    Attributes:
        values: shape ``(cells, n_embd_inp)``, in half precision, in single where it does not fit that. For Qwen3-VL the deepstack features
            follow the main ones in each row.
        fresh: it had to be encoded, now or in :meth:`VisionEncoder.prefetch`.
    """

    values: NDArray[np.floating]
    fresh: bool


class VisionEncoder:
    """The mmproj of a loaded model.

    Args:
        path: the mmproj GGUF.
        model: the loaded text model (``llama_model *``).
        projector: the kind of projector the model's family has (``clip.projector_type``); mtmd itself compares only widths.
        use_gpu: offload; false without a GPU.
        threads: of the CPU parts.
        interruptible: of the model.
        cache: disk cache for embeddings; ``None`` for memory only.
        content: fingerprint of the mmproj, for the cache.

    Raises:
        ModelError: not an mmproj, or not this model's.
    """

    def __init__(
        self,
        path: Path,
        model: Any,
        *,
        projector: str,
        use_gpu: bool,
        threads: int,
        interruptible: Interruptible,
        cache: ModelCache | None,
        content: str,
    ) -> None:
        self._context: Any = None
        header = read_metadata(path)
        kind = header.get("clip.projector_type") or header.get("clip.vision.projector_type")
        if kind is not None and kind != projector:
            raise ModelError(f"{path}: this mmproj belongs to another family of models; use the mmproj published with the text GGUF")
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = use_gpu
        params.print_timings = False
        params.n_threads = threads
        params.image_min_tokens = 1  # sizes are chosen by frame_size; mtmd must not resize behind our back
        params.image_max_tokens = 16384
        if not use_gpu:
            params.cb_eval = interruptible.eval_callback
        params.warmup = False  # it would size buffers for the largest image instead of for the frames that come
        with log.lines() as lines:
            self._context = mtmd.mtmd_init_from_file(os.fsencode(path), model, params)
        if not self._context:
            raise ModelError(_why_unusable(path, lines))
        self._width = int(llama.llama_model_n_embd_inp(model))
        self.device = next((m[1] for line in lines if (m := re.search(r"CLIP using (\S+) backend", line.text))), "CPU")
        self._interruptible = interruptible
        self._cache = cache
        self._identity = f"{content} {self.device} {version('llama-cpp-python')}"
        self._memory: OrderedDict[str, NDArray[np.floating]] = OrderedDict()
        self._memory_bytes = 0
        self._prefetched: dict[str, bool] = {}  # slices whose first prompt is still to come, and whether they had to be encoded

    def close(self) -> None:
        if self._context:
            mtmd.mtmd_free(self._context)
            self._context = None

    def clear(self) -> None:
        """Drop all embeddings."""
        self._memory.clear()
        self._prefetched.clear()
        self._memory_bytes = 0

    def prefetch(self, part: Slice, cells: int) -> None:
        """Encode a slice for a coming prompt."""
        if part.key not in self._prefetched:
            self._prefetched[part.key] = self.embed(part, cells).fresh

    def embed(self, part: Slice, cells: int) -> Embedded:
        """The embedding of one slice.

        Raises:
            ModelError: the encoder failed, or produced another number of tokens than the layout counted on.
        """
        fresh = self._prefetched.pop(part.key, False)
        embedding = self._memory.get(part.key)
        if embedding is not None:
            self._memory.move_to_end(part.key)
            return Embedded(embedding, fresh)
        key = f"{self._identity} {part.key}"
        embedding = self._cache.embeddings.get(key, (cells, self._width)) if self._cache else None
        if embedding is None:
            started = time.perf_counter()
            embedding, fresh = self._encode([frame.image for frame in part.frames], cells), True
            if self._cache:
                self._cache.embeddings.keep(key, embedding, time.perf_counter() - started)
        self._remember(part.key, embedding)
        return Embedded(embedding, fresh)

    def _remember(self, key: str, embedding: NDArray[np.floating]) -> None:
        self._memory[key] = embedding
        self._memory_bytes += embedding.nbytes
        limit = MEMORY_LIMIT_WITH_DISK if self._cache is not None and self._cache.embeddings.keeps else MEMORY_LIMIT
        for old in list(self._memory):
            if self._memory_bytes <= limit:
                break
            if old != key and old not in self._prefetched:
                self._memory_bytes -= self._memory.pop(old).nbytes

    def _encode(self, images: Sequence[NDArray[np.uint8]], cells: int) -> NDArray[np.floating]:
        """mtmd_tokenize_from_parts merges adjacent mergeable bitmaps into one image chunk; mtmd_encode_chunk runs the encoder on it."""
        bitmaps = []
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            for image in images:
                pixels = np.ascontiguousarray(image)
                bitmap = mtmd.mtmd_bitmap_init(pixels.shape[1], pixels.shape[0], ctypes.cast(pixels.ctypes.data, _BYTES))
                mtmd.mtmd_bitmap_set_mergeable(bitmap, True)
                bitmaps.append(bitmap)
            parts = [mtmd.mtmd_input_part(bitmap=bitmap) for bitmap in bitmaps]
            pointers = (ctypes.POINTER(mtmd.mtmd_input_part) * len(parts))(*(ctypes.pointer(part) for part in parts))
            if status := mtmd.mtmd_tokenize_from_parts(self._context, chunks, pointers, len(parts), False):
                raise ModelError(f"the vision encoder refused a frame (mtmd_tokenize_from_parts: {status})")
            every = (mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks)))
            media = [chunk for chunk in every if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE]
            if len(media) != 1 or mtmd.mtmd_input_chunk_get_n_tokens(media[0]) != cells:
                got = [mtmd.mtmd_input_chunk_get_n_tokens(chunk) for chunk in media]
                raise ModelError(
                    f"the vision encoder made {got} tokens of a frame where {cells} were expected: is this the model's own mmproj?"
                )
            self._interruptible.begin_graph()
            if status := mtmd.mtmd_encode_chunk(self._context, media[0]):
                raise ModelError(f"the vision encoder failed on a frame (mtmd_encode_chunk: {status})")
            if self._interruptible.requested:  # the guard raises what the signal means
                raise ModelError("the encoding of a frame was interrupted")
            output = ctypes.cast(mtmd.mtmd_get_output_embd(self._context), ctypes.POINTER(ctypes.c_float))
            return _compact(np.ctypeslib.as_array(output, shape=(cells, self._width)))
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)


_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)


def _compact(embedding: NDArray[np.float32]) -> NDArray[np.floating]:
    """A copy in half precision, if all of it fits."""
    fits = embedding.min() > -_LARGEST_HALF and embedding.max() < _LARGEST_HALF  # not so with a NaN either
    return to_half(embedding) if fits else embedding.copy()


def _why_unusable(path: Path, lines: Sequence[LogLine]) -> str:
    """A one-line message from what mtmd logged while it failed."""
    log = " ".join(line.text for line in lines)
    if "mismatch" in log:
        return f"{path}: this mmproj belongs to another model (embedding sizes differ); use the mmproj published with the text GGUF"
    return f"{path}: cannot be loaded as an mmproj; it may be damaged or of another kind: use the mmproj file published with the text GGUF"

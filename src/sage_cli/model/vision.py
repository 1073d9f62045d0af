"""The vision encoder (mmproj) and its memory, which reaches to the disk: frames in, embeddings out, none computed twice."""

from __future__ import annotations

import ctypes
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from llama_cpp import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.disk import ModelCache
from sage_cli.model.native import log_lines
from sage_cli.model.qwen import Slice
from sage_cli.store.content import fingerprint

# A slice's embedding of the 8B model is 64 KiB a token: 128 frames as the reference sizes them take 380 MB.
MEMORY_LIMIT: Final = 512 << 20


class VisionEncoder:
    """The mmproj of a loaded model.

    Args:
        path: the mmproj GGUF.
        model: the loaded text model (``llama_model *``).
        projector: the kind of projector the model's family has (``clip.projector_type``); mtmd itself compares only widths.
        use_gpu: offload when the build can.
        threads: of the CPU parts.
        cache: where embeddings outlive the process; those that it does not keep, or all if it is ``None``, are kept in memory.

    Raises:
        ModelError: not an mmproj, or not this model's.
    """

    def __init__(self, path: Path, model: Any, *, projector: str, use_gpu: bool, threads: int, cache: ModelCache | None = None) -> None:
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = use_gpu
        params.print_timings = False
        params.n_threads = threads
        params.image_min_tokens = 1  # sizes are chosen by frame_size; mtmd must not resize behind our back
        params.image_max_tokens = 16384
        params.warmup = False  # it would size buffers for the largest image instead of for the frames that come
        with log_lines() as lines:
            self._context = mtmd.mtmd_init_from_file(os.fsencode(path), model, params)
        if not self._context:
            raise ModelError(_why_unusable(path, lines))
        if not any(re.search(rf"projector:\s+{re.escape(projector)}$", line) for line in lines):
            self.close()
            raise ModelError(f"{path}: this mmproj belongs to another family of models; use the mmproj published with the text GGUF")
        self._width = int(llama.llama_model_n_embd_inp(model))
        self.device = next((m[1] for line in lines if (m := re.search(r"CLIP using (\S+) backend", line))), "CPU")
        self._cache = cache
        self._identity = f"{fingerprint(path)} {self.device} {version('llama-cpp-python')}" if cache else ""
        self._memory: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._memory_bytes = 0

    def close(self) -> None:
        if self._context:
            mtmd.mtmd_free(self._context)
            self._context = None

    def clear(self) -> None:
        """Forget all embeddings."""
        self._memory.clear()
        self._memory_bytes = 0

    def embed(self, part: Slice, cells: int) -> tuple[NDArray[np.float32], bool]:
        """Embedding of one slice, and whether it had to be encoded.

        Returns:
            Shape ``(cells, n_embd_inp)``: for Qwen3-VL the deepstack features follow the main ones in each row.

        Raises:
            ModelError: the encoder failed, or produced another number of tokens than the layout counted on.
        """
        if part.key in self._memory:
            self._memory.move_to_end(part.key)
            return self._memory[part.key], False
        key = f"{self._identity} {part.key}"
        found = self._cache.embedding(key, (cells, self._width)) if self._cache else None
        if found is not None:
            return found, False
        embedding = self._encode([frame.image for frame in part.frames], cells)
        # Once more in memory, the frames of a first look would take hundreds of megabytes; reading one takes milliseconds.
        if self._cache is None or not self._cache.keep_embedding(key, embedding):
            self._memory[part.key] = embedding
            self._memory_bytes += embedding.nbytes
        while self._memory_bytes > MEMORY_LIMIT and len(self._memory) > 1:
            self._memory_bytes -= self._memory.popitem(last=False)[1].nbytes
        return embedding, True

    def _encode(self, images: Sequence[NDArray[np.uint8]], cells: int) -> NDArray[np.float32]:
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
            if status := mtmd.mtmd_encode_chunk(self._context, media[0]):
                raise ModelError(f"the vision encoder failed on a frame (mtmd_encode_chunk: {status})")
            output = ctypes.cast(mtmd.mtmd_get_output_embd(self._context), ctypes.POINTER(ctypes.c_float))
            embedding: NDArray[np.float32] = np.ctypeslib.as_array(output, shape=(cells, self._width)).copy()
            return embedding
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)


_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)


def _why_unusable(path: Path, lines: Sequence[str]) -> str:
    """One line for people, out of what mtmd logged while it failed."""
    log = " ".join(lines)
    if "mismatch" in log:
        return f"{path}: this mmproj belongs to another model (embedding sizes differ); use the mmproj published with the text GGUF"
    return f"{path}: cannot be loaded as an mmproj; it may be damaged or of another kind: use the mmproj file published with the text GGUF"

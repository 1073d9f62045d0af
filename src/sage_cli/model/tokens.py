"""Text as embeddings: rows of a model's token embedding matrix, as llama.cpp itself looks them up, and numbers in half precision.

A ``llama_batch`` carries either tokens or embeddings. To decode text and frames in one batch, the text has to travel as embeddings.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.libraries import llama
from sage_cli.store.models import shards

_NAME: Final = b"token_embd.weight"
_LIB: Final = llama._lib


class TokenEmbeddings:
    """Rows of ``token_embd.weight`` of a GGUF file, dequantized by ggml's own functions (``ggml_get_rows`` uses the same).

    Args:
        path: of the text model, or of its first shard.
        tokens, width: rows and columns of the matrix.

    Raises:
        ModelError: the matrix is not there, or has another shape.
    """

    def __init__(self, path: Path, tokens: int, width: int) -> None:
        self._width = width
        place = next((found for part in shards(path) if (found := _find(part)) is not None), None)
        if place is None or place[2] != (width, tokens):
            raise ModelError(f"{path}: its token embeddings cannot be found; download the model again")
        part, kind, _, offset, size = place
        self._rows: NDArray[np.uint8] = np.memmap(part, np.uint8, "r", offset, (tokens, size // tokens))
        traits = _LIB.ggml_get_type_traits(kind).contents
        self._to_float = _TO_FLOAT(traits.to_float) if traits.to_float else None  # none for f32

    def row(self, token: int, out: NDArray[np.float32]) -> None:
        """Write the embedding of a token to the start of ``out``."""
        row = self._rows[token]
        if self._to_float is None:
            out[: self._width] = row.view(np.float32)
        else:
            self._to_float(row.ctypes.data, out.ctypes.data, self._width)


class _Traits(ctypes.Structure):
    """``ggml_type_traits``, up to the function that dequantizes."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


class _InitParams(ctypes.Structure):
    """``gguf_init_params``."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_TO_FLOAT: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_LIB.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
_LIB.ggml_get_type_traits.argtypes = [ctypes.c_int]
_LIB.gguf_init_from_file.restype = ctypes.c_void_p
_LIB.gguf_init_from_file.argtypes = [ctypes.c_char_p, _InitParams]
_LIB.gguf_free.argtypes = [ctypes.c_void_p]
_LIB.gguf_find_tensor.restype = ctypes.c_int64
_LIB.gguf_find_tensor.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
for _name, _result in {
    "gguf_get_tensor_type": ctypes.c_int,
    "gguf_get_tensor_offset": ctypes.c_size_t,
    "gguf_get_tensor_size": ctypes.c_size_t,
    "gguf_get_tensor_ne": ctypes.POINTER(ctypes.c_int64),
}.items():
    getattr(_LIB, _name).argtypes, getattr(_LIB, _name).restype = [ctypes.c_void_p, ctypes.c_int64], _result
_LIB.gguf_get_data_offset.argtypes, _LIB.gguf_get_data_offset.restype = [ctypes.c_void_p], ctypes.c_size_t


def _find(path: Path) -> tuple[Path, int, tuple[int, int], int, int] | None:
    """File, type, shape, offset and bytes of the matrix, if this file holds it."""
    header = _LIB.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not header:
        return None
    try:
        number = _LIB.gguf_find_tensor(header, _NAME)
        if number < 0:
            return None
        shape = _LIB.gguf_get_tensor_ne(header, number)
        offset = _LIB.gguf_get_data_offset(header) + _LIB.gguf_get_tensor_offset(header, number)
        kind, size = _LIB.gguf_get_tensor_type(header, number), _LIB.gguf_get_tensor_size(header, number)
        return path, kind, (shape[0], shape[1]), offset, size
    finally:
        _LIB.gguf_free(header)


# ---- half precision ------------------------------------------------------------------------------------------------


def _converter(name: str) -> Any:
    """A function of ggml's CPU backend, which does by vectors what numpy does one by one; ``None`` where it is loaded at run time only."""
    function = getattr(_LIB, name, None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    return function


_VECTOR: Final = 16  # what is left after the last whole vector goes by a table, which is empty until the backend has been started
_TO_HALF: Final = _converter("ggml_cpu_fp32_to_fp16")
_FROM_HALF: Final = _converter("ggml_cpu_fp16_to_fp32")


def to_half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Contiguous values in half precision, rounded to nearest; values out of range become infinite."""
    if _TO_HALF is None or values.size % _VECTOR:
        return values.astype(np.float16)
    half = np.empty(values.shape, np.float16)
    _TO_HALF(values.ctypes.data, half.ctypes.data, values.size)
    return half


def fill(out: NDArray[np.float32], values: NDArray[np.floating]) -> None:
    """Copy contiguous values of either precision into a contiguous array of the same shape."""
    if _FROM_HALF is None or values.dtype != np.float16 or values.size % _VECTOR:
        out[:] = values
    else:
        _FROM_HALF(values.ctypes.data, out.ctypes.data, values.size)

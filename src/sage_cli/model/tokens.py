"""Text as embeddings: rows of a model's token embedding matrix, as llama.cpp itself looks them up, and numbers in half precision.

A ``llama_batch`` carries either tokens or embeddings. To decode text and frames in one batch, the text has to travel as embeddings.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.libraries import llama
from sage_cli.store.gguf import read_tensors
from sage_cli.store.models import shards

_NAME: Final = "token_embd.weight"
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
        part, tensor = next(((part, found) for part in shards(path) if (found := read_tensors(part).get(_NAME))), (path, None))
        if tensor is None or tensor.shape != (width, tokens):
            raise ModelError(f"{path}: its token embeddings cannot be found; download the model again")
        traits = _LIB.ggml_get_type_traits(tensor.type).contents
        row = width // traits.blck_size * traits.type_size
        self._rows: NDArray[np.uint8] = np.memmap(part, np.uint8, "r", tensor.offset, (tokens, row))
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


_TO_FLOAT: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_LIB.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
_LIB.ggml_get_type_traits.argtypes = [ctypes.c_int]


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


def copy_floats(out: NDArray[np.float32], values: NDArray[np.floating]) -> None:
    """Copy contiguous values of either precision into a contiguous array of the same shape."""
    if _FROM_HALF is None or values.dtype != np.float16 or values.size % _VECTOR:
        out[:] = values
    else:
        _FROM_HALF(values.ctypes.data, out.ctypes.data, values.size)

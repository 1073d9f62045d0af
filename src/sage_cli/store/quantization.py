"""The quantization of a model file, which its header tells; the file's name is asked only where the header does not say."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from sage_cli.errors import ModelError, reading
from sage_cli.store.choose import quantization_of
from sage_cli.store.gguf import read_metadata
from sage_cli.store.models import SPEECH_MAGIC

UNKNOWN: Final = "unknown"

# llama.cpp's llama_ftype, in general.file_type: what most matrices are.
_GGUF: Final = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}
# ggml_ftype of whisper.cpp's models: the last number of the header, plus a thousand times the version of the quantization.
FTYPES: Final = {number: _GGUF[number] for number in (0, 1, 2, 3, 7, 8, 9)} | {10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"}
VERSION_FACTOR: Final = 1000
_DIMENSIONS: Final = struct.Struct("<4s11i")  # of the magic and the header


def quantization(path: Path) -> str:
    """``Q8_0`` or the like of a GGUF file, or of a Whisper model in whisper.cpp's format; :data:`UNKNOWN` if neither header nor name tells.

    Of mixes that the header has no number for ("UD-Q4_K_XL") the name is the answer.

    Raises:
        ModelError: the file cannot be read, or its header is broken.
    """
    named = quantization_of(path.stem)
    told = _of_gguf(path) if path.suffix.lower() == ".gguf" else _of_whisper(path)
    if named and named not in _GGUF.values() and named not in FTYPES.values():
        return named
    return told or named or UNKNOWN


def _of_gguf(path: Path) -> str | None:
    number = read_metadata(path).get("general.file_type")
    return _GGUF.get(number) if isinstance(number, int) else None


def _of_whisper(path: Path) -> str | None:
    with reading(path, ModelError), path.open("rb") as file:
        head = file.read(_DIMENSIONS.size)
    if len(head) < _DIMENSIONS.size or not head.startswith(SPEECH_MAGIC):
        raise ModelError(f"{path} is not a Whisper model in whisper.cpp's format, or is cut short: download it again")
    return FTYPES.get(_DIMENSIONS.unpack(head)[-1] % VERSION_FACTOR)

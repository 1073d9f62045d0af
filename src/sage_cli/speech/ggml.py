"""Check a model file before whisper.cpp loads it.

whisper.cpp trusts its input: a wrong file crashes the process, or returns a null pointer that crashes it later, and a truncated download
loads silently and transcribes noise. So the layout of the whole file is checked here without reading the weights, which takes
milliseconds. The layout is that of whisper.cpp's ``models/convert-pt-to-ggml.py`` and ``whisper_model_load``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError, reading
from sage_cli.store.models import SPEECH_MAGIC
from sage_cli.store.quantization import FTYPES, VERSION_FACTOR

MULTILINGUAL_VOCABULARY = 51865

# ggml's tensor types that whisper.cpp models come in: values in a block, bytes of a block.
_BLOCKS = dict(
    zip(
        (0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14),
        ((1, 4), (1, 2), (32, 18), (32, 20), (32, 22), (32, 24), (32, 34), (256, 84), (256, 110), (256, 144), (256, 176), (256, 210)),
        strict=True,
    )
)
_LEAST_CONTEXT = 50  # positions of the encoder, a second of sound: windows are not made shorter


@dataclass(frozen=True, slots=True)
class WhisperHeader:
    """Dimensions of a Whisper model, in the order of the file."""

    vocabulary: int
    audio_context: int
    audio_width: int
    audio_heads: int
    audio_layers: int
    text_context: int
    text_width: int
    text_heads: int
    text_layers: int
    mels: int
    file_type: int

    @property
    def multilingual(self) -> bool:
        return self.vocabulary >= MULTILINGUAL_VOCABULARY


def check_whisper(path: Path) -> WhisperHeader:
    """Read a Whisper model's header and make sure that the file is whole.

    Raises:
        ModelError: the file is missing, unreadable, something else, or cut short.
    """
    with _open(path, "a Whisper model in whisper.cpp's format (ggml-*.bin)") as (file, size):
        header = WhisperHeader(*_ints(file, 11))
        sane = (
            51864 <= header.vocabulary <= 52000
            and _LEAST_CONTEXT <= header.audio_context <= 1500
            and header.file_type >= 0
            and header.file_type % VERSION_FACTOR in FTYPES  # whisper.cpp asserts that it knows it
            and 0 < header.text_context <= 448
            and header.audio_width == header.text_width
            and all(0 < width <= 8192 and 0 < heads <= width and width % heads == 0 for width, heads in _shapes(header))
            and 0 < header.audio_layers <= 128
            and 0 < header.text_layers <= 128
            and header.mels in (80, 128)
        )
        if not sane:
            raise ValueError("impossible dimensions")
        if b" " not in _vocabulary(file):  # whisper.cpp looks this one up without asking whether it is there
            raise ValueError("no vocabulary")
        if sum(1 for _ in _tensors(file, size)) != 11 + 15 * header.audio_layers + 24 * header.text_layers:
            raise ValueError("tensors are missing")
        return header


def read_vocabulary(path: Path) -> list[bytes]:
    """The text tokens of a Whisper model by id, as UTF-8 bytes (a token may be a part of a character).

    Raises:
        ModelError: the file is missing, unreadable, something else, or cut short.
    """
    with _open(path, "a Whisper model in whisper.cpp's format (ggml-*.bin)") as (file, _size):
        _ints(file, 11)
        return _vocabulary(file)


def read_silero(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a Silero VAD model, by name, in C order.

    Raises:
        ModelError: the file is missing, unreadable, something else, or cut short.
    """
    with _open(path, "a Silero VAD model in whisper.cpp's format (ggml-silero-*.bin)") as (file, size):
        (length,) = _ints(file, 1)
        if not 0 < length < 64 or not file.read(length).startswith(b"silero-16k"):
            raise ValueError("another kind of model")
        _ints(file, 3)  # version
        window, _context, layers = _ints(file, 3)
        if window != 512 or layers != 4:
            raise ValueError("other dimensions than whisper.cpp's")
        _ints(file, 3 * layers + 4)
        tensors = {}
        for name, kind, shape in _tensors(file, size):
            values = np.frombuffer(file.read(_bytes(kind, shape)), np.float16 if kind == 1 else np.float32)
            tensors[name] = values.astype(np.float32).reshape(shape)
        return tensors


@contextmanager
def _open(path: Path, kind: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file behind its magic number, and its size; what goes wrong while it is read becomes a ModelError."""
    if not path.is_file():
        raise ModelError(f"no such file: {path} (expected {kind})")
    try:
        with reading(path, ModelError), path.open("rb") as file:
            if file.read(4) != SPEECH_MAGIC:
                raise ModelError(f"{path} is not {kind}: give the path of one")
            yield file, os.fstat(file.fileno()).st_size
    except (ValueError, struct.error, OverflowError, MemoryError) as error:
        raise ModelError(f"{path} is broken or cut short: download it again") from error


def _vocabulary(file: BinaryIO) -> list[bytes]:
    """The tokens, which come after the mel filters."""
    mels, bins = _ints(file, 2)
    file.seek(4 * mels * bins, os.SEEK_CUR)
    return [file.read(*_ints(file, 1)) for _ in range(*_ints(file, 1))]


def _shapes(header: WhisperHeader) -> tuple[tuple[int, int], tuple[int, int]]:
    return (header.audio_width, header.audio_heads), (header.text_width, header.text_heads)


def _ints(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))


def _tensors(file: BinaryIO, size: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Name, type and shape (C order) of every tensor in the rest of the file. At each yield the file is positioned at its data.

    What the caller does not read is passed over.
    """
    while file.tell() < size:
        dimensions, length, kind = _ints(file, 3)
        if not 0 <= dimensions <= 4 or kind not in _BLOCKS:
            raise ValueError("a tensor of no known kind")
        shape = _ints(file, dimensions)[::-1]
        name = file.read(length).decode()
        data, stored = file.tell(), _bytes(kind, shape)
        if min(shape, default=1) < 1 or data + stored > size:
            raise ValueError("it ends in the middle")
        yield name, kind, shape
        file.seek(data + stored)


def _bytes(kind: int, shape: tuple[int, ...]) -> int:
    per_block, block = _BLOCKS[kind]
    return prod(shape) // per_block * block

"""The first few metadata keys of a GGUF file, read in microseconds.

They tell a language model from a vision encoder, and whether the two belong together, before gigabytes are loaded. The ``gguf`` package
parses the whole file, vocabulary included (seconds for a real model), and llama.cpp reports a bad file only as a null pointer; so the
plain part of the header is read here. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENODEV
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO, Final

from sage_cli.errors import ModelError, reading

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_ALIGNMENT = 32  # of tensors, unless general.alignment says another
_DEEPEST = 4  # arrays within arrays; real files have none
_LONGEST_STRING = 1 << 20  # a chat template is some 10 kB; a length past this is a broken file, not a string

_SHORT: Final = 16  # items of an array that is kept

Value = str | int | float | bool | tuple[int | float | bool, ...]


def read_metadata(path: Path) -> dict[str, Value]:
    """Metadata of a GGUF file, up to the first ``tokenizer.`` key, without long arrays and those of strings.

    Raises:
        ModelError: the file cannot be read, is not GGUF, or its header is broken.
    """
    with _opened(path) as file:
        if file.read(4) != MAGIC:
            raise ModelError(f"{path} is not a GGUF file: give the path of a model in GGUF format")
        version = _scalar(file, "<I")
        if version not in VERSIONS:
            raise ModelError(f"{path} is GGUF version {version}, which is not supported: download a current conversion of the model")
        _scalar(file, "<Q")  # number of tensors
        found: dict[str, Value] = {}
        for _ in range(int(_scalar(file, "<Q"))):
            key = _string(file)
            if key.startswith("tokenizer."):
                break
            value = _value(file, int(_scalar(file, "<I")))
            if value is not None:
                found[key] = value
        return found


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by name, as llama.cpp orders dimensions. It takes a tenth of a second for a real vocabulary.

    Raises:
        ModelError: the file is cut short, or its header is broken. One that ends within the last tensor passes: its size depends on the
            quantization's layout.
    """
    read_metadata(path)
    shapes = {}
    with _opened(path) as file, _mapped(file) as data:
        tensors, entries = struct.unpack_from("<QQ", data, 8)
        at, alignment = 24, _ALIGNMENT
        for _ in range(entries):
            length = _U64.unpack_from(data, at)[0]
            key, at = data[at + 8 : at + 8 + length], at + 8 + length
            kind = _U32.unpack_from(data, at)[0]
            if key == b"general.alignment":
                alignment = _U32.unpack_from(data, at + 4)[0]
            at = _after(data, kind, at + 4)
        last = 0
        for _ in range(tensors):
            length = _U64.unpack_from(data, at)[0]
            name, at = data[at + 8 : at + 8 + length], at + 8 + length
            count = _U32.unpack_from(data, at)[0]
            if count > _SHORT:
                raise ValueError("a tensor of too many dimensions")
            shapes[name.decode("utf-8", "replace")] = struct.unpack_from(f"<{count}Q", data, at + 4)
            at += 4 + 8 * count + 4  # dimensions and type
            last, at = max(last, _U64.unpack_from(data, at)[0]), at + 8
        begin = -(-at // alignment) * alignment
        if tensors and len(data) <= begin + last:
            raise ModelError(f"{path} is cut short: it ends before its last tensor (an unfinished download?): download it again")
        return shapes


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file; what goes wrong while its header is read becomes a ModelError."""
    try:
        with reading(path, ModelError), path.open("rb") as file:
            yield file
    except (struct.error, KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(f"{path} has a broken GGUF header (an unfinished download?): download it again") from error


def _mapped(file: BinaryIO) -> mmap:
    try:
        return mmap(file.fileno(), 0, access=ACCESS_READ)
    except OSError as error:  # FUSE with direct_io; llama.cpp maps the file, too
        if error.errno != ENODEV:
            raise
        raise ModelError(f"{file.name} is on a file system that cannot map files into memory: copy the model to a local disk") from error


def _after(data: mmap, kind: int, at: int, depth: int = 0) -> int:
    """Where a value ends that begins at a place."""
    if depth > _DEEPEST:
        raise ValueError("arrays within arrays")
    if kind == _STRING:
        return int(at + 8 + _U64.unpack_from(data, at)[0])
    if kind != _ARRAY:
        return at + struct.calcsize(_SCALARS[kind])
    (item,), (count,) = _U32.unpack_from(data, at), _U64.unpack_from(data, at + 4)
    at += 12
    if item in _SCALARS:
        return int(at + count * struct.calcsize(_SCALARS[item]))
    for _ in range(count):
        at = at + 8 + _U64.unpack_from(data, at)[0] if item == _STRING else _after(data, item, at, depth + 1)
    return at


def _scalar(file: BinaryIO, code: str) -> int | float | bool:
    (value,) = struct.unpack(code, file.read(struct.calcsize(code)))
    return value  # type: ignore[no-any-return]


def _string(file: BinaryIO) -> str:
    length = int(_scalar(file, "<Q"))
    data = file.read(min(length, _LONGEST_STRING))
    if len(data) != length:
        raise ValueError("string runs past the end")
    return data.decode()


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Value | None:
    """The next value in the file; ``None`` for an array that is skipped."""
    if depth > _DEEPEST:
        raise ValueError("arrays within arrays")
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _scalar(file, _SCALARS[kind])
    item, count = int(_scalar(file, "<I")), int(_scalar(file, "<Q"))
    if item in _SCALARS and count <= _SHORT:
        return tuple(_scalar(file, _SCALARS[item]) for _ in range(count))
    if item in _SCALARS:
        file.seek(count * struct.calcsize(_SCALARS[item]), 1)
    else:
        for _ in range(count):
            _value(file, item, depth + 1)
    return None

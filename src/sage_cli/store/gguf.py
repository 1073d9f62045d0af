"""The header of a GGUF file: its first metadata keys, read in microseconds, and its tensors.

The keys tell a language model from a vision encoder, and whether the two belong together, before gigabytes are loaded. The ``gguf`` package
parses the whole file, vocabulary included (seconds for a real model), and llama.cpp reports a bad file only as a null pointer; so the
plain part of the header is read here. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENODEV
from mmap import ACCESS_READ, mmap
from os import fstat
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from sage_cli.errors import ModelError, reading

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_U64 = struct.Struct("<Q")
_ALIGNMENT = 32  # of tensors, unless general.alignment says another
_DEEPEST = 4  # arrays within arrays; real files have none
_FARTHEST = 1 << 48  # bytes

_SHORT: Final = 16  # items of an array that is kept
_MOST_LAYERS: Final = 512  # llama.cpp's LLAMA_MAX_LAYERS

Value = str | int | float | bool | tuple[int | float | bool, ...]


def read_metadata(path: Path) -> dict[str, Value]:
    """Metadata of a GGUF file, up to the first ``tokenizer.`` key, without long arrays and those of strings.

    Raises:
        ModelError: the file cannot be read, is not GGUF, or its header is broken.
    """
    found: dict[str, Value] = {}
    with _opened(path) as file:
        _, entries = _counts(file)
        for _ in range(entries):
            key = _string(file)
            if key.startswith("tokenizer."):
                break
            value = _value(file, int(_scalar(file, "<I")))
            if value is not None:
                found[key] = value
    return found


def number(header: Mapping[str, Value], key: str, default: int) -> int:
    """A whole number of a header; the default if there is none under this key."""
    value = header.get(key, default)
    return value if isinstance(value, int) else default


class Tensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        shape: as llama.cpp orders dimensions.
        type: number of a ``ggml_type``.
        offset: of its data, in bytes from the start of the file.
    """

    shape: tuple[int, ...]
    type: int
    offset: int


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name. It takes a tenth of a second for a real vocabulary.

    Raises:
        ModelError: the file is cut short, or its header is broken. One that ends within the last tensor passes: its size depends on the
            quantization's layout.
    """
    with _opened(path) as file:
        count, entries = _counts(file)
        _check_mapping(file)
        alignment, found = _ALIGNMENT, {}
        for _ in range(entries):
            key, value = _string(file), _value(file, int(_scalar(file, "<I")))
            if key == "general.alignment" and isinstance(value, int):
                alignment = value
        for _ in range(count):
            name, dimensions = _string(file), int(_scalar(file, "<I"))
            if dimensions > _SHORT:
                raise ValueError("a tensor of too many dimensions")
            shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
            found[name] = Tensor(shape, int(_scalar(file, "<I")), int(_scalar(file, "<Q")))
        begin = -(-file.tell() // alignment) * alignment
        tensors = {name: tensor._replace(offset=begin + tensor.offset) for name, tensor in found.items()}
        if path.stat().st_size <= max((tensor.offset for tensor in tensors.values()), default=-1):
            raise ModelError(f"{path} is cut short: it ends before its last tensor (an unfinished download?): download it again")
        return tensors


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file; what goes wrong while its header is read becomes a ModelError."""
    try:
        with reading(path, ModelError), path.open("rb") as file:
            yield file
    except (struct.error, KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(f"{path} has a broken GGUF header (an unfinished download?): download it again") from error


def _counts(file: BinaryIO) -> tuple[int, int]:
    """How many tensors and metadata entries a file just opened has."""
    if file.read(4) != MAGIC:
        raise ModelError(f"{file.name} is not a GGUF file: give the path of a model in GGUF format")
    version = _scalar(file, "<I")
    if version not in VERSIONS:
        raise ModelError(f"{file.name} is GGUF version {version}, which is not supported: download a current conversion of the model")
    return int(_scalar(file, "<Q")), int(_scalar(file, "<Q"))


def _check_mapping(file: BinaryIO) -> None:
    """llama.cpp maps the file, which FUSE with direct_io cannot."""
    try:
        mmap(file.fileno(), 0, access=ACCESS_READ).close()
    except OSError as error:
        if error.errno != ENODEV:
            raise
        raise ModelError(f"{file.name} is on a file system that cannot map files into memory: copy the model to a local disk") from error


def _scalar(file: BinaryIO, code: str) -> int | float | bool:
    (value,) = struct.unpack(code, file.read(struct.calcsize(code)))
    return value  # type: ignore[no-any-return]


def _string(file: BinaryIO) -> str:
    length = int(_scalar(file, "<Q"))
    if file.tell() + length > fstat(file.fileno()).st_size:
        raise ValueError("string runs past the end")
    data = file.read(length)
    return data.decode(errors="replace")  # llama.cpp takes any bytes


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
        _skip(file, count * struct.calcsize(_SCALARS[item]))
    elif item == _STRING:
        for _ in range(count):  # a vocabulary: quick
            _skip(file, *_U64.unpack(file.read(8)))
    else:
        for _ in range(count):
            _value(file, item, depth + 1)
    return None


def _skip(file: BinaryIO, length: int) -> None:
    if length > _FARTHEST:
        raise ValueError("it would be past the end of any file")
    file.seek(length, 1)


# ---- checks ----------------------------------------------------------------------------------------------------------
# Of numbers that llama.cpp computes with unchecked: a wrong one ends the process, silently or with a dump of its stack.


def check_text(path: Path, header: Mapping[str, Value]) -> None:
    """Check a language model's header.

    Raises:
        ModelError: llama.cpp cannot load it.
    """
    family = header.get("general.architecture")
    layers = number(header, f"{family}.block_count", 1)
    heads = number(header, f"{family}.attention.head_count", 1)
    size = number(header, f"{family}.attention.key_length", number(header, f"{family}.embedding_length", 0) // max(heads, 1))
    sections = header.get(f"{family}.rope.dimension_sections", ())
    _check(path, 1 <= layers <= _MOST_LAYERS, f"{layers} layers")
    if family == "qwen2vl":  # of Qwen3, llama.cpp compares the heads with the tensors
        width = number(header, f"{family}.embedding_length", 0)
        _check(path, width == heads * size, f"{heads} heads of {size} for {width} dimensions")
    deepstack = number(header, f"{family}.n_deepstack_layers", 0)
    _check(path, deepstack < layers or not deepstack, f"deepstack for {deepstack} of {layers} layers")
    rotated = isinstance(sections, tuple) and all(0 <= section <= size for section in sections) and sum(sections) <= size
    _check(path, rotated, f"positions in {sections} of {size} dimensions")
    _check_epsilon(path, header.get(f"{family}.attention.layer_norm_rms_epsilon"))


def check_vision(path: Path, header: Mapping[str, Value]) -> None:
    """Check a vision encoder's header, also against its tensors.

    Raises:
        ModelError: llama.cpp cannot load it, or the file is cut short.
    """
    width, heads = number(header, "clip.vision.embedding_length", 1), number(header, "clip.vision.attention.head_count", 1)
    layers = number(header, "clip.vision.block_count", 1)
    merged = width * number(header, "clip.vision.spatial_merge_size", 2) ** 2
    _check(path, 1 <= layers <= _MOST_LAYERS, f"{layers} layers")
    _check(path, 1 <= heads <= width and width % heads == 0, f"{heads} heads for {width} dimensions")
    _check_epsilon(path, header.get("clip.vision.attention.layer_norm_epsilon"))
    _check(path, header.get("clip.vision.n_wa_pattern") != 1, "windows in no layer")
    projector = header.get("clip.projector_type") or header.get("clip.vision.projector_type") or ""
    tensors = read_tensors(path) if str(projector).startswith("qwen") else {}  # others are refused when they are loaded
    for name, place, expected in ("v.patch_embd.weight", -1, width), ("mm.0.weight", 0, merged):
        shape = tensors[name].shape if name in tensors else (expected,)
        _check(path, bool(shape) and shape[place] == expected, f"{name} is {shape}, not for {expected} dimensions")


def _check_epsilon(path: Path, epsilon: Value | None) -> None:
    _check(path, epsilon is None or (isinstance(epsilon, float) and 0 <= epsilon < 1), f"an epsilon of {epsilon}")


def _check(path: Path, possible: bool, problem: str) -> None:
    if not possible:
        raise ModelError(f"{path} has a broken GGUF header ({problem}): download it again")

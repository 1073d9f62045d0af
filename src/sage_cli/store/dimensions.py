"""Numbers of a GGUF header that llama.cpp computes with unchecked: a wrong one ends the process, silently or with a dump of its stack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sage_cli.errors import ModelError
from sage_cli.store.gguf import Value, number, read_tensors

_MOST_LAYERS: Final = 512  # llama.cpp's LLAMA_MAX_LAYERS


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

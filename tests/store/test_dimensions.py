"""Numbers in headers that end llama.cpp's process are refused before it sees them. Each was seen to do so."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from sage_cli.assets import NANO
from sage_cli.errors import ModelError
from sage_cli.store.models import find_model
from tests.models import write_qwen2_5_vl, write_qwen3_vl

WHOLE, FLOAT = "<I", "<f"


def changed(path: Path, key: str, value: float, place: int = 0) -> None:
    """Replace a number of a header; ``place``: bytes from the start of a value."""
    data = bytearray(path.read_bytes())
    at = data.index(key.encode()) + len(key) + 4 + place
    struct.pack_into(FLOAT if isinstance(value, float) else WHOLE, data, at, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("qwen3vl.block_count", 0, 0),
        ("qwen3vl.block_count", 513, 0),
        ("qwen3vl.block_count", 2**31 - 1, 0),
        ("qwen3vl.n_deepstack_layers", 7, 0),
        ("qwen3vl.n_deepstack_layers", 2**31 - 1, 0),
        ("qwen3vl.rope.dimension_sections", 65536, 12),
        ("qwen3vl.attention.layer_norm_rms_epsilon", float("nan"), 0),
        ("qwen3vl.attention.layer_norm_rms_epsilon", -1.0, 0),
        ("clip.vision.embedding_length", 7, 0),
        ("clip.vision.embedding_length", 2**31 - 1, 0),
        ("clip.vision.attention.head_count", 0, 0),
        ("clip.vision.attention.head_count", 7, 0),
        ("clip.vision.attention.head_count", 2**31 - 1, 0),
        ("clip.vision.spatial_merge_size", 1, 0),
        ("clip.vision.attention.layer_norm_epsilon", float("nan"), 0),
    ],
)
def test_impossible_numbers(tmp_path: Path, key: str, value: float, place: int) -> None:
    text, mmproj = tmp_path / "m.gguf", tmp_path / "mmproj.gguf"
    shutil.copy(NANO.text, text)
    shutil.copy(NANO.mmproj, mmproj)
    assert find_model(str(text)).mmproj == mmproj
    changed(mmproj if key.startswith("clip") else text, key, value, place)
    with pytest.raises(ModelError, match=r"broken GGUF header \("):
        find_model(str(text))
    if key.startswith("clip"):
        with pytest.raises(ModelError, match=r"broken GGUF header \("):
            find_model(NANO.name, mmproj)


@pytest.mark.parametrize(
    ("key", "value"), [("qwen2vl.attention.head_count", 3), ("qwen2vl.attention.head_count", 2**31 - 1), ("clip.vision.n_wa_pattern", 1)]
)
def test_impossible_numbers_of_the_older_family(tmp_path: Path, key: str, value: int) -> None:
    tiny = write_qwen2_5_vl(tmp_path)
    changed(tiny.mmproj if key.startswith("clip") else tiny.text, key, value)
    with pytest.raises(ModelError, match=r"broken GGUF header \("):
        find_model(str(tiny.text))


def test_models_that_work_pass(tmp_path: Path) -> None:
    for write in write_qwen3_vl, write_qwen2_5_vl:
        tiny = write(tmp_path)
        find_model(str(tiny.text), tiny.mmproj)

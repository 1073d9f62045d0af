"""A GGUF file that is cut short, or whose numbers would end the process, is noticed before it is loaded."""

from __future__ import annotations

import errno
import random
import shutil
import struct
from pathlib import Path

import pytest

from sage_cli.assets import NANO
from sage_cli.errors import ModelError
from sage_cli.store.gguf import read_metadata, read_tensors
from sage_cli.store.models import find_model
from tests.models import write_qwen2_5_vl, write_qwen3_vl


def test_whole_files_pass(tmp_path: Path) -> None:
    tiny = write_qwen3_vl(tmp_path)
    for path in (NANO.text, NANO.mmproj, tiny.text, tiny.mmproj):
        read_tensors(path)


def test_a_file_that_ends_anywhere_is_cut_short(tmp_path: Path) -> None:
    data = NANO.text.read_bytes()
    path = tmp_path / "cut.gguf"
    for share in (0.0, 0.0001, 0.01, 0.02, 0.03, 0.1, 0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelError, match=r"cut.gguf"):
            read_tensors(path)
    path.write_bytes(data[: len(data) // 2])
    assert read_metadata(path)  # the header alone is whole
    with pytest.raises(ModelError, match="cut short: it ends before its last tensor"):
        read_tensors(path)


def test_a_file_system_that_cannot_map_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("sage_cli.store.gguf.mmap", refuse)
    with pytest.raises(ModelError, match=r"\.gguf is on .* cannot map files into memory: copy the model to a local disk"):
        read_tensors(NANO.text)


def test_no_header_breaks_the_check(tmp_path: Path) -> None:
    data, rng = bytearray(NANO.text.read_bytes()[:40_000]), random.Random(5)
    for _ in range(200):
        broken = data.copy()
        for _ in range(rng.randrange(1, 9)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        (tmp_path / "x.gguf").write_bytes(broken)
        with pytest.raises(ModelError):
            read_tensors(tmp_path / "x.gguf")


def _with_string(path: Path, key: bytes, value: bytes) -> None:
    """nano with another metadata entry, a string, behind the others."""
    data = NANO.text.read_bytes()
    tensors, entries = struct.unpack_from("<QQ", data, 8)
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    path.write_bytes(data[:8] + struct.pack("<QQ", tensors, entries + 1) + entry + data[24:])


@pytest.mark.parametrize("value", [b"caf\xe9", b"x" * (2 << 20)], ids=["latin-1", "2 MiB"])
def test_what_llama_cpp_takes_is_no_broken_header(tmp_path: Path, value: bytes) -> None:
    _with_string(tmp_path / "odd.gguf", b"tokenizer.note", value)
    assert set(read_tensors(tmp_path / "odd.gguf")) == set(read_tensors(NANO.text))
    _with_string(tmp_path / "odd.gguf", b"general.note", value)
    assert read_metadata(tmp_path / "odd.gguf")["general.architecture"]


def test_a_string_that_would_end_past_any_file(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a"
    strings = struct.pack("<IIQ", 9, 8, 20) + struct.pack("<Q", 2**63)
    (tmp_path / "x.gguf").write_bytes(head + strings + bytes(100))
    with pytest.raises(ModelError, match="broken GGUF header"):
        read_tensors(tmp_path / "x.gguf")


@pytest.mark.parametrize("key", ["general.nested", "tokenizer.nested"])
def test_arrays_within_arrays_are_a_broken_header(tmp_path: Path, key: str) -> None:
    """Regression: behind the tokenizer, where only the check of the whole file reads, they ended in a RecursionError."""
    text, array, one = 8, 9, 1
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", array)
    path = tmp_path / "nested.gguf"
    path.write_bytes(header + struct.pack("<IQ", array, one) * 100_000 + struct.pack("<IQQ", text, one, 0))
    with pytest.raises(ModelError, match=r"nested\.gguf has a broken GGUF header"):
        read_tensors(path)


# ---- numbers that llama.cpp computes with unchecked; each was seen to end the process --------------------------------

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

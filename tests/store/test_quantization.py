"""The quantization of a model file is what its header says."""

from __future__ import annotations

import shutil
from pathlib import Path

import llama_cpp
import pytest

from sage_cli.assets import NANO
from sage_cli.errors import ModelError
from sage_cli.store import quantization as module
from sage_cli.store.install import Installed
from sage_cli.store.quantization import UNKNOWN, quantization
from tests.models.tiny_whisper import write_whisper


def test_the_numbers_are_llama_cpps() -> None:
    for number, name in module._GGUF.items():
        found = [getattr(llama_cpp, f"LLAMA_FTYPE_{prefix}{name}", None) for prefix in ("MOSTLY_", "ALL_")]
        assert number in found, name


@pytest.mark.parametrize("name", ["plain.gguf", "model-Q4_K_M.gguf", "model-F16.gguf"])
def test_the_header_counts_and_not_the_name(name: str, tmp_path: Path) -> None:
    assert quantization(Path(shutil.copy(NANO.text, tmp_path / name))) == "Q8_0"


def test_mixes_that_the_header_has_no_number_for_go_by_name(tmp_path: Path) -> None:
    assert quantization(Path(shutil.copy(NANO.text, tmp_path / "model-UD-Q4_K_XL.gguf"))) == "UD-Q4_K_XL"


def test_whisper_models(tmp_path: Path) -> None:
    assert quantization(NANO.speech) == "Q8_0"
    assert quantization(write_whisper(tmp_path / "ggml-tiny.bin")) in ("F16", "F32")


def test_without_a_type_in_the_header_the_name_is_asked(tmp_path: Path) -> None:
    header = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)
    for name, told in (("some-Q5_K_M.gguf", "Q5_K_M"), ("some.gguf", UNKNOWN)):
        (tmp_path / name).write_bytes(header)
        assert quantization(tmp_path / name) == told


@pytest.mark.parametrize("name", ["bad.gguf", "bad-Q4_K_M.gguf", "ggml-bad.bin"])
@pytest.mark.parametrize("data", [b"", b"junk\n", b"GGUF\3\0\0\0", b"lmgg"])
def test_damaged_files_say_so(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=name):
        quantization(tmp_path / name)
    model = Installed("bad", "vision", (tmp_path / name,), "", 0)
    assert (model.quantization, name in (model.damage or "")) == (UNKNOWN, True)

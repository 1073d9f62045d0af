"""From ``--model`` to files: found models, refused ones, and their messages."""

from __future__ import annotations

import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sage_cli.errors import ModelError
from sage_cli.store import ModelFiles, find_model, find_speech_model
from sage_cli.store.content import fingerprint
from sage_cli.store.gguf import read_metadata
from sage_cli.store.models import NotInstalledError, shards, weights_fingerprint
from tests.models import TinyModel, write_qwen3_vl


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_qwen3_vl(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("SAGE_MODELS_DIR", str(folder))
    return folder


def put(tiny: TinyModel, folder: Path, text: str = "Tiny-Q8_0.gguf", mmproj: str | None = "mmproj-Tiny-F16.gguf") -> ModelFiles:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(tiny.text, folder / text)
    if mmproj:
        shutil.copy(tiny.mmproj, folder / mmproj)
    return ModelFiles(folder / text, folder / (mmproj or ""))


def test_metadata_is_read_past_arrays(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    tags = text("general.tags") + struct.pack("<IIQ", 9, 8, 2) + text("one") + text("two")
    sections = text("x.sections") + struct.pack("<IIQ", 9, 5, 4) + struct.pack("<4i", 1, 2, 3, 4)
    name = text("general.name") + struct.pack("<I", 8) + text("Näme")
    width = text("x.embedding_length") + struct.pack("<II", 4, 2560)
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + tags + sections + name + width)
    assert read_metadata(path) == {"x.sections": (1, 2, 3, 4), "general.name": "Näme", "x.embedding_length": 2560}


def test_a_split_model_is_identified_by_all_its_shards(tmp_path: Path) -> None:
    parts = [tmp_path / f"big [1]-0000{number}-of-00002.gguf" for number in (1, 2)]
    for path in parts:
        path.write_bytes(path.name.encode())
    (tmp_path / "big [1]-00001-of-00003.gguf").write_bytes(b"of another split")
    assert shards(parts[0]) == parts
    first = weights_fingerprint(parts[0])
    assert ModelFiles(parts[0], parts[1]).fingerprints() == [first, fingerprint(parts[1])]
    parts[1].write_bytes(b"of another fine-tune")
    assert len({first, weights_fingerprint(parts[0]), fingerprint(parts[0])}) == 3
    whole = tmp_path / "small.gguf"
    whole.write_bytes(b"one file")
    assert weights_fingerprint(whole) == fingerprint(whole)


@pytest.mark.parametrize("count", [1, 1 << 62])
def test_arrays_within_arrays_are_no_header(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.gguf"
    key = struct.pack("<Q", 1) + b"k"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<I", 9) + struct.pack("<IQ", 9, count) * 100_000)
    with pytest.raises(ModelError, match="broken GGUF header"):
        read_metadata(path)


def test_an_array_of_more_than_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 10, (1 << 64) - 1))
    with pytest.raises(ModelError, match="broken GGUF header"):
        read_metadata(path)


def test_a_path_finds_the_mmproj_beside_it(tiny: TinyModel, tmp_path: Path) -> None:
    expected = put(tiny, tmp_path)
    assert find_model(str(expected.text)) == expected


def test_a_folder_holds_both(tiny: TinyModel, tmp_path: Path) -> None:
    expected = put(tiny, tmp_path)
    assert find_model(str(tmp_path)) == expected


@pytest.mark.parametrize("name", ["tiny", "family/tiny"])
def test_a_name_is_a_folder_among_the_models(tiny: TinyModel, models: Path, name: str) -> None:
    expected = put(tiny, models / name)
    assert find_model(name) == expected


@pytest.mark.parametrize("name", ["Tiny-Q8_0", "Tiny-Q8_0.gguf"])
def test_a_name_is_a_file_among_the_models(tiny: TinyModel, models: Path, name: str) -> None:
    expected = put(tiny, models)
    assert find_model(name) == expected


def test_the_only_model_needs_no_name(tiny: TinyModel, models: Path) -> None:
    expected = put(tiny, models / "tiny")
    assert find_model(None) == expected


def test_of_several_models_one_must_be_chosen(tiny: TinyModel, models: Path) -> None:
    put(tiny, models / "one")
    put(tiny, models / "two", "Other.gguf")
    with pytest.raises(ModelError, match=r"several models .*Other\.gguf.*--model"):
        find_model(None)


def test_a_split_model_is_its_first_shard(tiny: TinyModel, tmp_path: Path) -> None:
    first = put(tiny, tmp_path, "Tiny-00001-of-00002.gguf")
    put(tiny, tmp_path, "Tiny-00002-of-00002.gguf")
    assert find_model(str(tmp_path)) == first


@pytest.mark.parametrize(
    ("text", "others", "best"),
    [
        ("Qwen-4B-Q4_K_M.gguf", ["mmproj-Qwen-8B-F16.gguf"], "mmproj-Qwen-4B-Q8_0.gguf"),  # the same model before the better precision
        ("Qwen-4B-Q8_0.gguf", ["mmproj-Qwen-4B-Q8_0.gguf", "mmproj-Qwen-4B-F32.gguf"], "mmproj-Qwen-4B-F16.gguf"),
        ("SAGE.Q4_K_M.gguf", ["SAGE.mmproj-Q8_0.gguf"], "SAGE.mmproj-f16.gguf"),
    ],
)
def test_the_best_mmproj_is_chosen(tiny: TinyModel, tmp_path: Path, text: str, others: list[str], best: str) -> None:
    for other in others:
        shutil.copy(tiny.mmproj, tmp_path / other)
    assert find_model(str(put(tiny, tmp_path, text, best).text)).mmproj.name == best


def test_no_model_at_all(models: Path) -> None:
    with pytest.raises(ModelError, match=r"no model: pull one \('sage models list'.*--model"):
        find_model(None)


@pytest.mark.parametrize("find", [find_model, find_speech_model])
def test_a_missing_model(models: Path, find: Callable[[str], object]) -> None:
    """The message says what to do, too."""
    with pytest.raises(ModelError, match=r"no such model: nonesuch is neither .*; 'sage models list' shows all"):
        find("nonesuch")
    with pytest.raises(ModelError, match=r"no such model: .*; did you mean whisper-base\?"):
        find("wisper-base")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no language model in"):
        find_model(str(tmp_path))


def test_a_language_model_alone(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"language model alone.*--mmproj"):
        find_model(str(put(tiny, tmp_path, mmproj=None).text))


def test_an_mmproj_as_the_model(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match="is a vision encoder"):
        find_model(str(tiny.mmproj))


def test_a_model_as_the_mmproj(tiny: TinyModel) -> None:
    with pytest.raises(ModelError, match="is not a vision encoder"):
        find_model(str(tiny.text), tiny.text)


def test_a_missing_mmproj(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file.*--mmproj"):
        find_model(str(tiny.text), tmp_path / "mmproj.gguf")


def test_the_mmproj_of_another_model(tiny: TinyModel, tmp_path: Path) -> None:
    wider = write_qwen3_vl(tmp_path, width=128)
    with pytest.raises(ModelError, match="does not belong to"):
        find_model(str(tiny.text), wider.mmproj)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04 a zip", "not a GGUF file"),
        (b"GGUF", "broken GGUF header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1 << 62), "broken GGUF header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"x" + struct.pack("<I", 99), "broken GGUF header"),
        (b"GGUF" + struct.pack("<IQQ", 9, 1, 1), "GGUF version 9"),
    ],
)
def test_not_a_gguf(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=said):
        find_model(str(path))


def test_every_cut_of_a_header_is_refused(tiny: TinyModel, tmp_path: Path) -> None:
    data = tiny.text.read_bytes()
    header = data.index(b"tokenizer.") - 8
    path = tmp_path / "cut.gguf"
    for length in range(0, header, 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_metadata(path)


# ---- speech --------------------------------------------------------------------------------------------------------


def test_the_largest_speech_model_is_found(models: Path) -> None:
    assert find_speech_model(None) is None
    for name, size in ("ggml-tiny.bin", 10), ("ggml-base.bin", 20), ("ggml-silero-v5.bin", 90):
        (models / name).write_bytes(b"lmgg" + bytes(size))
    assert find_speech_model(None) == models / "ggml-base.bin"


def test_a_speech_model_has_a_name(models: Path) -> None:
    path = models / "ggml-base.en.bin"
    path.write_bytes(b"lmgg")
    for name in "base.en", "ggml-base.en", "ggml-base.en.bin", str(path):
        assert find_speech_model(name) == path


def test_a_speech_model_is_checked(models: Path) -> None:
    path = models / "ggml-base.bin"
    with pytest.raises(ModelError, match=r"whisper-base is not installed: run .sage models pull whisper-base"):
        find_speech_model("base")
    path.write_bytes(b"RIFF")
    with pytest.raises(ModelError, match="not a Whisper model"):
        find_speech_model("base")


def test_a_missing_model_can_be_told_by_a_worker() -> None:
    error = pickle.loads(pickle.dumps(NotInstalledError("none is installed", "qwen3-vl-2b")))
    assert (str(error), error.name) == ("none is installed", "qwen3-vl-2b")

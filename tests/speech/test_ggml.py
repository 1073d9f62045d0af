"""Files that are not whole models never get as far as whisper.cpp."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from sage_cli.errors import ModelError
from sage_cli.speech.ggml import check_whisper, read_silero
from tests.models.tiny_whisper import Shape, write_silero, write_whisper


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest there is: it is only looked at."""
    return write_whisper(tmp_path_factory.mktemp("whisper") / "ggml-smallest.bin", Shape(width=8, segments=1, slots=1))


def test_reads_the_header(model: Path, tmp_path: Path) -> None:
    header = check_whisper(model)
    assert (header.vocabulary, header.audio_width, header.text_layers, header.mels) == (51864, 8, 1, 80)
    assert not header.multilingual
    assert check_whisper(write_whisper(tmp_path / "m.bin", multilingual=True)).multilingual


@pytest.mark.parametrize("part", [0.0, 0.000001, 0.00001, 0.01, 0.5, 0.999999])
def test_a_file_cut_short(model: Path, tmp_path: Path, part: float) -> None:
    cut = tmp_path / "cut.bin"
    cut.write_bytes(model.read_bytes()[: round(part * model.stat().st_size)])
    with pytest.raises(ModelError, match=r"cut short|is not a Whisper model"):
        check_whisper(cut)


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"\0" * 100, b"just some text\n" * 100, b"lmgg", b"lmgg" + b"\xff" * 4000])
def test_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    for check in (check_whisper, read_silero):
        with pytest.raises(ModelError, match=r"other\.bin"):
            check(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(ModelError, match="no such file"):
            check_whisper(path)


def test_a_tensor_too_few(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    last = whole.rfind(struct.pack("<3i", 1, len(b"decoder.ln.bias"), 0))
    path = tmp_path / "short.bin"
    path.write_bytes(whole[:last])
    with pytest.raises(ModelError, match="cut short"):
        check_whisper(path)


def test_damaged_headers_raise_nothing_else(model: Path, tmp_path: Path) -> None:
    """Bytes of the header, the filters' size, the vocabulary and the first tensor's description changed at random."""
    whole = model.read_bytes()
    start_of_words = 56 + 4 * 80 * 201
    places = [*range(4, 56), *range(start_of_words, start_of_words + 64)]
    source = random.Random(0)
    path = tmp_path / "damaged.bin"
    broken = 0
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[source.choice(places)] = source.randrange(256)
        path.write_bytes(damaged)
        try:
            check_whisper(path)
        except ModelError:
            broken += 1
    assert broken > 60


def test_silero(tmp_path: Path) -> None:
    path = write_silero(tmp_path / "ggml-silero.bin")
    tensors = read_silero(path)
    assert tensors["_model.decoder.rnn.weight_ih"].shape == (512, 128)
    assert len(tensors) == 15
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="cut short"):
        read_silero(path)
    with pytest.raises(ModelError):
        check_whisper(path)


def test_a_whisper_is_no_silero(model: Path) -> None:
    with pytest.raises(ModelError):
        read_silero(model)


@pytest.mark.parametrize(("place", "value"), [(8, 1), (8, 49), (44, 4), (44, 15), (44, -1), (44, 2**31 - 1)])
def test_numbers_that_end_the_process_are_refused(model: Path, tmp_path: Path, place: int, value: int) -> None:
    """An encoder for less than a second, and a kind of tensors that there is not."""
    damaged = bytearray(model.read_bytes())
    struct.pack_into("<i", damaged, place, value)
    (tmp_path / "ggml-x.bin").write_bytes(damaged)
    with pytest.raises(ModelError, match="broken or cut short"):
        check_whisper(tmp_path / "ggml-x.bin")

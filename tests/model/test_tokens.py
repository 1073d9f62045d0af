"""Text as embeddings is what llama.cpp would look up itself, whatever the matrix is stored as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from sage_cli.errors import ModelError
from sage_cli.model.tokens import TokenEmbeddings, copy_floats, to_half
from tests.models.tiny_vl import Shape, write_qwen3_vl_of

SHAPE = Shape(width=128)


@pytest.mark.parametrize(
    "kind", [GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q4_0], ids=lambda kind: kind.name
)
def test_rows_are_dequantized_as_ggml_does(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    files = write_qwen3_vl_of(replace(SHAPE, text_type=kind), tmp_path, "model", "model")
    tensor = next(tensor for tensor in GGUFReader(files.text).tensors if tensor.name == "token_embd.weight")
    expected = dequantize(tensor.data, tensor.tensor_type)
    embeddings = TokenEmbeddings(files.text, SHAPE.vocabulary, SHAPE.width)
    for token in (0, 1, 77, SHAPE.vocabulary - 1):
        found = np.full(2 * SHAPE.width, np.nan, np.float32)
        embeddings.row(token, found)
        np.testing.assert_array_equal(found[: SHAPE.width], expected[token])
        assert np.isnan(found[SHAPE.width :]).all()


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    files = write_qwen3_vl_of(SHAPE, tmp_path, "model", "model")
    with pytest.raises(ModelError, match="token embeddings"):
        TokenEmbeddings(files.text, SHAPE.vocabulary + 1, SHAPE.width)


def test_half_precision_is_numpys() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(0, 100, 10_000), [0.0, -0.0, 65504.0, 6e-8, 1e-9, -3.14159]]).astype(
        np.float32
    )
    for length in (len(values), len(values) // 16 * 16, 7, 1):
        part = values[-length:]
        half = to_half(part)
        np.testing.assert_array_equal(half, part.astype(np.float16))
        out = np.empty_like(part)
        copy_floats(out, half)
        np.testing.assert_array_equal(out, half.astype(np.float32))
        copy_floats(out, part)
        np.testing.assert_array_equal(out, part)

"""From a trained nano whisper to the ``ggml`` file that whisper.cpp loads.

The format fixes token ids (Whisper's), so the embedding has 51864 rows; those of tokens that the nano model lacks are zeros, which cost
nothing once compressed. Matrices are 8-bit (``q8_0``), as whisper.cpp's own ``quantize`` would make them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from training.whisper import AUDIO_CONTEXT, MELS, STAMP, TEXT_CONTEXT, Vocabulary, mel_filters, new_whisper

MAGIC: Final = 0x67676D6C
ROWS: Final = 51864  # an English-only model's vocabulary
END, START, PREVIOUS, BEGIN = 50256, 50257, 50360, 50363
BYTES: Final = 256  # the first tokens are the single bytes; whisper.cpp looks some of them up
F32, F16, Q8_0 = 0, 1, 8
FILE_TYPE: Final = 2007  # "mostly" Q8_0; the thousands are the version of the quantization format

_PARTS: Final = {
    "self_attn.k_proj": "attn.key",
    "self_attn.q_proj": "attn.query",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}
_WHOLE: Final = {
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.embed_tokens": "decoder.token_embedding",
}


def file_ids(vocabulary: Vocabulary) -> tuple[list[int], list[bytes]]:
    """For every compact token its id in the file; and the file's vocabulary, its texts in order."""
    texts = [bytes([n]) for n in range(BYTES)]
    ids = []
    for text in map(str.encode, vocabulary.texts):
        if text not in texts:
            texts.append(text)
        ids.append(texts.index(text))
    stamps = range(vocabulary.size - vocabulary.begin)
    return [*ids, END, START, PREVIOUS, *(BEGIN + round(n * STAMP / 0.02) for n in stamps)], texts


def _file_name(name: str) -> str:
    """``transformers``' name of a tensor in whisper.cpp's words."""
    name = name.removeprefix("model.")
    for ours, theirs in _WHOLE.items():
        if name.startswith(ours):
            return name.replace(ours, theirs)
    if ".layers." not in name:
        return name  # the convolutions
    side, _, layer, rest = name.split(".", 3)
    part, last = rest.rsplit(".", 1)
    return f"{side}.blocks.{layer}.{_PARTS[part]}.{last}"


def tensors(weights: dict[str, torch.Tensor], vocabulary: Vocabulary) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and values as they go into the file."""
    for name, value in weights.items():
        if name == "proj_out.weight":  # the embedding again
            continue
        data = value.float().numpy()
        if name.endswith("embed_tokens.weight"):
            rows = np.zeros((ROWS, data.shape[1]), np.float32)
            rows[file_ids(vocabulary)[0]] = data
            data = rows
        if name.endswith(("conv1.bias", "conv2.bias")):
            data = data[:, None]
        yield _file_name(name), np.ascontiguousarray(data)


def _write(file: BinaryIO, name: str, data: NDArray[np.float32]) -> None:
    is_matrix = data.ndim == 2 and "positional" not in name and not name.endswith("bias")
    kind = Q8_0 if is_matrix else F16 if data.ndim == 3 else F32
    encoded = name.encode()
    file.write(struct.pack("<3i", data.ndim, len(encoded), kind))
    file.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)) + encoded)
    match kind:
        case 8:
            file.write(quantize(data, GGMLQuantizationType.Q8_0).tobytes())
        case 1:
            file.write(data.astype(np.float16).tobytes())
        case _:
            file.write(data.tobytes())


def export(weights: Path, path: Path) -> None:
    """Write the file from a checkpoint of :func:`training.whisper.train_whisper`."""
    vocabulary = Vocabulary.build()
    config = new_whisper(vocabulary).config
    _, texts = file_ids(vocabulary)
    audio = (config.d_model, config.encoder_attention_heads, config.encoder_layers)
    text = (config.d_model, config.decoder_attention_heads, config.decoder_layers)
    with path.open("wb") as file:
        file.write(struct.pack("<12i", MAGIC, ROWS, AUDIO_CONTEXT, *audio, TEXT_CONTEXT, *text, MELS, FILE_TYPE))
        filters = mel_filters()
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        file.write(struct.pack("<i", len(texts)))
        for token in texts:
            file.write(struct.pack("<i", len(token)) + token)
        for name, data in tensors(torch.load(weights, map_location="cpu"), vocabulary):
            _write(file, name, data)

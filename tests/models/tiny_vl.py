"""Tiny Qwen3-VL and Qwen2.5-VL models in the real architectures, with random weights, written straight to GGUF.

They go through llama.cpp and mtmd exactly like the released models: M-RoPE, merged frame pairs, deepstack (Qwen3-VL), window attention
(Qwen2.5-VL), ChatML, vision control tokens. Their output is noise, but reproducible noise that depends on the whole input: the weights are
scaled so that attention is neither uniform nor one-hot and the logits spread by a few units.

Keys, tensor names and shapes follow llama.cpp's ``conversion/`` (``qwen3vl.py``, ``qwenvl.py``) and ``tools/mtmd/clip.cpp``.
The tiny ones are stored as f32, so that results can be compared closely with other implementations; :class:`Shape` tells of other sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, VisionProjectorType
from gguf.quants import quantize
from numpy.typing import NDArray

from .bpe import CONTROL_TOKENS, vocabulary


@dataclass(frozen=True, slots=True)
class Encoded:
    """A matrix as it is stored."""

    data: NDArray[Any]
    kind: GGMLQuantizationType


Tensor = tuple[str, "NDArray[np.float32] | Encoded"]

MERGE = 2  # patches per vision token along a side
CONTEXT_LENGTH = 32768
NORM_EPS = 1e-6

_DEFAULT_SYSTEM = "{% if loop.first and message.role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
_CHAT_TEMPLATE = (
    "{% for message in messages %}DEFAULT_SYSTEM<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# By architecture. As in the released models, only Qwen2.5-VL's has a system turn of its own.
CHAT_TEMPLATES = {
    "qwen3vl": _CHAT_TEMPLATE.replace("DEFAULT_SYSTEM", ""),
    "qwen2vl": _CHAT_TEMPLATE.replace("DEFAULT_SYSTEM", _DEFAULT_SYSTEM),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a model: the language model, then the vision encoder.

    Attributes:
        width: embedding length of the language model. The mmproj of one width does not fit the text model of another.
        layers: of the language model.
        vocabulary: tokens; the 512 that text is made of come first, names without meaning fill it up.
        tied: there is no output layer, the token embeddings serve as one. Random layers then mostly repeat the last token.
        deepstack: for each vision layer of a Qwen3-VL, whether it also feeds the language model; llama.cpp needs fewer than it has layers.
        position_grid: Qwen3-VL learns a position embedding for each cell of this many rows and columns.
        text_type, vision_type: how matrices are stored; all else is f32.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    ffn: int = 128
    mrope_sections: tuple[int, int, int] = (6, 5, 5)
    rope_base: float = 1e6
    vocabulary: int = 512
    tied: bool = False
    vision_width: int = 32
    vision_layers: int = 2
    vision_heads: int = 2
    vision_ffn: int = 64
    deepstack: tuple[bool, ...] = (True, False)
    position_grid: int = 16
    text_type: GGMLQuantizationType = GGMLQuantizationType.F32
    vision_type: GGMLQuantizationType = GGMLQuantizationType.F32

    @property
    def merged_width(self) -> int:
        return self.vision_width * MERGE * MERGE


@dataclass(frozen=True, slots=True)
class TinyModel:
    """The two files of a vision-language model."""

    text: Path
    mmproj: Path


def write_qwen3_vl(folder: Path, seed: int = 0, width: int = 64) -> TinyModel:
    """Write a tiny Qwen3-VL: 32 px a vision token side, mean and standard deviation 0.5.

    Args:
        folder: made if missing.
        seed: of the weights; the same seed gives the same bytes on any machine.
        width: embedding length of the language model, a multiple of 32. The mmproj of one width does not fit the text
            model of another.
    """
    return write_qwen3_vl_of(Shape(width=width, heads=width // 16, kv_heads=width // 32), folder, "tiny-qwen3-vl", "Tiny Qwen3-VL", seed)


def write_qwen3_vl_of(shape: Shape, folder: Path, stem: str, name: str, seed: int = 0, *, quick: bool = False) -> TinyModel:
    """Write a Qwen3-VL of any size, with random weights.

    Args:
        stem: of the files' names.
        name: in their metadata.
        quick: draw large matrices as they are stored, a thousand times faster than numbers that are quantized.
    """
    make = _QuickWeights if quick else _Weights
    model = TinyModel(folder / f"{stem}.gguf", folder / f"mmproj-{stem}.gguf")
    text = _text_writer(model.text, "qwen3vl", name, shape)
    text.add_num_deepstack_layers(sum(shape.deepstack))
    _write(text, _qwen3_text(make(seed, shape.text_type), shape), shape.text_type)

    vision = _vision_writer(model.mmproj, name, VisionProjectorType.QWEN3VL, shape, patch=16, image=16 * shape.position_grid)
    vision.add_vision_image_mean([0.5] * 3)
    vision.add_vision_image_std([0.5] * 3)
    vision.add_vision_use_gelu(True)
    vision.add_vision_spatial_merge_size(MERGE)
    vision.add_vision_is_deepstack_layers(list(shape.deepstack))
    _write(vision, _qwen3_vision(make(seed + 1, shape.vision_type), shape), shape.vision_type)
    return model


def write_qwen2_5_vl(folder: Path, seed: int = 0, width: int = 64) -> TinyModel:
    """Write a tiny Qwen2.5-VL: 28 px a vision token side, CLIP's mean and standard deviation.

    Its first vision layer attends within windows of 112 px, its second everywhere. The arguments are those of :func:`write_qwen3_vl`.
    """
    shape = Shape(width=width, heads=width // 32, kv_heads=1, mrope_sections=(4, 6, 6))
    model = TinyModel(folder / "tiny-qwen2.5-vl.gguf", folder / "mmproj-tiny-qwen2.5-vl.gguf")
    text = _text_writer(model.text, "qwen2vl", "Tiny Qwen2.5-VL", shape)
    _write(text, _qwen2_text(_Weights(seed), shape), shape.text_type)

    vision = _vision_writer(model.mmproj, "Tiny Qwen2.5-VL", VisionProjectorType.QWEN25VL, shape, patch=14, image=560)
    vision.add_vision_image_mean([0.48145466, 0.4578275, 0.40821073])
    vision.add_vision_image_std([0.26862954, 0.26130258, 0.27577711])
    vision.add_vision_use_silu(True)
    vision.add_vision_n_wa_pattern(shape.vision_layers)
    _write(vision, _qwen2_5_vision(_Weights(seed + 1), shape), shape.vision_type)
    return model


def write_truncated(path: Path, target: Path) -> Path:
    """Copy the first half of a file, as an interrupted download."""
    data = path.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    return target


# ---- files ---------------------------------------------------------------------------------------------------------


def _text_writer(path: Path, architecture: str, name: str, shape: Shape) -> GGUFWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[shape.text_type])
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_sections([*shape.mrope_sections, 0])
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(NORM_EPS)

    vocab = vocabulary(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocab.tokens)
    plain = len(vocab.tokens) - len(CONTROL_TOKENS)
    writer.add_token_types([TokenType.NORMAL] * plain + [TokenType.CONTROL] * len(CONTROL_TOKENS))
    writer.add_token_merges(vocab.merges)
    writer.add_eos_token_id(vocab.id("<|im_end|>"))
    writer.add_pad_token_id(vocab.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATES[architecture])
    return writer


def _vision_writer(path: Path, name: str, projector: str, shape: Shape, *, patch: int, image: int) -> GGUFWriter:
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[shape.vision_type])
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector)
    writer.add_vision_projection_dim(shape.width)
    writer.add_vision_image_size(image)
    writer.add_vision_patch_size(patch)
    writer.add_vision_embedding_length(shape.vision_width)
    writer.add_vision_feed_forward_length(shape.vision_ffn)
    writer.add_vision_block_count(shape.vision_layers)
    writer.add_vision_head_count(shape.vision_heads)
    writer.add_vision_attention_layernorm_eps(NORM_EPS)
    return writer


_FILE_TYPES = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
}


def _write(writer: GGUFWriter, tensors: Iterable[Tensor], kind: GGMLQuantizationType) -> None:
    """Tensors are made, stored and let go one by one; only matrices are stored as ``kind``, the position embedding is none."""
    for name, values in tensors:
        if isinstance(values, Encoded):
            writer.add_tensor(name, values.data, raw_dtype=values.kind)
        elif kind == GGMLQuantizationType.F32 or values.ndim != 2 or "position" in name:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- weights -------------------------------------------------------------------------------------------------------


class _Weights:
    """Random tensors. Uniform, not normal: the generator's uniform doubles are the same bits on every platform."""

    def __init__(self, seed: int, kind: GGMLQuantizationType = GGMLQuantizationType.F32) -> None:
        self._rng = np.random.default_rng(seed)
        self._kind = kind

    def uniform(self, shape: tuple[int, ...], scale: float, center: float = 0.0) -> NDArray[np.float32]:
        """Values with the given mean and standard deviation."""
        return (center + scale * math.sqrt(12) * (self._rng.random(shape) - 0.5)).astype(np.float32)

    def matrix(self, shape: tuple[int, ...], scale: float) -> NDArray[np.float32] | Encoded:
        """The same around zero, for what is quantized."""
        return self.uniform(shape, scale)

    def linear(self, prefix: str, outputs: int, *inputs: int, gain: float = 1.0, bias: bool = False) -> Iterator[Tensor]:
        """A layer that turns inputs of unit variance into outputs with a standard deviation of ``gain``."""
        yield f"{prefix}.weight", self.matrix((outputs, *inputs), gain / math.sqrt(math.prod(inputs)))
        if bias:
            yield f"{prefix}.bias", self.uniform((outputs,), 0.2)

    def norm(self, prefix: str, size: int, gain: float = 1.0, bias: bool = False) -> Iterator[Tensor]:
        yield f"{prefix}.weight", self.uniform((size,), 0.2 * gain, center=gain)
        if bias:
            yield f"{prefix}.bias", self.uniform((size,), 0.2)


_BIG = 1 << 20  # numbers


class _QuickWeights(_Weights):
    """Large matrices are random bytes in the format that they are stored in."""

    def matrix(self, shape: tuple[int, ...], scale: float) -> NDArray[np.float32] | Encoded:
        if math.prod(shape) < _BIG or len(shape) != 2:
            return self.uniform(shape, scale)
        rows, columns = shape
        if self._kind == GGMLQuantizationType.Q4_0:  # blocks of 32: a scale in f16, then numbers from -8 to 7, whose deviation is 4.6
            blocks = np.empty((rows, columns // 32, 18), np.uint8)
            blocks[..., :2] = np.frombuffer(np.float16(scale / 4.6).tobytes(), np.uint8)
            blocks[..., 2:] = self._rng.integers(0, 256, (rows, columns // 32, 16), np.uint8)
            return Encoded(blocks.reshape(rows, -1), self._kind)
        if self._kind == GGMLQuantizationType.F16:
            numbers = self._rng.random(shape, np.float32) - np.float32(0.5)
            return Encoded((numbers * np.float32(scale * math.sqrt(12))).astype(np.float16), self._kind)
        return self.uniform(shape, scale)


def _qwen3_text(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    yield from _embeddings(weights, shape)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield from weights.linear(f"{block}.attn_q", shape.heads * shape.head_dim, shape.width)
        yield from weights.linear(f"{block}.attn_k", shape.kv_heads * shape.head_dim, shape.width)
        # Queries and keys are normalised, so it is this gain that sets how sharply the model attends.
        yield from weights.norm(f"{block}.attn_q_norm", shape.head_dim, gain=2.5)
        yield from weights.norm(f"{block}.attn_k_norm", shape.head_dim)
        yield from _text_rest(weights, block, shape, bias=False)


def _qwen2_text(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    yield from _embeddings(weights, shape)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield from weights.linear(f"{block}.attn_q", shape.heads * shape.head_dim, shape.width, gain=2.5, bias=True)
        yield from weights.linear(f"{block}.attn_k", shape.kv_heads * shape.head_dim, shape.width, bias=True)
        yield from _text_rest(weights, block, shape, bias=True)


def _embeddings(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    yield "token_embd.weight", weights.matrix((shape.vocabulary, shape.width), 1.0)
    yield from weights.norm("output_norm", shape.width)
    if not shape.tied:
        yield from weights.linear("output", shape.vocabulary, shape.width, gain=2.0)


def _text_rest(weights: _Weights, block: str, shape: Shape, bias: bool) -> Iterator[Tensor]:
    yield from weights.linear(f"{block}.attn_v", shape.kv_heads * shape.head_dim, shape.width, bias=bias)
    yield from weights.linear(f"{block}.attn_output", shape.width, shape.heads * shape.head_dim, gain=2.0)
    yield from weights.norm(f"{block}.attn_norm", shape.width)
    yield from weights.norm(f"{block}.ffn_norm", shape.width)
    yield from weights.linear(f"{block}.ffn_gate", shape.ffn, shape.width)
    yield from weights.linear(f"{block}.ffn_up", shape.ffn, shape.width)
    yield from weights.linear(f"{block}.ffn_down", shape.width, shape.ffn, gain=2.0)


def _qwen3_vision(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    width, merged = shape.vision_width, shape.merged_width
    yield from _patch_embedding(weights, shape, 16)
    yield "v.patch_embd.bias", weights.uniform((width,), 0.2)
    yield "v.position_embd.weight", weights.uniform((shape.position_grid**2, width), 0.5)
    for layer in range(shape.vision_layers):
        block = f"v.blk.{layer}"
        yield from weights.norm(f"{block}.ln1", width, bias=True)
        yield from weights.linear(f"{block}.attn_qkv", 3 * width, width, gain=1.5, bias=True)
        yield from weights.linear(f"{block}.attn_out", width, width, bias=True)
        yield from weights.norm(f"{block}.ln2", width, bias=True)
        yield from weights.linear(f"{block}.ffn_up", shape.vision_ffn, width, bias=True)
        yield from weights.linear(f"{block}.ffn_down", width, shape.vision_ffn, bias=True)
        if shape.deepstack[layer]:
            yield from weights.norm(f"v.deepstack.{layer}.norm", merged, bias=True)
            yield from weights.linear(f"v.deepstack.{layer}.fc1", merged, merged, bias=True)
            yield from weights.linear(f"v.deepstack.{layer}.fc2", shape.width, merged, bias=True)
    yield from weights.norm("v.post_ln", width, bias=True)
    yield from _projector(weights, shape)


def _qwen2_5_vision(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    width = shape.vision_width
    yield from _patch_embedding(weights, shape, 14)
    for layer in range(shape.vision_layers):
        block = f"v.blk.{layer}"
        yield from weights.norm(f"{block}.ln1", width)
        for part in ("attn_q", "attn_k", "attn_v"):
            yield from weights.linear(f"{block}.{part}", width, width, gain=1.5, bias=True)
        yield from weights.linear(f"{block}.attn_out", width, width, bias=True)
        yield from weights.norm(f"{block}.ln2", width)
        yield from weights.linear(f"{block}.ffn_gate", shape.vision_ffn, width, bias=True)
        yield from weights.linear(f"{block}.ffn_up", shape.vision_ffn, width, bias=True)
        yield from weights.linear(f"{block}.ffn_down", width, shape.vision_ffn, bias=True)
    yield from weights.norm("v.post_ln", width)
    yield from _projector(weights, shape)


def _patch_embedding(weights: _Weights, shape: Shape, patch: int) -> Iterator[Tensor]:
    """One convolution kernel for each frame of a pair; a still image goes through both."""
    kernel = (shape.vision_width, 3, patch, patch)
    scale = 1 / math.sqrt(math.prod(kernel[1:]))
    for frame in "", ".1":
        yield f"v.patch_embd.weight{frame}", weights.uniform(kernel, scale)


def _projector(weights: _Weights, shape: Shape) -> Iterator[Tensor]:
    yield from weights.linear("mm.0", shape.merged_width, shape.merged_width, bias=True)
    yield from weights.linear("mm.2", shape.width, shape.merged_width, gain=2.0, bias=True)

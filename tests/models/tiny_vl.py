"""Tiny Qwen3-VL and Qwen2.5-VL models in the real architectures, with random weights, written straight to GGUF.

They go through llama.cpp and mtmd exactly like the released models: M-RoPE, merged frame pairs, deepstack (Qwen3-VL), window
attention (Qwen2.5-VL), ChatML, vision control tokens. What they say is noise, but it is the same noise every time, and it
depends on all of the input: the weights are scaled so that attention is neither uniform nor one-hot and the logits spread by a few units.

Keys, tensor names and shapes follow llama.cpp's ``conversion/`` (``qwen3vl.py``, ``qwenvl.py``) and ``tools/mtmd/clip.cpp``.
Everything is stored as f32, so that results can be compared closely with other implementations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType, TokenType, VisionProjectorType
from numpy.typing import NDArray

from .bpe import CONTROL_TOKENS, vocabulary

Tensors = dict[str, NDArray[np.float32]]

LAYERS = 2  # in the language model and in the vision encoder alike
HEAD_DIM = 32
TEXT_FFN = 128
DEEPSTACK_LAYERS = [
    True,
    False,
]  # Qwen3-VL vision layers that also feed the language model; llama.cpp needs fewer than it has layers
VISION_WIDTH = 32
VISION_HEADS = 2
VISION_FFN = 64
MERGE = 2  # patches per vision token along a side
MERGED_WIDTH = VISION_WIDTH * MERGE * MERGE
POSITION_GRID = 16  # Qwen3-VL learns a position embedding for each cell of this many rows and columns
CONTEXT_LENGTH = 32768
ROPE_BASE = 1e6
NORM_EPS = 1e-6

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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
    heads = width // HEAD_DIM
    model = TinyModel(folder / "tiny-qwen3-vl.gguf", folder / "mmproj-tiny-qwen3-vl.gguf")

    text = _text_writer(
        model.text,
        "qwen3vl",
        "Tiny Qwen3-VL",
        width,
        heads=2 * heads,
        kv_heads=heads,
        mrope_sections=(6, 5, 5),
    )
    text.add_num_deepstack_layers(sum(DEEPSTACK_LAYERS))
    _write(text, _qwen3_text(_Weights(seed), width, heads=2 * heads, kv_heads=heads))

    vision = _vision_writer(
        model.mmproj,
        "Tiny Qwen3-VL",
        VisionProjectorType.QWEN3VL,
        width,
        patch=16,
        image=16 * POSITION_GRID,
    )
    vision.add_vision_image_mean([0.5] * 3)
    vision.add_vision_image_std([0.5] * 3)
    vision.add_vision_use_gelu(True)
    vision.add_vision_spatial_merge_size(MERGE)
    vision.add_vision_is_deepstack_layers(DEEPSTACK_LAYERS)
    _write(vision, _qwen3_vision(_Weights(seed + 1), width))
    return model


def write_qwen2_5_vl(folder: Path, seed: int = 0, width: int = 64) -> TinyModel:
    """Write a tiny Qwen2.5-VL: 28 px a vision token side, CLIP's mean and standard deviation.

    Its first vision layer attends within windows of 112 px, its second everywhere. The arguments are those of :func:`write_qwen3_vl`.
    """
    heads = width // HEAD_DIM
    model = TinyModel(folder / "tiny-qwen2.5-vl.gguf", folder / "mmproj-tiny-qwen2.5-vl.gguf")

    text = _text_writer(
        model.text,
        "qwen2vl",
        "Tiny Qwen2.5-VL",
        width,
        heads=heads,
        kv_heads=1,
        mrope_sections=(4, 6, 6),
    )
    _write(text, _qwen2_text(_Weights(seed), width, heads=heads, kv_heads=1))

    vision = _vision_writer(
        model.mmproj,
        "Tiny Qwen2.5-VL",
        VisionProjectorType.QWEN25VL,
        width,
        patch=14,
        image=560,
    )
    vision.add_vision_image_mean([0.48145466, 0.4578275, 0.40821073])
    vision.add_vision_image_std([0.26862954, 0.26130258, 0.27577711])
    vision.add_vision_use_silu(True)
    vision.add_vision_n_wa_pattern(LAYERS)
    _write(vision, _qwen2_5_vision(_Weights(seed + 1), width))
    return model


def write_truncated(path: Path, target: Path) -> Path:
    """Copy the first half of a file: a download that broke off."""
    data = path.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    return target


# ---- files ---------------------------------------------------------------------------------------------------------


def _text_writer(
    path: Path,
    architecture: str,
    name: str,
    width: int,
    *,
    heads: int,
    kv_heads: int,
    mrope_sections: tuple[int, int, int],
) -> GGUFWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(TEXT_FFN)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_sections([*mrope_sections, 0])
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPS)

    vocab = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocab.tokens)
    plain = len(vocab.tokens) - len(CONTROL_TOKENS)
    writer.add_token_types([TokenType.NORMAL] * plain + [TokenType.CONTROL] * len(CONTROL_TOKENS))
    writer.add_token_merges(vocab.merges)
    writer.add_eos_token_id(vocab.id("<|im_end|>"))
    writer.add_pad_token_id(vocab.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return writer


def _vision_writer(path: Path, name: str, projector: str, width: int, *, patch: int, image: int) -> GGUFWriter:
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector)
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_size(image)
    writer.add_vision_patch_size(patch)
    writer.add_vision_embedding_length(VISION_WIDTH)
    writer.add_vision_feed_forward_length(VISION_FFN)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_head_count(VISION_HEADS)
    writer.add_vision_attention_layernorm_eps(NORM_EPS)
    return writer


def _write(writer: GGUFWriter, tensors: Tensors) -> None:
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- weights -------------------------------------------------------------------------------------------------------


class _Weights:
    """Random tensors. Uniform, not normal: the generator's uniform doubles are the same bits on every platform."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def uniform(self, shape: tuple[int, ...], scale: float, center: float = 0.0) -> NDArray[np.float32]:
        """Values with the given mean and standard deviation."""
        return (center + scale * math.sqrt(12) * (self._rng.random(shape) - 0.5)).astype(np.float32)

    def linear(
        self,
        prefix: str,
        outputs: int,
        *inputs: int,
        gain: float = 1.0,
        bias: bool = False,
    ) -> Tensors:
        """A layer that turns inputs of unit variance into outputs with a standard deviation of ``gain``."""
        tensors = {f"{prefix}.weight": self.uniform((outputs, *inputs), gain / math.sqrt(math.prod(inputs)))}
        if bias:
            tensors[f"{prefix}.bias"] = self.uniform((outputs,), 0.2)
        return tensors

    def norm(self, prefix: str, size: int, gain: float = 1.0, bias: bool = False) -> Tensors:
        tensors = {f"{prefix}.weight": self.uniform((size,), 0.2 * gain, center=gain)}
        if bias:
            tensors[f"{prefix}.bias"] = self.uniform((size,), 0.2)
        return tensors


def _qwen3_text(weights: _Weights, width: int, heads: int, kv_heads: int) -> Tensors:
    tensors = _embeddings(weights, width)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= weights.linear(f"{block}.attn_q", heads * HEAD_DIM, width)
        tensors |= weights.linear(f"{block}.attn_k", kv_heads * HEAD_DIM, width)
        # Queries and keys are normalised, so it is this gain that sets how sharply the model attends.
        tensors |= weights.norm(f"{block}.attn_q_norm", HEAD_DIM, gain=2.5)
        tensors |= weights.norm(f"{block}.attn_k_norm", HEAD_DIM)
        tensors |= _text_rest(weights, block, width, heads, kv_heads, bias=False)
    return tensors


def _qwen2_text(weights: _Weights, width: int, heads: int, kv_heads: int) -> Tensors:
    tensors = _embeddings(weights, width)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= weights.linear(f"{block}.attn_q", heads * HEAD_DIM, width, gain=2.5, bias=True)
        tensors |= weights.linear(f"{block}.attn_k", kv_heads * HEAD_DIM, width, bias=True)
        tensors |= _text_rest(weights, block, width, heads, kv_heads, bias=True)
    return tensors


def _embeddings(weights: _Weights, width: int) -> Tensors:
    """Token embeddings and an output layer of its own: tied to them, random layers would mostly repeat the last token."""
    return {
        "token_embd.weight": weights.uniform((len(vocabulary().tokens), width), 1.0),
        **weights.norm("output_norm", width),
        **weights.linear("output", len(vocabulary().tokens), width, gain=2.0),
    }


def _text_rest(weights: _Weights, block: str, width: int, heads: int, kv_heads: int, bias: bool) -> Tensors:
    return {
        **weights.linear(f"{block}.attn_v", kv_heads * HEAD_DIM, width, bias=bias),
        **weights.linear(f"{block}.attn_output", width, heads * HEAD_DIM, gain=2.0),
        **weights.norm(f"{block}.attn_norm", width),
        **weights.norm(f"{block}.ffn_norm", width),
        **weights.linear(f"{block}.ffn_gate", TEXT_FFN, width),
        **weights.linear(f"{block}.ffn_up", TEXT_FFN, width),
        **weights.linear(f"{block}.ffn_down", width, TEXT_FFN, gain=2.0),
    }


def _qwen3_vision(weights: _Weights, width: int) -> Tensors:
    tensors = _patch_embedding(weights, 16)
    tensors["v.patch_embd.bias"] = weights.uniform((VISION_WIDTH,), 0.2)
    tensors["v.position_embd.weight"] = weights.uniform((POSITION_GRID**2, VISION_WIDTH), 0.5)
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        tensors |= weights.norm(f"{block}.ln1", VISION_WIDTH, bias=True)
        tensors |= weights.linear(f"{block}.attn_qkv", 3 * VISION_WIDTH, VISION_WIDTH, gain=1.5, bias=True)
        tensors |= weights.linear(f"{block}.attn_out", VISION_WIDTH, VISION_WIDTH, bias=True)
        tensors |= weights.norm(f"{block}.ln2", VISION_WIDTH, bias=True)
        tensors |= weights.linear(f"{block}.ffn_up", VISION_FFN, VISION_WIDTH, bias=True)
        tensors |= weights.linear(f"{block}.ffn_down", VISION_WIDTH, VISION_FFN, bias=True)
        if DEEPSTACK_LAYERS[layer]:
            tensors |= weights.norm(f"v.deepstack.{layer}.norm", MERGED_WIDTH, bias=True)
            tensors |= weights.linear(f"v.deepstack.{layer}.fc1", MERGED_WIDTH, MERGED_WIDTH, bias=True)
            tensors |= weights.linear(f"v.deepstack.{layer}.fc2", width, MERGED_WIDTH, bias=True)
    tensors |= weights.norm("v.post_ln", VISION_WIDTH, bias=True)
    return tensors | _projector(weights, width)


def _qwen2_5_vision(weights: _Weights, width: int) -> Tensors:
    tensors = _patch_embedding(weights, 14)
    for layer in range(LAYERS):
        block = f"v.blk.{layer}"
        tensors |= weights.norm(f"{block}.ln1", VISION_WIDTH)
        for part in ("attn_q", "attn_k", "attn_v"):
            tensors |= weights.linear(f"{block}.{part}", VISION_WIDTH, VISION_WIDTH, gain=1.5, bias=True)
        tensors |= weights.linear(f"{block}.attn_out", VISION_WIDTH, VISION_WIDTH, bias=True)
        tensors |= weights.norm(f"{block}.ln2", VISION_WIDTH)
        tensors |= weights.linear(f"{block}.ffn_gate", VISION_FFN, VISION_WIDTH, bias=True)
        tensors |= weights.linear(f"{block}.ffn_up", VISION_FFN, VISION_WIDTH, bias=True)
        tensors |= weights.linear(f"{block}.ffn_down", VISION_WIDTH, VISION_FFN, bias=True)
    tensors |= weights.norm("v.post_ln", VISION_WIDTH)
    return tensors | _projector(weights, width)


def _patch_embedding(weights: _Weights, patch: int) -> Tensors:
    """One convolution kernel for each frame of a pair; a still image goes through both."""
    shape = (VISION_WIDTH, 3, patch, patch)
    scale = 1 / math.sqrt(math.prod(shape[1:]))
    return {f"v.patch_embd.weight{frame}": weights.uniform(shape, scale) for frame in ("", ".1")}


def _projector(weights: _Weights, width: int) -> Tensors:
    return {
        **weights.linear("mm.0", MERGED_WIDTH, MERGED_WIDTH, bias=True),
        **weights.linear("mm.2", width, MERGED_WIDTH, gain=2.0, bias=True),
    }

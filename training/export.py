"""From a checkpoint to the two GGUF files that ``sage`` loads.

Written with llama.cpp's own ``gguf`` library; names, metadata and types are those that llama.cpp's converter gives Qwen3-VL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from training.model import CONTROL, nano_config
from training.tokens import VOCABULARY, Encoder

NAME: Final = "sage-nano"
TYPES: Final = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

# ChatML, for programs that read the template; `sage` lays prompts out itself.
_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LANGUAGE, _VISION = "model.language_model.", "model.visual."
_MERGER: Final = {"merger.norm": "v.post_ln", "merger.linear_fc1": "mm.0", "merger.linear_fc2": "mm.2"}


def export(weights: Path, out: Path, kind: str = "q8_0") -> list[Path]:
    """Write ``sage-nano.gguf`` and ``mmproj-sage-nano.gguf``.

    Args:
        weights: a checkpoint, with ``tokenizer.json`` beside it.
        kind: of the language model's matrices: ``"q8_0"`` or ``"f16"``. The vision encoder's are ``f16``.

    Returns:
        The files.
    """
    tokenizer = weights.parent / "tokenizer.json"
    state = {name: value.float() for name, value in torch.load(weights, map_location="cpu").items()}
    config = nano_config(VOCABULARY, Encoder(tokenizer).control)
    out.mkdir(parents=True, exist_ok=True)
    text, vision = out / f"{NAME}.gguf", out / f"mmproj-{NAME}.gguf"
    _write_text(text, state, tokenizer, config.text_config, kind)
    _write_vision(vision, state, config.vision_config)
    return [text, vision]


# ---- language ------------------------------------------------------------------------------------------------------


def _write_text(path: Path, state: dict[str, Tensor], tokenizer: Path, config: Any, kind: str) -> None:
    architecture = gguf.MODEL_ARCH.QWEN3VL
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    quantized, file_type = TYPES[kind]
    writer.add_type("model")
    writer.add_name("Sage Nano")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_sections([*config.rope_parameters["mrope_section"], 0])
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_file_type(file_type)
    writer.add_num_deepstack_layers(1)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _write_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)

    def name(key: str) -> str | None:
        if not key.startswith(_LANGUAGE):  # the head is the embedding again
            return None
        return names.get_name(f"model.{key.removeprefix(_LANGUAGE)}", try_suffixes=(".weight", ".bias"))

    _write_tensors(writer, state, name, quantized)


def _write_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    tokenizer = Tokenizer.from_buffer(path.read_bytes())
    described = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens: list[str] = []
    types: list[int] = []
    for number in range(VOCABULARY):
        token = tokenizer.id_to_token(number)
        control = token in CONTROL
        tokens.append(f"[PAD{number}]" if token is None else token)
        kind = gguf.TokenType.UNUSED if token is None else gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL
        types.append(int(kind))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in described["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_pad_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_chat_template(_TEMPLATE)


# ---- vision --------------------------------------------------------------------------------------------------------


def _write_vision(path: Path, state: dict[str, Tensor], config: Any) -> None:
    writer = gguf.GGUFWriter(path, "clip")
    side = round(config.num_position_embeddings**0.5) * config.patch_size
    writer.add_type("mmproj")
    writer.add_name("Sage Nano")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(config.out_hidden_size)
    writer.add_vision_image_size(side)
    writer.add_vision_patch_size(config.patch_size)
    writer.add_vision_embedding_length(config.hidden_size)
    writer.add_vision_feed_forward_length(config.intermediate_size)
    writer.add_vision_block_count(config.depth)
    writer.add_vision_head_count(config.num_heads)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN3VL)
    writer.add_vision_use_gelu(True)
    writer.add_vision_spatial_merge_size(config.spatial_merge_size)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_is_deepstack_layers([number in config.deepstack_visual_indexes for number in range(config.depth)])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, config.depth)
    # The patch embedding sees two frames: llama.cpp has a matrix for each.
    patch = state[f"{_VISION}patch_embed.proj.weight"]
    split = {key: value for key, value in state.items() if key != f"{_VISION}patch_embed.proj.weight"}
    split |= {"v.patch_embd.weight": patch[:, :, 0], "v.patch_embd.weight.1": patch[:, :, 1]}

    def name(key: str) -> str | None:
        if key.startswith("v."):
            return key
        if not key.startswith(_VISION):
            return None
        inner = key.removeprefix(_VISION)
        stem, _, suffix = inner.rpartition(".")
        if stem in _MERGER:
            return f"{_MERGER[stem]}.{suffix}"
        if stem == "patch_embed.proj":
            return f"v.patch_embd.{suffix}"
        if stem.startswith("deepstack_merger_list."):
            _, number, part = stem.split(".")
            part = {"norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2"}[part]
            return f"v.deepstack.{config.deepstack_visual_indexes[int(number)]}.{part}.{suffix}"
        return names.get_name(f"visual.{inner}", try_suffixes=(".weight", ".bias"))

    _write_tensors(writer, split, name, gguf.GGMLQuantizationType.F16)


# ---- tensors -------------------------------------------------------------------------------------------------------


def _write_tensors(
    writer: gguf.GGUFWriter, state: dict[str, Tensor], name: Callable[[str], str | None], kind: gguf.GGMLQuantizationType
) -> None:
    """Matrices in ``kind``, vectors and position embeddings in single precision."""
    for key, value in state.items():
        named = name(key)
        if named is None:
            continue
        array: NDArray[np.float32] = value.contiguous().numpy()
        plain = array.ndim == 1 or named == "v.position_embd.weight"
        # As the converter, which reads half precision.
        array = array.astype(np.float16).astype(np.float32)
        if plain:
            writer.add_tensor(named, array)
        else:
            writer.add_tensor(named, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

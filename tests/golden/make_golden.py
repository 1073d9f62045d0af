r"""Record what Hugging Face's Qwen-VL implementations make of the golden prompts. For developers; the tests only read the results.

Run it from the repository root when the cases, the tiny models or the reference change, once for each family::

    uv run --no-project --python 3.11 --with torch --with torchvision --with gguf --with 'transformers==4.57.3' \
        python -m tests.golden.make_golden qwen3-vl
    uv run --no-project --python 3.11 --with torch --with pillow --with gguf --with 'transformers==4.49.0' \
        python -m tests.golden.make_golden qwen2.5-vl

The versions matter. Each family is recorded with the first series that had it: its weights were released with that one.
Later ones differ. 4.57 cuts Qwen2.5-VL's seconds per slice to whole ones. 5.3 and later let the text after a Qwen2.5-VL video start
before the video's last temporal position, which llama.cpp cannot express. 5.12 and later (an earlier one may have begun) keep a second
pair of vision start and end tokens around a whole Qwen3-VL video.

The models are the tiny GGUFs of ``tests.models``, their tensors loaded in float32 into the classes of ``transformers`` under its names.
Prompts go through the real processors: chat template, placeholder expansion, Qwen2's tokenizer with the tiny vocabulary, patches.
Positions are ``get_rope_index``'s. Frames are not resized.

Results are one JSON file a family::

    {"transformers": version,
     "cases": {name: {"text": the prompt as the processor was given it,
                      "tokens": [id, ...], "positions": [[time, ...], [height, ...], [width, ...]],
                      "logits": [value for each vocabulary entry], "greedy": [id, ...]}}}

:class:`tests.golden.Expected` says what the fields mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGUFReader

from tests.golden.cases import CASES, SEED, Case, Clip, frames_of, golden_file
from tests.models import TinyModel, write_qwen2_5_vl, write_qwen3_vl
from tests.models.bpe import vocabulary
from tests.models.tiny_vl import CHAT_TEMPLATES, CONTEXT_LENGTH, NORM_EPS, Shape

TINY = Shape()
GREEDY_TOKENS = 8
MARGIN = 0.05  # between the two likeliest tokens; recording stops at a closer choice, which rounding elsewhere could turn

Tensors = dict[str, torch.Tensor]

TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": len(vocabulary().tokens),
    "hidden_size": TINY.width,
    "intermediate_size": TINY.ffn,
    "num_hidden_layers": TINY.layers,
    "max_position_embeddings": CONTEXT_LENGTH,
    "rope_theta": TINY.rope_base,
    "rms_norm_eps": NORM_EPS,
    "tie_word_embeddings": False,
}
VISION_CONFIG: dict[str, Any] = {
    "depth": TINY.vision_layers,
    "hidden_size": TINY.vision_width,
    "intermediate_size": TINY.vision_ffn,
    "num_heads": TINY.vision_heads,
    "out_hidden_size": TINY.width,
}
CONTROL_IDS = {
    f"{name}_id": vocabulary().id(token)
    for name, token in (
        ("image_token", "<|image_pad|>"),
        ("video_token", "<|video_pad|>"),
        ("vision_start_token", "<|vision_start|>"),
        ("vision_end_token", "<|vision_end|>"),
    )
}


# ---- models --------------------------------------------------------------------------------------------------------


def qwen3_vl(files: TinyModel) -> Any:
    """The tiny Qwen3-VL as a ``transformers`` model."""
    heads = TINY.width // TINY.head_dim
    config = transformers.Qwen3VLConfig(
        text_config={
            **TEXT_CONFIG,
            "num_attention_heads": 2 * heads,
            "num_key_value_heads": heads,
            "head_dim": TINY.head_dim,
            "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True},
        },
        vision_config={
            **VISION_CONFIG,
            "num_position_embeddings": TINY.position_grid**2,
            "deepstack_visual_indexes": [layer for layer, deep in enumerate(TINY.deepstack) if deep],
        },
        tie_word_embeddings=False,
        **CONTROL_IDS,
    )
    text, vision = _tensors(files.text), _tensors(files.mmproj)
    weights = _text_weights(text, "model.language_model")
    visual = "model.visual"
    weights[f"{visual}.patch_embed.proj.weight"] = torch.stack([vision["v.patch_embd.weight"], vision["v.patch_embd.weight.1"]], dim=2)
    weights[f"{visual}.patch_embed.proj.bias"] = vision["v.patch_embd.bias"]
    weights[f"{visual}.pos_embed.weight"] = vision["v.position_embd.weight"]
    deep = 0
    for layer in range(TINY.layers):
        ours, theirs = f"v.blk.{layer}", f"{visual}.blocks.{layer}"
        names = {"ln1": "norm1", "attn_qkv": "attn.qkv", "attn_out": "attn.proj", "ln2": "norm2"}
        names |= {"ffn_up": "mlp.linear_fc1", "ffn_down": "mlp.linear_fc2"}
        for kind in ("weight", "bias"):
            weights |= {f"{theirs}.{name}.{kind}": vision[f"{ours}.{ours_name}.{kind}"] for ours_name, name in names.items()}
            if TINY.deepstack[layer]:
                merger = {"norm": "norm", "fc1": "linear_fc1", "fc2": "linear_fc2"}
                weights |= {
                    f"{visual}.deepstack_merger_list.{deep}.{name}.{kind}": vision[f"v.deepstack.{layer}.{ours_name}.{kind}"]
                    for ours_name, name in merger.items()
                }
        deep += TINY.deepstack[layer]
    for kind in ("weight", "bias"):
        weights[f"{visual}.merger.norm.{kind}"] = vision[f"v.post_ln.{kind}"]
        weights[f"{visual}.merger.linear_fc1.{kind}"] = vision[f"mm.0.{kind}"]
        weights[f"{visual}.merger.linear_fc2.{kind}"] = vision[f"mm.2.{kind}"]
    return _loaded(transformers.Qwen3VLForConditionalGeneration(config), weights)


def qwen2_5_vl(files: TinyModel) -> Any:
    """The tiny Qwen2.5-VL as a ``transformers`` model."""
    config = transformers.Qwen2_5_VLConfig(
        **TEXT_CONFIG,
        num_attention_heads=TINY.width // TINY.head_dim,
        num_key_value_heads=1,
        rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
        vision_config={
            **VISION_CONFIG,
            "window_size": 112,
            "fullatt_block_indexes": [TINY.vision_layers - 1],
            "tokens_per_second": 2,
        },
        **CONTROL_IDS,
    )
    text, vision = _tensors(files.text), _tensors(files.mmproj)
    weights = _text_weights(text, "model")
    weights["visual.patch_embed.proj.weight"] = torch.stack([vision["v.patch_embd.weight"], vision["v.patch_embd.weight.1"]], dim=2)
    for layer in range(TINY.layers):
        ours, theirs = f"v.blk.{layer}", f"visual.blocks.{layer}"
        weights[f"{theirs}.norm1.weight"] = vision[f"{ours}.ln1.weight"]
        weights[f"{theirs}.norm2.weight"] = vision[f"{ours}.ln2.weight"]
        for kind in ("weight", "bias"):
            weights[f"{theirs}.attn.qkv.{kind}"] = torch.cat([vision[f"{ours}.attn_{part}.{kind}"] for part in "qkv"])
            weights[f"{theirs}.attn.proj.{kind}"] = vision[f"{ours}.attn_out.{kind}"]
            weights |= {f"{theirs}.mlp.{part}_proj.{kind}": vision[f"{ours}.ffn_{part}.{kind}"] for part in ("gate", "up", "down")}
    weights["visual.merger.ln_q.weight"] = vision["v.post_ln.weight"]
    for kind in ("weight", "bias"):
        weights[f"visual.merger.mlp.0.{kind}"] = vision[f"mm.0.{kind}"]
        weights[f"visual.merger.mlp.2.{kind}"] = vision[f"mm.2.{kind}"]
    return _loaded(transformers.Qwen2_5_VLForConditionalGeneration(config), weights)


def _tensors(path: Path) -> Tensors:
    return {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in GGUFReader(path).tensors}


def _text_weights(text: Tensors, prefix: str) -> Tensors:
    """The language model's tensors under ``transformers`` names; both families agree but for Qwen3's norms and Qwen2's biases."""
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_output": "self_attn.o_proj"}
    names |= {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
    names |= {f"attn_{part}_norm": f"self_attn.{part}_norm" for part in "qk"}
    names |= {f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    weights = {"lm_head.weight": text["output.weight"]}
    weights |= {f"{prefix}.embed_tokens.weight": text["token_embd.weight"], f"{prefix}.norm.weight": text["output_norm.weight"]}
    for ours, tensor in text.items():
        if ours.startswith("blk."):
            _, layer, name, kind = ours.split(".")
            weights[f"{prefix}.layers.{layer}.{names[name]}.{kind}"] = tensor
    return weights


def _loaded(model: Any, weights: Tensors) -> Any:
    model.load_state_dict(weights, strict=True)
    return model.float().eval()


# ---- processors ----------------------------------------------------------------------------------------------------


def qwen_tokenizer(folder: Path) -> Any:
    """Qwen2's tokenizer (its own pre-tokenizer and normaliser) over the tiny vocabulary."""
    vocab = vocabulary()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab.tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *vocab.merges)), encoding="utf-8")
    tokenizer = transformers.Qwen2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), eos_token="<|im_end|>")
    controls = [token for token in vocab.tokens if token.startswith("<|") and token.endswith("|>")]
    tokenizer.add_special_tokens({"additional_special_tokens": controls})
    assert len(tokenizer) == len(vocab.tokens)
    return tokenizer


def qwen3_vl_inputs(tokenizer: Any) -> Callable[[str, Case], Mapping[str, torch.Tensor]]:
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessorFast(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=False),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(do_resize=False, do_sample_frames=False),
    )

    def inputs(text: str, case: Case) -> Mapping[str, torch.Tensor]:
        videos, images = _media(case)
        return processor(  # type: ignore[no-any-return]
            text=[text],
            images=images or None,
            videos=[np.stack(frames_of(clip)) for clip in videos] or None,
            # At one frame a second a frame's index is its time.
            video_metadata=[{"fps": 1.0, "total_num_frames": len(clip.times), "frames_indices": list(clip.times)} for clip in videos],
            return_tensors="pt",
        )

    return inputs


def qwen2_5_vl_inputs(tokenizer: Any) -> Callable[[str, Case], Mapping[str, torch.Tensor]]:
    processor = transformers.Qwen2_5_VLProcessor(transformers.Qwen2VLImageProcessor(do_resize=False), tokenizer)

    def inputs(text: str, case: Case) -> Mapping[str, torch.Tensor]:
        videos, images = _media(case)
        return processor(  # type: ignore[no-any-return]
            text=[text],
            images=images or None,
            videos=[frames_of(clip) for clip in videos] or None,
            videos_kwargs={"fps": [(len(clip.times) - 1) / (clip.times[-1] - clip.times[0]) for clip in videos]},
            return_tensors="pt",
        )

    return inputs


def _media(case: Case) -> tuple[list[Clip], list[Any]]:
    clips = [part for _, parts in case.messages for part in parts if isinstance(part, Clip)]
    return [clip for clip in clips if clip.pairs], [frame for clip in clips if not clip.pairs for frame in frames_of(clip)]


def _messages(case: Case) -> list[dict[str, Any]]:
    """A case as ``transformers`` chat messages; a still has its time written before it like a Qwen3-VL frame pair."""
    messages = []
    for role, parts in case.messages:
        content: list[dict[str, str]] = []
        for part in parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif part.pairs:
                content.append({"type": "video"})
            else:
                for time in part.times:
                    content += [{"type": "text", "text": f"<{time:.1f} seconds>"}, {"type": "image"}]
        messages.append({"role": role, "content": content})
    return messages


# ---- recording -----------------------------------------------------------------------------------------------------


@torch.inference_mode()  # type: ignore[untyped-decorator]
def record(model: Any, text: str, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Run one case; the greedy tokens are computed from scratch each, without a KV cache to go wrong."""
    vision = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    grids = {name: vision[name] for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts") if name in vision}
    rope_index = getattr(model, "get_rope_index", None) or model.model.get_rope_index
    ids = inputs["input_ids"]
    prompt = ids.shape[1]
    for step in range(GREEDY_TOKENS):
        positions, _ = rope_index(ids, **grids)
        pixels = {name: value for name, value in vision.items() if name != "second_per_grid_ts"}
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, **pixels).logits[0, -1]
        if step == 0:
            first_positions, first_logits = positions[:, 0], logits
        lead = torch.topk(logits, 2).values
        if lead[0] - lead[1] < MARGIN:
            break
        ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
    return {
        "text": text,
        "tokens": ids[0, :prompt].tolist(),
        "positions": first_positions.tolist(),
        "logits": [round(value, 5) for value in first_logits.tolist()],
        "greedy": ids[0, prompt:].tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make_golden")
    parser.add_argument("family", choices=CASES)
    family = parser.parse_args().family
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = qwen_tokenizer(folder)
        if family == "qwen3-vl":
            files = write_qwen3_vl(folder, SEED, TINY.width)
            model, inputs, template = qwen3_vl(files), qwen3_vl_inputs(tokenizer), CHAT_TEMPLATES["qwen3vl"]
        else:
            files = write_qwen2_5_vl(folder, SEED, TINY.width)
            model, inputs, template = qwen2_5_vl(files), qwen2_5_vl_inputs(tokenizer), CHAT_TEMPLATES["qwen2vl"]
        cases = {}
        for case in CASES[family]:
            text = tokenizer.apply_chat_template(_messages(case), chat_template=template, tokenize=False, add_generation_prompt=True)
            cases[case.name] = record(model, text, inputs(text, case))
            print(f"{case.name}: {len(cases[case.name]['tokens'])} tokens, then {tokenizer.decode(cases[case.name]['greedy'])!r}")
    golden_file(family).write_text(_layout({"transformers": transformers.__version__, "cases": cases}), encoding="utf-8")


def _layout(value: Any, depth: int = 0) -> str:
    """JSON with objects spread over lines and every list on one."""
    if not isinstance(value, dict):
        return json.dumps(value)
    indent = "\n" + " " * (depth + 1)
    entries = ("".join((indent, json.dumps(key), ": ", _layout(item, depth + 1))) for key, item in value.items())
    return "{" + ",".join(entries) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    main()

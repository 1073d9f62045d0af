"""Write models of real size with random weights, as costly as the released ones: ``python -m benchmarks.models WORK [NAME...]``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from gguf import GGMLQuantizationType

from tests.models import TinyModel
from tests.models.tiny_vl import Shape, write_qwen3_vl_of

# The dimensions of Qwen3-VL-2B-Instruct, as Q4_0 with the mmproj in f16.
QWEN3_VL_2B: Final = Shape(
    width=2048,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    ffn=6144,
    mrope_sections=(24, 20, 20),
    rope_base=5e6,
    vocabulary=151936,
    tied=True,
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
    vision_ffn=4096,
    deepstack=tuple(layer in (5, 11, 17) for layer in range(24)),
    position_grid=48,
    text_type=GGMLQuantizationType.Q4_0,
    vision_type=GGMLQuantizationType.F16,
)
QWEN3_VL_4B: Final = replace(QWEN3_VL_2B, width=2560, layers=36, heads=32, ffn=9728)
QWEN3_VL_8B: Final = replace(
    QWEN3_VL_2B,
    width=4096,
    layers=36,
    heads=32,
    ffn=12288,
    tied=False,
    vision_width=1152,
    vision_layers=27,
    vision_ffn=4304,
    deepstack=tuple(layer in (8, 16, 24) for layer in range(27)),
)
# As wide, and so with the same embeddings, frames and logits, but quick: memory beside the weights does not depend on the number of layers.
SHALLOW: Final = replace(QWEN3_VL_2B, layers=4, vision_layers=4, deepstack=(True, True, True, False))

SHAPES: Final = {
    "qwen3-vl-2b": QWEN3_VL_2B,
    "qwen3-vl-4b": QWEN3_VL_4B,
    "qwen3-vl-8b": QWEN3_VL_8B,
    "qwen3-vl-2b-shallow": SHALLOW,
}


def model(work: Path, name: str) -> TinyModel:
    """The model of that name in the folder; written if missing."""
    files = TinyModel(work / f"{name}.gguf", work / f"mmproj-{name}.gguf")
    if not (files.text.exists() and files.mmproj.exists()):
        print(f"writing {files.text}", file=sys.stderr)
        partial = write_qwen3_vl_of(SHAPES[name], work / f"partial-{name}", name, name, quick=True)
        partial.text.replace(files.text)
        partial.mmproj.replace(files.mmproj)
    return files


if __name__ == "__main__":
    for name in sys.argv[2:] or SHAPES:
        print(model(Path(sys.argv[1]), name).text)

"""From a trained checkpoint to the two GGUF files that ``sage`` loads, by llama.cpp's own converter.

The converter comes with the source archive of llama-cpp-python; the README of this folder tells how to get it.

    python -m training.export build/sft.pt --llama-cpp llama_cpp_python-0.3.36/vendor/llama.cpp --out src/sage_cli/assets/nano
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import torch
from transformers import PreTrainedTokenizerFast

from training.model import new_model
from training.tokens import VOCABULARY, Encoder

NAME: Final = "sage-nano"

# ChatML, for programs that read the template; `sage` lays prompts out itself.
_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PREPROCESSOR: Final = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "size": {"shortest_edge": 4096, "longest_edge": 96 * 96},
    "min_pixels": 4096,
    "max_pixels": 96 * 96,
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}

# The converter knows a pre-tokenizer by a hash of what it does to a sample text with a known vocabulary; ours is Qwen2's under a vocabulary
# of our own.
_CONVERT: Final = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/gguf-py"]
import conversion.base as base
for item in vars(base).values():
    if isinstance(item, type) and "get_vocab_base_pre" in vars(item):
        item.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""


def write_checkpoint(weights: Path, tokenizer: Path, folder: Path) -> None:
    """A checkpoint folder as ``transformers`` lays it out, in half precision."""
    encoder = Encoder(tokenizer)
    model = new_model(VOCABULARY, encoder.control)
    model.load_state_dict(torch.load(weights))
    model.half().save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR))


def convert(checkpoint: Path, llama_cpp: Path, out: Path, *, kind: str, mmproj: bool = False) -> None:
    """Run llama.cpp's converter.

    Args:
        kind: ``"f16"`` or ``"q8_0"``.

    Raises:
        subprocess.CalledProcessError: the conversion failed; its output went to stderr.
    """
    command = [sys.executable, "-c", _CONVERT.format(root=str(llama_cpp)), str(checkpoint), "--outfile", str(out), "--outtype", kind]
    subprocess.run([*command, *(["--mmproj"] if mmproj else [])], check=True, env={**os.environ, "NO_LOCAL_GGUF": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json; by default beside the weights")
    parser.add_argument("--llama-cpp", type=Path, required=True, help="llama.cpp's source tree")
    parser.add_argument("--text-type", default="q8_0", choices=("f16", "q8_0"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / NAME
        write_checkpoint(args.weights, args.tokenizer or args.weights.parent / "tokenizer.json", checkpoint)
        convert(checkpoint, args.llama_cpp, args.out / f"{NAME}.gguf", kind=args.text_type)
        convert(checkpoint, args.llama_cpp, args.out / f"mmproj-{NAME}.gguf", kind="f16", mmproj=True)
    for path in sorted(args.out.glob("*.gguf")):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Write the tiny test models into a folder and print their paths."""

import argparse
from pathlib import Path

from . import write_qwen2_5_vl, write_qwen3_vl

parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")
arguments = parser.parse_args()
for write in (write_qwen3_vl, write_qwen2_5_vl):
    model = write(arguments.folder, arguments.seed)
    print(model.text, model.mmproj, sep="\n")

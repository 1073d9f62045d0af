"""Bring the exact versions at the end of pyproject.toml up to date: what uv resolves today, for every platform and Python."""

import re
import subprocess
from pathlib import Path

HEAD = """
# ---- exact versions, written by .ci/pins.py ----------------------------------------------------------------------

[tool.uv]
constraint-dependencies = [
"""

path = Path(__file__).parents[1] / "pyproject.toml"
text = path.read_text(encoding="utf-8").partition(HEAD)[0]
path.write_text(text, encoding="utf-8")  # without the old pins, which would bind the new ones
command = ["uv", "pip", "compile", "--quiet", "--universal", "--group=dev", "--no-header", "--no-annotate"]
python = re.search(r'requires-python = ">=([\d.]+)"', text)
assert python
pins = subprocess.run([*command, f"--python-version={python[1]}", path], check=True, capture_output=True, text=True).stdout.split("\n")
path.write_text(text + HEAD + "".join(f'    "{pin}",\n' for pin in pins if pin) + "]\n", encoding="utf-8")

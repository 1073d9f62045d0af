"""Hold an untrained model to JSON schemas of every kind, and count answers that do not obey.

The model is a tiny random Qwen-VL (``tests/models``) at temperature 1, which does whatever a schema allows. It is asked as ``--schema``
asks; jsonschema checks what is printed. A figure other than 0 under "invalid" is a bug. "No answer" is a reply that was unusable twice,
such as a number beyond all floats.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from sage_cli.agent.asking import Asker, UnusableReplyError
from sage_cli.agent.events import Notice
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.agent.structured import AnswerSchema
from sage_cli.model.base import Message, Text
from sage_cli.model.llama import LlamaModel
from sage_cli.tools.base import Watched
from tests.models import write_qwen3_vl
from tests.schemas import OBEYED

PROMPT = [Message("user", (Text("Answer in JSON."),))]
KINDS = ("answers", "second attempts", "no answer", "invalid")


def outcomes(model: LlamaModel, schema: Mapping[str, Any], seeds: range, reply_tokens: int) -> Counter[str]:
    """How often what happened, by :data:`KINDS`."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        asker = Asker(model, Stopwatch(time.monotonic, None), "", reply_tokens, 1.0, 2 * seed)
        asked = Watched(asker.ask_in_shape(0, PROMPT, AnswerSchema(json.dumps(schema))))
        try:
            for event in asked:
                counts["second attempts"] += isinstance(event, Notice)
        except UnusableReplyError:
            counts["no answer"] += 1
        else:
            counts["answers"] += 1
            printed = json.dumps(asked.result, ensure_ascii=False)
            counts["invalid"] += not Draft202012Validator(schema).is_valid(json.loads(printed))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=25, metavar="N", help="per schema; 25 make 500 in all")
    parser.add_argument("--reply-tokens", type=int, default=400, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_qwen3_vl(Path(folder))
        with closing(LlamaModel(tiny.text, tiny.mmproj, context_size=2048, threads=1)) as model:
            found = {name: outcomes(model, schema, range(options.runs), options.reply_tokens) for name, schema in OBEYED.items()}
    print(f"{platform.processor() or platform.machine()}, {platform.system()}\n")
    print(f"| schema | runs | {' | '.join(KINDS)} |\n| --- | {' | '.join(['---:'] * (1 + len(KINDS)))} |")
    for name, counts in [*found.items(), ("all", sum(found.values(), Counter()))]:
        runs = options.runs * (len(found) if name == "all" else 1)
        print(f"| {name} | {runs} | {' | '.join(str(counts[kind]) for kind in KINDS)} |")
    raise SystemExit(any(counts["invalid"] for counts in found.values()))


if __name__ == "__main__":
    main()

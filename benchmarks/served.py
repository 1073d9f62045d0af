"""The same questions to the bundled model, local and served by a real llama-server: ``python -m benchmarks.served WORK``.

Compares the events of both runs and their answers, and checks that replies keep to their schema. Run after ``python -m benchmarks.peers``.
A server encodes each frame by itself where ``sage`` merges pairs, so answers may differ; the kinds of events may not, where they do not.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import jsonschema

from benchmarks import peers
from benchmarks.report import show
from sage_cli.assets import CLIPS, NANO
from sage_cli.model.address import RemoteAddress
from sage_cli.model.base import Message, Reply, Text
from sage_cli.model.remote import RemoteModel
from sage_cli.session import open_session

CONTEXT = 8192
QUESTIONS = (
    ("short.mp4", "Which shape appears last?"),
    ("short.mp4", "Which shape appears first?"),
    ("short.mp4", "How many shapes appear?"),
    ("speech.mp4", "What is said?"),
    ("long.mp4", "What appears between 07:43 and 07:50?"),
)
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "why": {"type": "string", "maxLength": 40},
    },
    "required": ["colour", "count", "why"],
    "additionalProperties": False,
}


def ask(model: str, clip: str, question: str) -> tuple[list[str], str]:
    """The kinds of the events of a run, without those that only show progress, and its answer."""
    shown = ("working", "text_delta", "tool_progress")
    given: dict[str, Any] = {
        "model": model,
        "prompts": str(NANO.prompts),
        "frames": NANO.frames,
        "frame_tokens": NANO.frame_tokens,
        "offline": True,
    }
    with open_session(speech_model=str(NANO.speech), cache_limit=0, ctx_size=CONTEXT, timeout=120, **given) as session:
        events = list(session.ask(CLIPS / clip, question))
    return [event.type for event in events if event.type not in shown], str(getattr(events[-1], "answer", None))


def valid_replies(url: str, count: int) -> int:
    """How many of so many replies, sampled at temperature 1, keep to a schema."""
    valid = 0
    address = RemoteAddress.parse(url)
    assert address
    with RemoteModel(address) as model:
        for seed in range(count):
            *_, reply = model.stream([Message("user", (Text("What colour?"),))], schema=SCHEMA, max_tokens=200, temperature=1.0, seed=seed)
            assert isinstance(reply, Reply)
            try:
                jsonschema.validate(json.loads(reply.text), SCHEMA)
                valid += 1
            except (ValueError, jsonschema.ValidationError) as error:
                print(f"seed {seed}: {reply.text!r}: {error}")
    return valid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--replies", type=int, default=20, help="replies under a schema")
    options = parser.parse_args()
    os.environ["SAGE_CONFIG"] = str(options.work / "none.toml")
    rows = []
    with peers.server(options.work, NANO.text, NANO.mmproj, threads=options.threads, context=CONTEXT) as running:
        url = f"{running.url}/v1#{NANO.text.stem}"
        for clip, question in QUESTIONS:
            here, answer = ask(NANO.name, clip, question)
            there, served = ask(url, clip, question)
            rows.append([f"{clip}: {question}", answer, served, "the same" if here == there else f"{' '.join(here)} / {' '.join(there)}"])
        valid = valid_replies(url, options.replies)
    show(
        "Served: the bundled model here and behind llama-server",
        options.threads,
        ["question", "answer here", "answer of the server", "events"],
        rows,
        f"{valid} of {options.replies} replies at temperature 1 keep to their schema.",
    )


if __name__ == "__main__":
    main()

"""The possible gain of speculative decoding: the cost of tokens decoded in one batch, ``python -m benchmarks.speculation WORK``.

Speculative decoding (prompt lookup, a draft model) decodes guessed tokens in one batch and keeps the right ones. A batch must yield more
tokens than it costs in single decodes. Tokens forced by a schema are decoded in one batch anyway, without guessing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.models import model
from benchmarks.report import median, show

SIZES = (1, 2, 4, 8, 16, 32)
HELD = 1024  # tokens in the KV cache before, as after a tool's result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--model", default="qwen3-vl-2b")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()

    from sage_cli.model.llama import LlamaModel

    files = model(options.work, options.model)
    with LlamaModel(files.text, files.mmproj, context_size=2048, threads=options.threads) as loaded:
        decoder, *_ = loaded._opened()
        word = loaded._vocabulary.tokenize(" word")
        sequence = decoder.cache.claim(word)
        for _ in range(HELD // 256):
            decoder.tokens(sequence, (word * 256)[:256], logits=False)
        spent: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(options.runs):
            for size in SIZES:
                began = time.process_time()
                decoder.tokens(sequence, (word * size)[:size], logits=True)
                decoder.logits()  # waits for it
                spent[size].append(time.process_time() - began)
                decoder.cache.truncate(sequence, HELD)
    one = median(spent[1])
    show(
        f"Tokens decoded together, behind {HELD} others: {options.model}",
        options.threads,
        ["tokens", "processor time", "single tokens that cost as much", "share of guesses that has to be right"],
        [
            [
                str(size),
                f"{1000 * median(spent[size]):.0f} ms",
                f"{median(spent[size]) / one:.1f}",
                f"{median(spent[size]) / one / size:.0%}",
            ]
            for size in SIZES
        ],
    )


if __name__ == "__main__":
    main()

"""A vocabulary of 512 tokens for the tiny models: byte-level BPE trained on a page of the text these models meet.

The 256 byte tokens make any text encodable; the merges give JSON punctuation, the protocol's keys and common English words
pieces of their own, so that token boundaries fall as irregularly as in a real vocabulary. Qwen's control tokens close it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise, product

CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MERGES = 512 - 256 - len(CONTROL_TOKENS)

# Qwen2's pre-tokenizer for ASCII text, which is all the training page holds.
_PIECES = re.compile(r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?![^\s])|\s+")

_PAGE = """\
system
You are a helpful assistant. You watch a video and answer the question about it. Use the tools when they are needed.
user
<0.5 seconds><12.5 seconds>What does the man say when she leaves the room? Why did the team lose the game?
Video Path: video.mp4 of duration 00:12:45.
assistant
<json>
{"video_context": "The video shows a person in the kitchen.", "query_intent": "when", "final_answer": null,
 "recommended_tools": {"needed": true, "why_no_tool": null, "tool_calls": [{"rationale": "The frames do not show it.",
 "name": "perform_reasoning", "arguments": {"query": "What is on the table?", "media_paths": ["f1/0045.jpg", "f1/0046.jpg"]}}]}}
</json>
{"answerable": {"verdict": false, "reasoning": "not yet"}, "final_answer": "the answer",
 "recommended_tools": {"needed": false, "why_no_tool": "done", "tool_calls": []}}
{"name": "verbal_transcript", "arguments": {"video_path": "video.mp4", "timestamp_start": "00:00:45", "timestamp_end": "00:01:05"}}
{"name": "identify_timestamps_visually", "event": "the red car stops", "timestamps": {"start": "00:03:10", "end": null}}
{"name": "extract_parts_from_timestamp", "extract_type": "frames"} {"name": "unified_web_search", "search_type": "web", "num_results": 3}
"""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Attributes:
    tokens: text of each token in GPT-2's printable byte alphabet, by id; the control tokens last.
    merges: pairs ``"left right"``, best first.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]

    def id(self, token: str) -> int:
        return self.tokens.index(token)


def byte_alphabet() -> list[str]:
    """GPT-2's printable character for each byte: the byte's own where that is visible, else the next unused one from U+0100."""
    visible = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    hidden = [byte for byte in range(256) if byte not in visible]
    characters = {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [characters[byte] for byte in range(256)]


@cache
def vocabulary(size: int = 512) -> Vocabulary:
    """Train the merges: again and again the most frequent pair (the alphabetically first of equals) becomes a token.

    Args:
        size: tokens in all. Beyond 512 there are words that no text is split into, but that a model may write.
    """
    alphabet = byte_alphabet()
    words = Counter(tuple(alphabet[byte] for byte in piece.encode()) for piece in _PIECES.findall(_PAGE))
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_merged(word, best): count for word, count in words.items()})
    learned = (*alphabet, *(left + right for left, right in merges))
    words_without_use = ("Ġ" + "".join(letters) for letters in product("abcdefghijklmnopqrstuvwxyz", repeat=6))
    tokens = (*learned, *islice(words_without_use, size - len(learned) - len(CONTROL_TOKENS)), *CONTROL_TOKENS)
    return Vocabulary(tokens, tuple(f"{left} {right}" for left, right in merges))


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)

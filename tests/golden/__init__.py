"""Prompts, and what Hugging Face's implementation makes of them on the tiny models.

:data:`CASES` defines the prompts, :func:`frames_of` draws their frames, :func:`expected` reads back what ``make_golden.py`` recorded:
token ids, M-RoPE positions, logits and greedy tokens. Nothing here needs torch.
"""

from .cases import CASES, SEED, Case, Clip, Expected, expected, frames_of

__all__ = ["CASES", "SEED", "Case", "Clip", "Expected", "expected", "frames_of"]

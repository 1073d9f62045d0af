"""Tiny test models; ``python -m tests.models FOLDER`` writes one of each family."""

from .tiny_vl import TinyModel, write_qwen2_5_vl, write_qwen3_vl, write_truncated

__all__ = ["TinyModel", "write_qwen2_5_vl", "write_qwen3_vl", "write_truncated"]

"""The same stages for Qwen3-VL at its real size: questions and trajectories from a teacher over one's own videos, SFT, and GRPO.

:mod:`.settings` (the paper's hyper-parameters), :mod:`.synthesize` and :mod:`.questions` (a teacher's questions, or one's own),
:mod:`.record` (trajectories, as the real agent makes them), :mod:`.speech` (what hears the videos), :mod:`.rows` (prompts and replies as
tensors for ``transformers``), :mod:`.updates` (steps of the optimizer over processes), :mod:`.sft`, :mod:`.grpo`. Rewards, advantages and
losses are those of :mod:`training.rewards` and :mod:`training.objective`.
"""

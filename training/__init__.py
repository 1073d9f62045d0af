"""How the embedded models were made: a synthetic world, a nano SAGE-MM and a nano whisper trained on it, and their export.

Read ``training/README.md`` first; the modules follow it in order: :mod:`world`, :mod:`speech`, :mod:`questions`, :mod:`trajectories`
(data), :mod:`model`, :mod:`vision`, :mod:`sft` (the vision-language model), :mod:`whisper` (speech), :mod:`export`, :mod:`parity`,
:mod:`evaluate`.
"""

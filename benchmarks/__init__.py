"""Every figure we publish is printed by a program in this folder: ``python -m benchmarks WORK`` runs them, ``--help`` lists them."""

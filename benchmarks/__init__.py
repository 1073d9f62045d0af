"""The programs in this folder print every published figure: ``python -m benchmarks WORK`` runs them, ``--help`` lists them."""

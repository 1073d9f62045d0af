"""The machine: its cores and memory, and what of a model fits them. Modules are imported one by one; most need little."""

"""The machine: cores, memory, and plans for models that fit them. Import its modules directly; most are light."""

"""Which models fit this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage_cli.hardware.plan import Machine, MemoryPlan, Needs
    from sage_cli.store.catalogue import Entry
    from sage_cli.store.install import Installed


def entry_fit(entry: Entry, machine: Machine) -> MemoryPlan:
    """The memory plan of a catalogue model on this machine, before its files are known."""
    from sage_cli.hardware.plan import plan_memory

    return plan_memory(_needs(entry.kind, entry.size, entry.kv), machine)


def installed_fit(model: Installed, machine: Machine) -> MemoryPlan:
    """The memory plan of an installed model on this machine.

    Raises:
        ModelError: a header is broken.
    """
    from sage_cli.hardware.plan import Needs, plan_memory
    from sage_cli.store.models import find_model

    needs = Needs.of(find_model(str(model.path))) if model.kind == "vision" else _needs(model.kind, model.size)
    return plan_memory(needs, machine)


def _needs(kind: str, size: int, kv: int = 0) -> Needs:
    """Of a model by the size of its files, as large ones have them. Whisper's weights are such that all of it, with the plan's overhead, is
    what it takes: no second model is loaded."""
    from sage_cli.hardware.plan import OVERHEAD, Needs, speech_memory

    return Needs(size if kind == "vision" else speech_memory(size) - OVERHEAD, 0, kv, layers=36, limit=1 << 18)


def recommended(machine: Machine) -> Entry:
    """The recommended first model: the best one that fits and answers in reasonable time."""
    from sage_cli.store.catalogue import catalogue

    entries = [entry for entry in catalogue().values() if entry.kind == "vision" and entry.repositories]
    fitting = [entry for entry in entries if (found := entry_fit(entry, machine)).fits and found.gpu_layers is None]
    quick = [entry for entry in fitting if machine.gpu or not entry.slow]
    return next(iter(quick or fitting), min(entries, key=lambda entry: entry.size))


def rooms(entry_kv: int, machine: Machine) -> list[int]:
    """Bytes available for a model's files: in the fastest memory, then in main memory."""
    from sage_cli.hardware.plan import LADDER, OVERHEAD

    _, context, kv_type = LADDER[1]  # all frames
    besides = _needs("vision", 0, entry_kv or 150_000).total(context, kv_type) + OVERHEAD
    return [max(0, memory - besides) for memory in (machine.gpu, machine.memory) if memory]

"""This machine, as commands that fit a model to it see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage_cli.store.catalogue import Entry
    from sage_cli.store.fit import Fit, Machine


def this_machine() -> Machine:
    """Memory, cores, and the largest GPU that this build of llama.cpp can use."""
    from sage_cli.model.devices import devices
    from sage_cli.store.fit import Machine, cores, free_memory

    found = devices()
    gpus = [device for device in found if device.kind == "gpu"]
    best = max(gpus, key=lambda device: device.free, default=None)
    name = next((device.description for device in found if device.kind == "cpu"), "CPU") if best is None else best.description
    return Machine(free_memory(), best.free if best else 0, cores(), name)


def entry_fit(entry: Entry, machine: Machine) -> Fit:
    """What a model of the catalogue comes to here, before its files are known."""
    from sage_cli.store.fit import OVERHEAD, Needs, fit

    # Whisper's buffers grow with the model, and there is no second model beside it.
    weights = entry.size if entry.kind == "vision" else entry.size * 3 // 2 + (300 << 20) - OVERHEAD
    return fit(Needs(weights, 0, entry.kv, 36, 1 << 18), machine)


def recommended(machine: Machine) -> Entry:
    """The best model for a first run: one that fits, and that answers in bearable time."""
    from sage_cli.store.catalogue import catalogue

    entries = [entry for entry in catalogue().values() if entry.kind == "vision" and entry.repositories]
    fitting = [entry for entry in entries if (found := entry_fit(entry, machine)).fits and found.gpu_layers is None]
    quick = [entry for entry in fitting if machine.gpu or not entry.slow]
    return next(iter(quick or fitting), min(entries, key=lambda entry: entry.size))


def rooms(entry_kv: int, machine: Machine) -> list[int]:
    """Bytes for a model's files where it would be fastest, and in main memory."""
    from sage_cli.store.fit import OVERHEAD

    kv = (entry_kv or 150_000) * 16384 * 34 // 64
    return [max(0, memory - OVERHEAD - kv) for memory in (machine.gpu, machine.memory) if memory]

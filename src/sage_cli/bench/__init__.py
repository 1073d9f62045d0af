"""Measure a model on a set of questions: items in, one record a question out, a report over the records."""

from typing import TYPE_CHECKING, Any

from sage_cli.bench.items import Dataset, Item, read_dataset

if TYPE_CHECKING:
    from sage_cli.bench.records import read_records
    from sage_cli.bench.report import Report, compare, summarize
    from sage_cli.bench.run import Plan, RunFolder, execute

__all__ = ["Dataset", "Item", "Plan", "Report", "RunFolder", "compare", "execute", "read_dataset", "read_records", "summarize"]


def __getattr__(name: str) -> Any:
    # Judges are used where no llama.cpp is (training's rollouts): what answers questions is loaded when it is asked for.
    if name in __all__:
        from sage_cli.bench import records, report, run

        for module in (records, report, run):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

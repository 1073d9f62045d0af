"""Measure a model on a question set: items in, one record per question out, and a report on the records."""

from typing import TYPE_CHECKING, Any

from sage_cli.bench.items import Dataset, Item, read_dataset

if TYPE_CHECKING:
    from sage_cli.bench.records import read_records
    from sage_cli.bench.report import Report, compare, summarize
    from sage_cli.bench.run import Plan, RunFolder, execute

__all__ = ["Dataset", "Item", "Plan", "Report", "RunFolder", "compare", "execute", "read_dataset", "read_records", "summarize"]


def __getattr__(name: str) -> Any:
    # Training's rollouts use judges without llama.cpp: modules that need it are imported on first use.
    if name in __all__:
        from sage_cli.bench import records, report, run

        for module in (records, report, run):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

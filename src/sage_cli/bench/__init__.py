"""Measure a model on a set of questions: items in, one record a question out, a report over the records."""

from sage_cli.bench.items import Dataset, Item, read_dataset
from sage_cli.bench.records import read_records
from sage_cli.bench.report import Report, compare, summarize
from sage_cli.bench.run import Plan, RunFolder, execute

__all__ = ["Dataset", "Item", "Plan", "Report", "RunFolder", "compare", "execute", "read_dataset", "read_records", "summarize"]

"""A run as a page to pass on: the question, the answer, each step, the frames that were looked at and the words that were heard."""

from __future__ import annotations

from sage_cli.report.page import FORMATS, report_format, write_report

__all__ = ["FORMATS", "report_format", "write_report"]

"""Reports on runs, as web pages to share: question, answer, steps, sampled frames and transcribed words."""

from __future__ import annotations

from sage_cli.report.page import FORMATS, report_format, write_report

__all__ = ["FORMATS", "report_format", "write_report"]

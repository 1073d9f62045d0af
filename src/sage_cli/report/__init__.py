"""Web pages to share: of runs with question, answer, steps, sampled frames and transcribed words, and of measurements."""

from __future__ import annotations

from sage_cli.report.page import report_format, write_report

__all__ = ["report_format", "write_report"]

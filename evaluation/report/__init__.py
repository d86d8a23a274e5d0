"""The report of an evaluation: one HTML file, Markdown for a pull request, every row as CSV."""

from evaluation.report.write import ReportFiles, write_report, write_single_report

__all__ = ["ReportFiles", "write_report", "write_single_report"]

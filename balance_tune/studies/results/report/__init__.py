"""The report of a study: one HTML file that opens offline, prints well, and draws every figure as inline SVG."""

from balance_tune.studies.results.report.html import write

__all__ = ["write"]

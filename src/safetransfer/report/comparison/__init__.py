"""Any number of runs side by side: found, grouped as seeds of one thing, measured, drawn."""

from safetransfer.report.comparison.page import write_comparison

__all__ = ["write_comparison"]

"""Writes the results table into README.md, between its markers, from the kept runs.

python docs/fill_readme.py
"""

from __future__ import annotations

from pathlib import Path

from safetransfer.report.markdown import markdown_table
from safetransfer.report.runs import read_transfer

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

readme = ROOT / "README.md"
before, rest = readme.read_text().split(BEGIN)
_, after = rest.split(END)
table = markdown_table(read_transfer(ROOT / "results" / "point"))
readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")

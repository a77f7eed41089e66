"""Writes the tables of results into README.md, between their markers, from the kept runs.

python docs/fill_readme.py
"""

from __future__ import annotations

from pathlib import Path

from safetransfer.report.markdown import markdown_table
from safetransfer.report.runs import read_transfer

ROOT = Path(__file__).resolve().parent.parent

readme = ROOT / "README.md"
text = readme.read_text()
for robot in ("point", "doggo"):
    begin, end = f"<!-- results/{robot}: begin -->", f"<!-- results/{robot}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    table = markdown_table(read_transfer(ROOT / "results" / robot))
    text = f"{before}{begin}\n{table}\n{end}{after}"
readme.write_text(text)

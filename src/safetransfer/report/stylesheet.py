"""The look of the report: light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --surface: #ffffff; --ink: #1b1f24; --muted: #5d6673; --grid: #e3e6ea;
  --line: #d6dae0; --tint: #eef4f9; --alarm: #b42318;
  --series-1: #0072b2; --series-2: #d55e00; --series-3: #00805f; --series-4: #b3508a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --surface: #171b21; --ink: #e7eaee; --muted: #9aa4b1; --grid: #2a3038;
    --line: #323a44; --tint: #1a2733; --alarm: #ff8a7a;
    --series-1: #56b4e9; --series-2: #ff9955; --series-3: #3fc79a; --series-4: #e28fc0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
header p, section > p { max-width: 76ch; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 .5em; }
h2 { font-size: 1.3rem; margin: 0 0 .6em; line-height: 1.3; }
h3 { font-size: 1.05rem; margin: 1.6em 0 .6em; }
section, .headline {
  background: var(--surface); border: 1px solid var(--line); border-radius: 10px;
  padding: 24px; margin-top: 22px;
}
.headline { border-left: 5px solid var(--series-1); }
.headline ul { list-style: none; margin: 0; padding: 0; }
.headline li { margin: 0 0 .5em; font-size: 1.15rem; max-width: 80ch; }
.headline li small { display: block; font-size: .9rem; }
.headline strong { color: var(--series-1); }
small, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: .88rem; max-width: 90ch; }
.missing { color: var(--muted); font-style: italic; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; vertical-align: top; }
th { font-weight: 600; }
td { border-top: 1px solid var(--grid); }
thead th { border-bottom: 1px solid var(--line); font-size: .88rem; vertical-align: bottom; }
tbody th[scope=row] { text-align: left; font-weight: 400; border-top: 1px solid var(--grid); }
tbody th[scope=rowgroup] { text-align: left; background: var(--tint); }
thead th[scope=colgroup] { text-align: center; }
thead th:first-child, .plain td, .plain th { text-align: left; }
td small, th small { display: block; font-weight: 400; }
td small { white-space: nowrap; }
td.total small { white-space: normal; }
td.over { color: var(--alarm); }
td.over small { color: inherit; }
td.paper { color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
figure { margin: 0; }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 18px; }
.films video, .films img { width: 100%; height: auto; border-radius: 8px; background: #000; }
details { border-top: 1px solid var(--grid); padding: 10px 0; }
details:first-of-type { margin-top: 12px; }
summary { cursor: pointer; font-weight: 600; }
pre, code { font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--page); border-radius: 6px; padding: 12px; margin: 8px 0; }
td code { overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: .88rem; margin-top: 28px; }
a { color: var(--series-1); }
@media (max-width: 640px) {
  main { padding: 20px 10px 40px; }
  section, .headline { padding: 16px 12px; }
  .results th, .results td { font-size: .78rem; }
  .results th, .results td { padding: 6px 3px; }
  .results td small { font-size: .6rem; line-height: 1.3; }
  .results th small { display: none; }
  .charts, .films { grid-template-columns: 1fr; }
}
@media print {
  :root {
    --page: #fff; --surface: #fff; --ink: #000; --muted: #444; --grid: #ddd; --line: #bbb;
    --tint: #f1f1f1; --alarm: #a00; --series-1: #0072b2; --series-2: #d55e00;
    --series-3: #00805f; --series-4: #b3508a;
  }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section, .headline { border-width: 1px 0 0; border-radius: 0; padding: 12px 0; }
  figure, tr, .films > * { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .charts { grid-template-columns: repeat(3, 1fr); }
  .scroll, pre { overflow: visible; white-space: pre-wrap; }
  details:not(.unprinted)::details-content { content-visibility: visible; }
}
"""

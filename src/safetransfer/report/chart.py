"""A small writer of line charts as SVG, for pages and for files.

A chart takes its colours from custom properties of the page around it (--ink, --grid, --series-1,
...), so it follows light and dark; outside of a page the fallbacks given here apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["linear", "log"]
Curve = NDArray[np.float64]

WIDTH, HEIGHT = 380, 290
_LEFT, _RIGHT, _BOTTOM = 46, 14, 40
_CHARACTER = 5.9  # mean width of a character of the 11 px labels

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = {
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#00805f",
    "series-4": "#b3508a",
    "ink": "#1b1f24",
    "muted": "#636c76",
    "grid": "#e3e6ea",
    "alarm": "#b42318",
}


@dataclass(frozen=True)
class Line:
    """One curve: x and y are (points,), NaN in y breaks it.

    `band` is a pair of (points,) filled between; `faint` curves, drawn thin behind, are what the
    curve was averaged from; `marks` puts a dot at each point, where few were measured.
    """

    label: str
    x: Curve
    y: Curve
    colour: str = "series-1"
    dashed: bool = False
    band: tuple[Curve, Curve] | None = None
    faint: Sequence[tuple[Curve, Curve]] = ()
    marks: bool = False


@dataclass(frozen=True)
class Chart:
    """A line chart. `switch` marks an x with a dotted line, `limit` a y with a dashed one.

    The "log" scale is log10(1 + y), which shows 0 as well as hundreds; for y >= 0.
    """

    title: str
    lines: Sequence[Line]
    x_label: str = "epoch"
    y_scale: Scale = "linear"
    switch: tuple[float, str] | None = None
    limit: tuple[float, str] | None = None
    zero: bool = False
    note: str = ""

    def svg(self) -> str:
        """The chart as an <svg> element, 380 x 290, that scales to the width it is given."""
        return _Drawing(self).svg()


def colour(name: str) -> str:
    """A colour of the palette by name, as a CSS value."""
    return f"var(--{name}, {_COLOURS[name]})"


# --- Axes ---------------------------------------------------------------------------------------


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover low to high."""
    if not high > low:
        half = max(0.5, 1e-3 * abs(low))  # of a large number, a half more is the same number
        low, high = low - half, high + half
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(high: float) -> list[float]:
    """0, 1, 10, 100, ... up to the first that covers `high`."""
    top = max(1, math.ceil(math.log10(max(high, 1.0)) - 1e-9))
    return [0.0, *(10.0**k for k in range(top + 1))]


def tick_label(value: float) -> str:
    """A short label: 0.05, 2.5, 900, 1,000, 25k, 1.2M."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:g}"


# --- Drawing ------------------------------------------------------------------------------------


class _Drawing:
    def __init__(self, chart: Chart):
        self.chart = chart
        self.legend, legend_rows = _legend(chart.lines)
        self.top = 30 + 16 * legend_rows
        x_low, x_high = _extent([x for line in chart.lines for x in (line.x,)])
        if chart.switch:
            x_high = max(x_high, chart.switch[0])
        self.x_range = (min(x_low, 0.0), x_high if x_high > x_low else x_low + 1.0)
        self.x_ticks = [t for t in linear_ticks(*self.x_range) if t <= self.x_range[1]]
        self.transform: Callable[[Curve], Curve] = lambda y: y
        y_low, y_high = _extent(self._heights())
        if chart.y_scale == "log":
            self.transform = lambda y: np.log10(1.0 + np.maximum(y, 0.0))
            self.y_ticks = log_ticks(y_high)
        else:
            self.y_ticks = linear_ticks(min(y_low, 0.0) if chart.zero else y_low, y_high)
        ends = self.transform(np.array([self.y_ticks[0], self.y_ticks[-1]]))
        self.y_range = (float(ends[0]), float(ends[1]))

    def _heights(self) -> list[Curve]:
        heights = [line.y for line in self.chart.lines]
        heights += [edge for line in self.chart.lines for edge in line.band or ()]
        heights += [y for line in self.chart.lines for _, y in line.faint]
        if self.chart.limit:
            heights.append(np.array([self.chart.limit[0]]))
        if self.chart.zero:
            heights.append(np.zeros(1))
        return heights

    def x(self, value: float | Curve) -> Curve:
        low, high = self.x_range
        share = (np.asarray(value, dtype=np.float64) - low) / (high - low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float | Curve) -> Curve:
        low, high = self.y_range
        share = (self.transform(np.asarray(value, dtype=np.float64)) - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - self.top)

    def svg(self) -> str:
        chart = self.chart
        name = escape(f"{chart.title}. {chart.note}".strip(" ."), quote=True)
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}" '
            'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" '
            'font-size="11">',
            _text(2, 14, chart.title, size=13, weight=600),
            *self.legend,
            *self._axes(),
        ]
        if not any(np.isfinite(line.y).any() for line in chart.lines):
            middle = (HEIGHT + self.top - _BOTTOM) / 2
            parts.append(_text(WIDTH / 2, middle, "not run yet", anchor="middle", ink="muted"))
        for line in chart.lines:
            parts += self._behind(line)
        parts += self._marks()
        for line in chart.lines:
            width = 1.6 if line.dashed else 2.2
            parts += self._path(line.x, line.y, line.colour, width, dashed=line.dashed)
            if line.marks:
                parts += self._dots(line)
        return "".join([*parts, "</svg>"])

    def _axes(self) -> list[str]:
        left, right, bottom = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
        parts = []
        for tick in self.y_ticks:
            y = float(self.y(tick))
            parts.append(_segment(left, y, right, y, "grid"))
            label = tick_label(tick)
            parts.append(_text(left - 6, y + 4, label, anchor="end", ink="muted"))
        for tick in self.x_ticks:
            x = float(self.x(tick))
            parts.append(_segment(x, bottom, x, bottom + 4, "muted"))
            parts.append(_text(x, bottom + 16, tick_label(tick), anchor="middle", ink="muted"))
        parts.append(_segment(left, bottom, right, bottom, "muted"))
        parts.append(
            _text((left + right) / 2, HEIGHT - 6, self.chart.x_label, anchor="middle", ink="muted")
        )
        return parts

    def _behind(self, line: Line) -> list[str]:
        parts: list[str] = []
        if line.band is not None:
            known = np.isfinite(line.band[0]) & np.isfinite(line.band[1])
            for run in _runs(known):
                if run.size > 1:
                    xs = self.x(np.concatenate([line.x[run], line.x[run][::-1]]))
                    ys = self.y(np.concatenate([line.band[0][run], line.band[1][run][::-1]]))
                    points = " ".join(_point(x, y) for x, y in zip(xs, ys, strict=True))
                    parts.append(
                        f'<polygon points="{points}" fill="{colour(line.colour)}" opacity="0.16"/>'
                    )
        for x, y in line.faint:
            parts += self._path(x, y, line.colour, 1.0, opacity=0.3)
        return parts

    def _path(
        self, x: Curve, y: Curve, ink: str, width: float, dashed: bool = False, opacity: float = 1.0
    ) -> list[str]:
        parts = []
        look = f'stroke="{colour(ink)}"' + (f' opacity="{opacity:g}"' if opacity < 1 else "")
        for run in _runs(np.isfinite(y)):
            xs, ys = self.x(x[run]), self.y(y[run])
            if run.size == 1:
                dot = f'cx="{xs[0]:.1f}" cy="{ys[0]:.1f}" r="{width:g}"'
                parts.append(f'<circle {dot} fill="{colour(ink)}"/>')
                continue
            steps = " L".join(_point(a, b) for a, b in zip(xs, ys, strict=True))
            dash = ' stroke-dasharray="5 4"' if dashed else ""
            parts.append(
                f'<path d="M{steps}" fill="none" {look} stroke-width="{width:g}"'
                f' stroke-linejoin="round"{dash}/>'
            )
        return parts

    def _dots(self, line: Line) -> list[str]:
        places = zip(self.x(line.x), self.y(line.y), strict=True)
        return [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour(line.colour)}"/>'
            for x, y in places
            if np.isfinite(y)
        ]

    def _marks(self) -> list[str]:
        parts = []
        if self.chart.limit:
            level, label = self.chart.limit
            y = float(self.y(level))
            parts.append(_segment(_LEFT, y, WIDTH - _RIGHT, y, "alarm", 'stroke-dasharray="4 3"'))
            parts.append(_text(WIDTH - _RIGHT, y - 4, label, anchor="end", ink="alarm", halo=True))
        if self.chart.switch:
            at, label = self.chart.switch
            x = float(self.x(at))
            dots = 'stroke-width="1.8" stroke-dasharray="1.5 3.5" stroke-linecap="round"'
            parts.append(_segment(x, self.top, x, HEIGHT - _BOTTOM, "muted", dots))
            before = x > WIDTH / 2
            parts.append(
                _text(
                    x + (-5 if before else 5),
                    self.top + 9,
                    label,
                    anchor="end" if before else "start",
                    ink="muted",
                    halo=True,
                )
            )
        return parts


def _legend(lines: Sequence[Line]) -> tuple[list[str], int]:
    """Swatches and labels under the title, and how many rows they take; none for a single curve."""
    if len(lines) < 2:
        return [], 0
    parts, x, row = [], 2.0, 0
    for line in lines:
        width = 26 + _CHARACTER * len(line.label) + 12
        if x + width > WIDTH and x > 2.0:
            x, row = 2.0, row + 1
        y = 30 + 16 * row
        dash = 'stroke-dasharray="5 4"' if line.dashed else ""
        stroke = "1.6" if line.dashed else "2.6"
        parts.append(_segment(x, y, x + 20, y, line.colour, f'stroke-width="{stroke}" {dash}'))
        parts.append(_text(x + 25, y + 4, line.label))
        x += width
    return parts, row + 1


def _text(
    x: float,
    y: float,
    label: str,
    anchor: str = "start",
    ink: str = "ink",
    size: int | None = None,
    weight: int | None = None,
    halo: bool = False,
) -> str:
    extra = f' font-size="{size}"' if size else ""
    extra += f' font-weight="{weight}"' if weight else ""
    if halo:  # keeps a label legible across curves
        extra += ' stroke="var(--surface, #fff)" stroke-width="3" paint-order="stroke"'
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    text = escape(label)
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour(ink)}"{end}{extra}>{text}</text>'


def _segment(x1: float, y1: float, x2: float, y2: float, ink: str, extra: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour(ink)}" {extra}/>'


def _point(x: float, y: float) -> str:
    return f"{x:.1f},{y:.1f}"


def _extent(curves: Sequence[Curve]) -> tuple[float, float]:
    values = np.concatenate([np.zeros(0), *curves])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _runs(known: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Indices of each unbroken run of True."""
    index = np.flatnonzero(known)
    return np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if index.size else []

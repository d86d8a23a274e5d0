"""The report's plots. The baseline's marks have the class ``a``, the candidate's ``b``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evaluation.compare.statistics import Estimate

Numbers = NDArray[np.float64]

_GRID = "grid"


@dataclass(frozen=True)
class Axis:
    """The range of a plot's values: ``low`` to ``high``, written at ``ticks`` (value, text)."""

    low: float
    high: float
    ticks: list[tuple[float, str]]

    def place(self, value: float, start: float, length: float) -> float:
        """The pixel of ``value``, never outside."""
        share = (value - self.low) / (self.high - self.low)
        return start + min(max(share, 0.0), 1.0) * length


def interval_plot(
    estimate: Estimate, limit: float, tone: str, title: str, size: tuple[int, int] = (136, 28)
) -> Markup:
    """An interval against zero on an axis from ``-limit`` to ``limit``; arrows where it goes on."""
    width, height = size
    axis, middle = Axis(-limit, limit, []), height / 2
    start, length = 8.0, width - 16.0
    shapes = [_line(start, middle, start + length, middle, _GRID)]
    shapes += [
        _line(x, middle - 4, x, middle + 4, _GRID)
        for x in (axis.place(side * limit, start, length) for side in (-1, -0.5, 0.5, 1))
    ]
    shapes.append(_line(width / 2, 2, width / 2, height - 2, "zero"))
    if estimate.low is not None and estimate.high is not None:
        low, high = (axis.place(end, start, length) for end in (estimate.low, estimate.high))
        shapes.append(_line(low, middle, high, middle, f"range {tone}"))
        shapes += _end(low, middle, -1, tone, beyond=estimate.low < -limit)
        shapes += _end(high, middle, 1, tone, beyond=estimate.high > limit)
    if estimate.value is not None and abs(estimate.value) <= limit:
        shapes.append(_dot(axis.place(estimate.value, start, length), middle, 4, f"dot {tone}"))
    return _picture(width, height, title, shapes, "interval")


def _end(x: float, y: float, side: int, tone: str, *, beyond: bool) -> list[Markup]:
    if beyond:
        tip = [(x - side * 2, y - 5), (x + side * 6, y), (x - side * 2, y + 5)]
        return [_path(tip, f"dot {tone}", "Z")]
    return [_line(x, y - 7, x, y + 7, f"range {tone}")]


def rate_plot(estimates: list[tuple[str, Estimate]], title: str) -> Markup:
    """A bar for each side, from 0 to 1, with its interval."""
    axis, start, length = Axis(0.0, 1.0, [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]), 10.0, 300.0
    bottom = 14.0 + 34.0 * len(estimates)
    shapes = _ticks(axis, start, length, 8.0, bottom)
    for index, (side, estimate) in enumerate(estimates):
        top, middle = 14.0 + 34.0 * index, 25.0 + 34.0 * index
        if estimate.value is not None:
            end = axis.place(estimate.value, start, length)
            shapes.append(_box(start, top, max(end - start, 1.5), 22, f"fill {side}"))
        if estimate.low is not None and estimate.high is not None:
            low, high = (
                axis.place(value, start, length) for value in (estimate.low, estimate.high)
            )
            shapes.append(_line(low, middle, high, middle, "whisker"))
            shapes += [_line(x, middle - 5, x, middle + 5, "whisker") for x in (low, high)]
    return _picture(320, int(bottom) + 20, title, shapes, "plot")


def histogram_plot(
    sides: list[tuple[str, Numbers]], edges: Numbers, axis: Axis, title: str
) -> Markup:
    """Shares of rows in each bin: one side's bars stand up from the line, the other's hang from it.

    ``sides`` are (class, values), one or two; values beyond the edges count in the outer bins.
    """
    half, start, length = 58.0, 10.0, 300.0
    base = 14.0 + half
    shares = [_shares(values, edges) for _, values in sides]
    tallest = max(float(np.max(share)) for share in shares) or 1.0
    bottom = base + half if len(sides) == 2 else base
    shapes = _ticks(axis, start, length, 14.0, bottom)
    for (side, values), share, direction in zip(sides, shares, _directions(sides), strict=True):
        shapes += _bars(
            side, share / tallest * half * direction, edges, axis, (start, length, base)
        )
        if values.size:
            x = axis.place(float(np.mean(values)), start, length)
            shapes.append(_line(x, base, x, base + half * direction, f"mean {side}"))
    shapes.append(_line(start, base, start + length, base, "zero"))
    shapes.append(
        _label(start + length, 10, f"highest bar {tallest * 100:.0f} % of rows", "end small")
    )
    return _picture(320, int(bottom) + 20, title, shapes, "plot")


def _directions(sides: list[tuple[str, Numbers]]) -> list[int]:
    return [1, -1] if [side for side, _ in sides] == ["a", "b"] else [-1] * len(sides)


def _bars(
    side: str, heights: Numbers, edges: Numbers, axis: Axis, frame: tuple[float, float, float]
) -> list[Markup]:
    start, length, base = frame
    bars = []
    for height, low, high in zip(heights, edges[:-1], edges[1:], strict=True):
        left, right = (axis.place(float(edge), start, length) for edge in (low, high))
        if height:
            top, tall = min(base, base + height), max(abs(height), 0.8)
            bars.append(_box(left + 0.7, top, right - left - 1.4, tall, f"fill {side}"))
    return bars


def _shares(values: Numbers, edges: Numbers) -> Numbers:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    return counts / max(values.size, 1)


def distribution_plot(sides: list[tuple[str, Numbers]], axis: Axis, title: str) -> Markup:
    """The share of rows at or below each value, a step line for each side; p50 and p95 marked."""
    start, length, top, tall = 40.0, 370.0, 12.0, 190.0
    shapes = _ticks(axis, start, length, top, top + tall)
    for share, text in ((0.0, "0 %"), (0.5, "p50"), (0.95, "p95"), (1.0, "")):
        y = top + (1 - share) * tall
        shapes.append(_line(start, y, start + length, y, _GRID))
        shapes.append(_label(start - 6, y + 4, text, "end"))
    for side, values in sides:
        steps = np.linspace(0.0, 1.0, 201)
        quantiles = np.quantile(values, steps, method="inverted_cdf")
        points = [
            (axis.place(float(value), start, length), top + (1 - share) * tall)
            for value, share in zip(quantiles, steps, strict=True)
        ]
        shapes.append(_path(points, f"curve {side}"))
        shapes += [_dot(*points[index], 4.5, f"dot {side}") for index in (100, 190)]
    return _picture(420, 234, title, shapes, "plot")


def _ticks(axis: Axis, start: float, length: float, top: float, bottom: float) -> list[Markup]:
    shapes = []
    for value, text in axis.ticks:
        x = axis.place(value, start, length)
        anchor = "start" if value == axis.low else "end" if value == axis.high else "middle"
        shapes.append(_line(x, top, x, bottom, _GRID))
        shapes.append(_label(x, bottom + 15, text, anchor))
    return shapes


_NICE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def _picture(width: int, height: int, title: str, shapes: list[Markup], style: str) -> Markup:
    """An inline picture that is read aloud as ``title``."""
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" class="{style}" role="img">'
        "<title>{title}</title>{shapes}</svg>"
    ).format(w=width, h=height, style=style, title=title, shapes=Markup("").join(shapes))


def _shape(tag: str, style: str, **places: float) -> Markup:
    where = Markup("").join(Markup(' {}="{}"').format(k, _pixel(v)) for k, v in places.items())
    return Markup('<{}{} class="{}"/>').format(tag, where, style)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return _shape("line", style, x1=x1, y1=y1, x2=x2, y2=y2)


def _box(x: float, y: float, width: float, height: float, style: str) -> Markup:
    return _shape("rect", style, x=x, y=y, width=width, height=height)


def _dot(x: float, y: float, radius: float, style: str) -> Markup:
    return _shape("circle", style, cx=x, cy=y, r=radius)


def _path(points: list[tuple[float, float]], style: str, end: str = "") -> Markup:
    """A line through ``points``; where ``end`` is Z, an area."""
    steps = "L".join(f"{_pixel(x)} {_pixel(y)}" for x, y in points)
    return Markup('<path d="M{}{}" class="{}"/>').format(steps, end, style)


def _label(x: float, y: float, text: str, style: str) -> Markup:
    shape = Markup('<text x="{}" y="{}" class="{}">{}</text>')
    return shape.format(_pixel(x), _pixel(y), style, text)


def nice_above(value: float) -> float:
    """The smallest round number that is not below ``value``; 1 for what is not above zero."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _NICE if step * power >= value * (1 - 1e-9))


def _pixel(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

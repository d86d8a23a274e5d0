"""Inline SVG: shapes with classes, so that the page's style sheet colours them."""

from __future__ import annotations

import math

from markupsafe import Markup

_NICE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def picture(width: int, height: int, title: str, shapes: list[Markup], style: str = "") -> Markup:
    """An inline picture that is read aloud as ``title``."""
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" class="{style}" role="img">'
        "<title>{title}</title>{shapes}</svg>"
    ).format(w=width, h=height, style=style, title=title, shapes=Markup("").join(shapes))


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        _pixel(x1), _pixel(y1), _pixel(x2), _pixel(y2), style
    )


def box(x: float, y: float, width: float, height: float, style: str) -> Markup:
    """A filled rectangle."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>').format(
        _pixel(x), _pixel(y), _pixel(width), _pixel(height), style
    )


def dot(x: float, y: float, radius: float, style: str) -> Markup:
    """A filled circle."""
    return Markup('<circle cx="{}" cy="{}" r="{}" class="{}"/>').format(
        _pixel(x), _pixel(y), _pixel(radius), style
    )


def path(points: list[tuple[float, float]], style: str, *, closed: bool = False) -> Markup:
    """A line through ``points``; closed, it is an area."""
    steps = "L".join(f"{_pixel(x)} {_pixel(y)}" for x, y in points)
    return Markup('<path d="M{}{}" class="{}"/>').format(steps, "Z" if closed else "", style)


def label(x: float, y: float, text: str, style: str = "") -> Markup:
    """Text at a point; ``style`` says how it is anchored."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(
        _pixel(x), _pixel(y), style, text
    )


def nice_above(value: float) -> float:
    """The smallest round number that is not below ``value``; 1 for what is not above zero."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _NICE if step * power >= value * (1 - 1e-9))


def _pixel(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

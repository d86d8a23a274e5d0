"""The picture of a run: training and held-out loss over the steps, as SVG that browsers show."""

from __future__ import annotations

import math
from pathlib import Path

from setup.finetune.run import history

_WIDTH, _HEIGHT, _LEFT, _TOP = 1060, 560, 90, 40  # of the field, and where it begins
_TRAINING, _HELD_OUT, _INK = "#486581", "#c2410c", "#374151"
_PARTS = 4  # of each axis, with a line or a number between them


def draw_curve(file: Path, target: Path) -> None:
    """Draw the losses of ``file``, a ``history.jsonl``; the lowest held-out loss is marked.

    Both axes begin at zero, so that two pictures beside each other can be compared.

    Raises:
        FixableError: The history cannot be read.
    """
    entries = history.read_history(file)
    training, held_out = (
        [point for point in history.curve(entries, name) if math.isfinite(point.value)]
        for name in (history.LOSS, history.HELD_OUT_LOSS)
    )
    last = max([1, *(point.step for point in training + held_out)])
    top = 1.08 * max([1e-9, *(point.value for point in training + held_out)])

    def place(point: history.Point) -> tuple[float, float]:
        x, y = point.step / last, 1 - point.value / top
        return round(_LEFT + _WIDTH * x, 1), round(_TOP + _HEIGHT * y, 1)

    drawn = [_text(_LEFT, 24, f"loss in nats per assistant token, by step (1 to {last:,})", _INK)]
    for part in range(_PARTS + 1):
        y, x = _TOP + _HEIGHT * (1 - part / _PARTS), _LEFT + _WIDTH * part / _PARTS
        drawn.append(f'<path d="M{_LEFT},{y}h{_WIDTH}" stroke="#e5e7eb"/>')
        drawn.append(_text(20, y + 6, f"{top * part / _PARTS:.2f}", _INK))
        drawn.append(_text(x - 20, _TOP + _HEIGHT + 28, f"{round(last * part / _PARTS):,}", _INK))
    for points, colour, width in ((training, _TRAINING, 1.5), (held_out, _HELD_OUT, 3)):
        line = " ".join("{},{}".format(*place(point)) for point in points)
        drawn.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )
    for x, y in map(place, held_out):
        drawn.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{_HELD_OUT}"/>')
    drawn.append(_text(_LEFT + 640, 24, "training", _TRAINING))
    best = min(held_out, key=lambda point: point.value, default=None)
    told = f"held out, best {best.value:.3f} at step {best.step:,}" if best else "held out: none"
    drawn.append(_text(_LEFT + 740, 24, told, _HELD_OUT))
    if best:
        x, y = place(best)
        drawn.append(
            f'<circle cx="{x}" cy="{y}" r="11" fill="none" stroke="{_HELD_OUT}" stroke-width="2"/>'
        )
    body = "\n".join(drawn)
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 675">\n'
        f'<rect width="1200" height="675" fill="white"/>\n{body}\n</svg>\n',
        encoding="utf-8",
        newline="\n",
    )


def _text(x: float, y: float, text: str, colour: str) -> str:
    style = f'fill="{colour}" font-family="sans-serif" font-size="18"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{text}</text>'

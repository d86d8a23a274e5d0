"""The picture of a run: training and held-out loss over the steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from setup.finetune.run.history import HELD_OUT_LOSS, LOSS, Point, curve, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAIN, _SMOOTH, _HELD_OUT = "#b6c2cf", "#486581", "#c2410c"
_INK, _GRID = "#374151", "#e5e7eb"
_MANY = 20  # points, beyond which the training loss is noise without a smoothed line on top


def draw_curve(history: Path, target: Path) -> None:
    """Draw the losses of ``history`` (a ``history.jsonl``) as a PNG of 1200 x 675 pixels.

    The lowest held-out loss is marked: the step whose weights a run keeps. Uses no global state of
    matplotlib, so it is safe in any thread and beside other figures.

    Raises:
        FixableError: The history cannot be read.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow import

    entries = read_history(history)
    training, held_out = _finite(curve(entries, LOSS)), _finite(curve(entries, HELD_OUT_LOSS))
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_training(axes, training)
    _draw_held_out(axes, held_out)
    _dress(axes, max((point.step for point in training + held_out), default=0))
    figure.savefig(target, format="png")


def _finite(points: list[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.value)]


def _draw_training(axes: Axes, points: list[Point]) -> None:
    if not points:
        return
    steps, values = [point.step for point in points], [point.value for point in points]
    if len(points) <= _MANY:
        axes.plot(steps, values, color=_SMOOTH, marker=".", markersize=5, label="training")
        return
    axes.plot(steps, values, color=_TRAIN, linewidth=0.8)
    axes.plot(steps, _smooth(values), color=_SMOOTH, linewidth=1.8, label="training, smoothed")


def _smooth(values: list[float]) -> list[float]:
    """The mean of each value and its neighbours, fewer of them near both ends."""
    reach = max(2, len(values) // 30)
    spans = [min(reach, i, len(values) - 1 - i) for i in range(len(values))]
    windows = [values[i - span : i + span + 1] for i, span in enumerate(spans)]
    return [sum(window) / len(window) for window in windows]


def _draw_held_out(axes: Axes, points: list[Point]) -> None:
    if not points:
        return
    steps, values = [point.step for point in points], [point.value for point in points]
    axes.plot(
        steps, values, color=_HELD_OUT, marker="o", markersize=5, linewidth=2, label="held out"
    )
    best = min(points, key=lambda point: point.value)
    axes.plot(best.step, best.value, "o", color=_HELD_OUT, markersize=12, fillstyle="none")
    axes.annotate(
        f"best: {best.value:.3f} at step {best.step:,}",
        (best.step, best.value),
        # Towards the middle, above the mark: below it the axis is near.
        xytext=(-8 if best.step > max(steps) / 2 else 8, 18),
        textcoords="offset points",
        ha="right" if best.step > max(steps) / 2 else "left",
        color=_HELD_OUT,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        zorder=5,
    )


def _dress(axes: Axes, last_step: int) -> None:
    """Axes from zero, so that two pictures beside each other can be compared."""
    axes.set_xlabel("optimizer step", color=_INK)
    axes.set_ylabel("loss (nats per assistant token)", color=_INK)
    axes.set_xlim(-0.02 * max(last_step, 1), 1.02 * max(last_step, 1))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK)
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=_INK)

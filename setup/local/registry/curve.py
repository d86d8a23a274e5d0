"""The picture of a run: training and held-out loss over the steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from setup.finetune.run import history

_TRAIN, _SMOOTH, _HELD_OUT = "#b6c2cf", "#486581", "#c2410c"
_INK, _GRID = "#374151", "#e5e7eb"
_MANY = 20  # points, beyond which the training loss is noise without a smoothed line on top


def draw_curve(path: Path, target: Path) -> None:
    """Draw the losses of a ``history.jsonl`` as a PNG of 1200 x 675 pixels.

    The lowest held-out loss is marked: the step whose weights a run keeps. Axes begin at zero, so
    that two pictures beside each other can be compared. Uses no global state of matplotlib, so it
    is safe in any thread. FixableError where the history cannot be read.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow import

    entries = history.read_history(path)
    training, held_out = (
        [(p.step, p.value) for p in history.curve(entries, name) if math.isfinite(p.value)]
        for name in (history.LOSS, history.HELD_OUT_LOSS)
    )
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    many = len(training) > _MANY
    if many:
        axes.plot(*zip(*training, strict=True), color=_TRAIN, linewidth=0.8)
    if training:
        steps, values = zip(*training, strict=True)
        style: dict[str, Any] = {"linewidth": 1.8} if many else {"marker": ".", "markersize": 5}
        label = "training, smoothed" if many else "training"
        axes.plot(steps, _smooth(values) if many else values, color=_SMOOTH, label=label, **style)
    if held_out:
        marks: dict[str, Any] = {"marker": "o", "markersize": 5, "linewidth": 2}
        axes.plot(*zip(*held_out, strict=True), color=_HELD_OUT, label="held out", **marks)
        step, loss = best = min(held_out, key=lambda point: point[1])
        axes.plot(*best, "o", color=_HELD_OUT, markersize=12, fillstyle="none")
        late = step > held_out[-1][0] / 2
        place: dict[str, Any] = {
            "xytext": (-8 if late else 8, 18),
            "ha": "right" if late else "left",
        }
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        place |= {"textcoords": "offset points", "color": _HELD_OUT, "bbox": box, "zorder": 5}
        axes.annotate(f"best: {loss:.3f} at step {step:,}", best, **place)
    last_step = max((step for step, _ in training + held_out), default=0) or 1
    axes.set(xlabel="optimizer step", ylabel="loss (nats per assistant token)")
    axes.set(xlim=(-0.02 * last_step, 1.02 * last_step), ylim=(0, axes.get_ylim()[1] * 1.08))
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK)
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    if training or held_out:
        axes.legend(frameon=False, labelcolor=_INK)
    figure.savefig(target, format="png")


def _smooth(values: tuple[float, ...]) -> list[float]:
    """The mean of each value and its neighbours, fewer of them near both ends."""
    reach = max(2, len(values) // 30)
    spans = [min(reach, i, len(values) - 1 - i) for i in range(len(values))]
    windows = [values[i - span : i + span + 1] for i, span in enumerate(spans)]
    return [sum(window) / len(window) for window in windows]

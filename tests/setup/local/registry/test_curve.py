"""The picture of a run, and the history it is drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from setup.common.errors import FixableError
from setup.finetune.run.history import curve, read_history
from setup.local.registry.curve import draw_curve
from tests.setup.local.registry.runs import make_history

HELD_OUT = "#c2410c"
_SVG = "{http://www.w3.org/2000/svg}"


def _write(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "history.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def _marks(picture: Path, colour: str) -> int:
    """How many points of a curve are marked; every number of the picture is one, and inside it."""
    image = ElementTree.parse(picture).getroot()  # noqa: S314 - our own picture
    assert image.get("viewBox") == "0 0 1200 675"
    for line in image.iter(f"{_SVG}polyline"):
        places = [pair.split(",") for pair in str(line.get("points")).split()]
        assert all(0 <= float(x) <= 1200 and 0 <= float(y) <= 675 for x, y in places)
    return sum(circle.get("fill") == colour for circle in image.iter(f"{_SVG}circle"))


@pytest.mark.parametrize("steps", [1, 120, 3000])
def test_picture_shows_the_held_out_loss(tmp_path: Path, steps: int) -> None:
    draw_curve(_write(tmp_path, *make_history(steps, 2.5, 0.5)), tmp_path / "loss.svg")
    assert _marks(tmp_path / "loss.svg", HELD_OUT) > 0


def test_picture_of_a_single_point(tmp_path: Path) -> None:
    draw_curve(_write(tmp_path, make_history(1, 2.5, 0.5)[0]), tmp_path / "loss.svg")
    assert _marks(tmp_path / "loss.svg", HELD_OUT) > 0


def test_picture_of_a_run_that_diverged_in_between(tmp_path: Path) -> None:
    entries = make_history(30, 2.5, 0.5)
    entries[5]["loss"] = float("nan")
    draw_curve(_write(tmp_path, *entries), tmp_path / "loss.svg")
    assert _marks(tmp_path / "loss.svg", HELD_OUT) > 0


def test_steps_trained_again_after_an_interruption_count_once(tmp_path: Path) -> None:
    first, again = make_history(30, 2.5, 0.5), make_history(40, 2.5, 0.7)[25:]
    entries = read_history(_write(tmp_path, *first, *again))
    loss = curve(entries, "loss")
    assert [point.step for point in loss] == list(range(1, 41))
    assert loss[29].value == next(entry["loss"] for entry in again if entry["step"] == 30)
    assert {point.value for point in curve(entries, "tokens_per_second")} == {150.0}


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("{\n", ":1 is not an entry")])
def test_history_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.jsonl").write_text(text)
    with pytest.raises(FixableError, match=message):
        draw_curve(tmp_path / "history.jsonl", tmp_path / "loss.svg")

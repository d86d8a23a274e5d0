"""The picture of a run, and the history it is drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from setup.common.errors import FixableError
from setup.finetune.run.history import curve, read_history
from setup.local.registry.curve import draw_curve
from tests.registry.runs import make_history

HELD_OUT = (0xC2, 0x41, 0x0C)


def _write(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "history.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def _pixels(picture: Path, colour: tuple[int, int, int]) -> int:
    image = Image.open(picture).convert("RGB")
    assert image.size == (1200, 675)
    return int((np.asarray(image) == colour).all(axis=2).sum())


@pytest.mark.parametrize("steps", [1, 120, 3000])
def test_picture_shows_the_held_out_loss(tmp_path: Path, steps: int) -> None:
    draw_curve(_write(tmp_path, *make_history(steps, 2.5, 0.5)), tmp_path / "loss.png")
    assert _pixels(tmp_path / "loss.png", HELD_OUT) > 100


def test_picture_of_a_single_point(tmp_path: Path) -> None:
    draw_curve(_write(tmp_path, make_history(1, 2.5, 0.5)[0]), tmp_path / "loss.png")
    assert _pixels(tmp_path / "loss.png", HELD_OUT) > 100


def test_picture_of_a_run_that_diverged_in_between(tmp_path: Path) -> None:
    entries = make_history(30, 2.5, 0.5)
    entries[5]["loss"] = float("nan")
    draw_curve(_write(tmp_path, *entries), tmp_path / "loss.png")
    assert _pixels(tmp_path / "loss.png", HELD_OUT) > 100


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
        draw_curve(tmp_path / "history.jsonl", tmp_path / "loss.png")

"""The forecast of a run that is not begun: for ``--dry-run``, and in a moment for ``doctor``."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from setup.common.errors import FixableError
from setup.data.plan import SAMPLE_DIR, data_plan
from setup.finetune.forecast.forecast import Forecast
from setup.finetune.forecast.shape import shape_of
from setup.recipe.local import Training
from setup.weights.base import Base
from setup.weights.fetch import model_path, model_sha256

_SAMPLE = SAMPLE_DIR / "train.jsonl"


@dataclass(frozen=True)
class Preview:
    """A forecast, the rows it is for in words, and what to do where memory lacks."""

    forecast: Forecast
    rows: str
    lack: str

    def line(self) -> str:
        """For people."""
        return f"predicted: {self.forecast.line()}, on {self.rows}"


def quick_preview(training: Training) -> Preview:
    """A forecast by arithmetic: nothing is loaded, one product of matrices is timed.

    Raises:
        FixableError: No torch, no usable rows, or a model whose shape is not known yet.
    """
    shape = shape_of(training.model)
    if shape is None:
        file = training.model.file or training.model.source
        raise FixableError(
            f"{file} is not here yet, or its header does not tell its shape",
            training.command("finetune"),
        )
    try:
        import torch  # noqa: F401
    except ImportError:
        raise FixableError("torch is missing", "python -m setup.install_torch") from None
    from setup.finetune.compute.precision import product_flop
    from setup.finetune.forecast.duration import flop_speeds, seconds
    from setup.finetune.forecast.outline import GUESSED, Outline
    from setup.finetune.forecast.prediction import available

    train, rows = _rows(training)
    outline = Outline.of(train, training.finetune, shape)
    flop = product_flop(outline.dtype)
    size = outline.machine.number_bytes
    speeds = flop_speeds(outline.shape, outline.plan.settings, outline.work, flop, size)
    basis = f"a product timed at {flop / 1e9:,.0f} GFLOP/s; {GUESSED}"
    forecast = Forecast(seconds(outline.work, speeds), outline.memory(), basis)
    return Preview(forecast, rows, outline.advice(available()))


def timed_preview(training: Training) -> Preview:
    """A forecast by two timed steps where the weights are here and fit, else the quick one.

    Nothing is kept of what is loaded for it. Raises FixableError as :func:`quick_preview`.
    """
    quick = quick_preview(training)
    path = model_path(training.model)
    base = training.finetune.base
    if quick.lack or not path.is_file() or (base and not Path(base).expanduser().is_dir()):
        return quick
    began, train = time.monotonic(), _rows(training)[0]
    from setup.finetune.compute import processes
    from setup.finetune.compute.precision import enough_memory

    processes.prepare()
    from setup.finetune.run.loaded import Loaded

    named = Base(path, model_sha256(path), base, training.model.source)
    with tempfile.TemporaryDirectory() as folder, enough_memory():
        loaded = Loaded(training, named, train, Path(folder), began, writes=False)
    return Preview(loaded.forecast or quick.forecast, quick.rows, "")


def preview_lines(training: Training) -> list[str]:
    """Return the forecast as lines of a plan; why there is none, where there is none."""
    try:
        preview = timed_preview(training)
    except FixableError as error:
        return [f"time and memory are not predicted: {error.named(training.options)}"]
    return [preview.line(), *([f"memory: {preview.lack}"] if preview.lack else [])]


def _rows(training: Training) -> tuple[Path, str]:
    """Return the train split, else the sample's in its place, and both in words."""
    train = data_plan(training).paths.train
    if train.is_file():
        return train, str(train)
    return _SAMPLE, "the rows of the sample, as none are prepared yet"

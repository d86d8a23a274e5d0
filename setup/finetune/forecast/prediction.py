"""The forecast that a run makes of itself: of memory before it loads, of time once it has."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
import torch

from setup.common.console import progress_bar, say
from setup.finetune.compute.collate import attention_window
from setup.finetune.compute.schedule import Plan
from setup.finetune.examples.dataset import Split
from setup.finetune.forecast.duration import seconds
from setup.finetune.forecast.forecast import Forecast
from setup.finetune.forecast.memory import Machine, peak_bytes
from setup.finetune.forecast.outline import Outline
from setup.finetune.forecast.shape import shape_of
from setup.finetune.forecast.trial import time_steps
from setup.finetune.forecast.work import Parts, measure_work
from setup.recipe.local import Model, Training


def warn_of_memory(recipe: Training, split: Split, dtype: torch.dtype) -> None:
    """Say before anything is loaded that a run on ``split`` will not fit, and what would."""
    shape = shape_of(recipe.model)
    if shape is None:
        return
    machine = Machine(dtype.itemsize, torch.cuda.is_available())
    if lack := Outline(split, recipe.finetune, shape, machine).advice(available()):
        say(f"fine-tuning: memory may run out: {lack}")


def available() -> int:
    """The bytes that this process can have: of its GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def forecast_steps(
    served: Model, model: Any, parts: Parts, plan: Plan, began: float
) -> Forecast | None:
    """Time two steps of ``model`` for what the whole run will take.

    ``began`` is the moment of the monotonic clock that the run counts from. None where the shape
    of the ``served`` model cannot be told.
    """
    shape, settings = shape_of(served), plan.settings
    if shape is None:
        return None
    load = time.monotonic() - began
    number_bytes = next(model.parameters()).element_size()
    work = measure_work(parts, plan, shape, number_bytes, attention_window(model))
    batches = [[parts.train[row] for row in batch] for batch in plan.batches]
    with progress_bar("Timing two steps"):
        speeds = time_steps(model, batches, settings, load)
    memory = peak_bytes(shape, settings, work, Machine(number_bytes, torch.cuda.is_available()))
    timing = time.monotonic() - began - load
    where = " on the CPU" if torch.backends.mps.is_available() else ""
    return Forecast(timing + seconds(work, speeds), memory, f"two timed steps{where}")

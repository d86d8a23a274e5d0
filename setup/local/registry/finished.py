"""A finished fine-tuning run, read from its folder and checked before anything is registered."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from setup.common.errors import FixableError
from setup.finetune.run.history import Entry, read_history
from setup.weights.adapter import CONFIG, WEIGHTS

RESULT = "result.json"
RECIPE = "recipe.yaml"
HISTORY = "history.jsonl"
CURVE = "loss.svg"
ADAPTER = "adapter"
TOKENIZER = "tokenizer"
_AGAIN = "python -m setup finetune --recipe NAME"
_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class DataUsed(_Part):
    """The rows a run saw and the rows it was measured on; hashes of their content.

    ``source`` is what the recipe called them; runs of before do not say it.
    """

    train_sha256: str = Field(pattern=_SHA256)
    held_out_sha256: str = Field(pattern=_SHA256)
    train_rows: int
    held_out_rows: int
    source: str = ""


class Base(_Part):
    """The model a run started from."""

    source: str
    sha256: str = Field(pattern=_SHA256)


class Result(_Part):
    """``result.json``: losses in nats per token, ``seconds`` of training, memory in bytes."""

    fingerprint: str = Field(pattern=_SHA256)
    held_out_loss_before: float
    held_out_loss_after: float
    general_loss_before: float
    general_loss_after: float
    steps: int
    best_step: int
    epochs: float
    tokens: int
    seconds: float
    tokens_per_second: float
    peak_memory: int
    precision: str
    data: DataUsed
    base: Base
    versions: dict[str, str]


@dataclass(frozen=True)
class FinishedRun:
    """The finished run that a version is made of; ``ended`` is a Unix time in seconds."""

    folder: Path
    result: Result
    recipe: dict[str, Any]
    history: list[Entry]
    ended: float

    @property
    def started(self) -> float:
        """Unix time at which training began, interruptions left out."""
        return self.ended - self.result.seconds


def read_finished(folder: Path) -> FinishedRun:
    """The run in ``folder``, every file of it checked.

    Raises:
        FixableError: It is not finished, its held-out loss is no number, or a file is missing or
            damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        raise FixableError(f"no finished fine-tuning run in {folder}: no {RESULT}", _AGAIN)
    try:
        result = Result.model_validate(json.loads(path.read_text(encoding="utf-8")))
        ended = path.stat().st_mtime
    except (OSError, ValueError) as error:
        raise FixableError(f"{path} is damaged: {_reason(error)}", _discard(folder)) from None
    _check_losses(folder, result)
    _check_adapter(folder)
    _check_tokenizer(folder)
    recipe = _read_recipe(folder)
    return FinishedRun(folder, result, recipe, read_history(folder / HISTORY), ended)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _discard(folder: Path) -> str:
    return f"delete {folder} and run `{_AGAIN}`"


def _check_losses(folder: Path, result: Result) -> None:
    for name in ("held_out_loss_before", "held_out_loss_after"):
        value = getattr(result, name)
        if not math.isfinite(value):
            what = f"{name} of the run in {folder} is {value}: the training diverged"
            raise FixableError(what, f"{_AGAIN} --set finetune.learning_rate=LOWER")


def _check_adapter(folder: Path) -> None:
    from safetensors import SafetensorError  # noqa: PLC0415 - brings numpy, half a second

    from setup.weights.adapter import read_adapter  # noqa: PLC0415

    config, weights = folder / ADAPTER / CONFIG, folder / ADAPTER / WEIGHTS
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        missing = {"r", "lora_alpha", "target_modules"} - set(settings)
        problem = f"no {', '.join(sorted(missing))} in {config.name}" if missing else ""
        problem = problem or _weights_problem(weights)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        problem = str(error)
    if problem:
        raise FixableError(f"adapter {folder / ADAPTER} is damaged: {problem}", _discard(folder))
    read_adapter(folder / ADAPTER)  # what cannot be served is no version either


def _weights_problem(path: Path) -> str:
    import numpy as np  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        broken = [name for name in names if not np.isfinite(file.get_tensor(name)).all()]
    if not any(".lora_A." in name for name in names):
        return f"no LoRA matrices in {path.name}"
    return f"{broken[0]} holds values that are not numbers" if broken else ""


def _check_tokenizer(folder: Path) -> None:
    if not (folder / TOKENIZER / "tokenizer_config.json").is_file():
        what = f"no tokenizer in {folder / TOKENIZER}"
        raise FixableError(what, _discard(folder))


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise FixableError(f"{path} is damaged: {error}", _discard(folder)) from None
    if not isinstance(content, dict):
        raise FixableError(f"{path} holds no recipe", _discard(folder))
    return content

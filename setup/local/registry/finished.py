"""A finished fine-tuning run, read from its folder and checked before anything is registered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from setup.common.errors import FixableError
from setup.finetune.run.history import Entry, read_history
from setup.weights.adapter import read_adapter

RESULT, RECIPE, HISTORY, CURVE = "result.json", "recipe.yaml", "history.jsonl", "loss.svg"
ADAPTER, TOKENIZER = "adapter", "tokenizer"
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


class Origin(_Part):
    """Where an adapter comes from that was not trained here.

    ``name`` is its folder's, ``sha256`` of its weights' file; ``tool``, the program that made it,
    and ``trained_on``, its base, are empty where it does not say.
    """

    name: str
    tool: str
    sha256: str = Field(pattern=_SHA256)
    trained_on: str

    def __str__(self) -> str:
        made = f" of {self.tool}" if self.tool else ""
        base = f", trained on {self.trained_on}" if self.trained_on else ""
        return f"adapter {self.name}{made}{base}, sha256 {self.sha256[:12]}"


class Base(_Part):
    """The model a run started from."""

    source: str
    sha256: str = Field(pattern=_SHA256)


class Result(_Part):
    """``result.json``: losses in nats per token, ``seconds`` of training, memory in bytes.

    ``total_seconds`` counts from the command, loading and all; runs of before have neither that
    nor a forecast. Of an adapter with an ``origin`` nothing is known of its training.
    """

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
    origin: Origin | None = None
    total_seconds: float | None = None
    predicted_seconds: float | None = None
    predicted_memory: int | None = None

    @property
    def identity(self) -> dict[str, str]:
        """The tags by which a run and its version are told apart and compared."""
        return {
            "fingerprint": self.fingerprint,
            "base_source": self.base.source,
            "base_sha256": self.base.sha256,
            "held_out_sha256": self.data.held_out_sha256,
        }


@dataclass(frozen=True)
class FinishedRun:
    """The finished run that a version is made of; ``ended`` is a Unix time in seconds."""

    folder: Path
    result: Result
    recipe: dict[str, Any]
    entries: list[Entry]
    ended: float

    @property
    def started(self) -> float:
        """Unix time at which training began, interruptions left out."""
        return self.ended - self.result.seconds


def read_finished(folder: Path) -> FinishedRun:
    """The run in ``folder``, every file of it checked.

    FixableError where it is not finished, its held-out loss is no number, or a file is missing or
    damaged.
    """
    path, discard = folder / RESULT, f"delete {folder} and run `{_AGAIN}`"
    if not path.is_file():
        raise FixableError(f"no finished fine-tuning run in {folder}: no {RESULT}", _AGAIN)
    try:
        result, ended = Result.model_validate_json(path.read_bytes()), path.stat().st_mtime
        path = folder / RECIPE
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FixableError(f"{path} is damaged: {_reason(error)}", discard) from None
    for name in ("held_out_loss_before", "held_out_loss_after"):
        if not math.isfinite(value := getattr(result, name)):
            what = f"{name} of the run in {folder} is {value}: the training diverged"
            raise FixableError(what, f"{_AGAIN} --set finetune.learning_rate=LOWER")
    read_adapter(folder / ADAPTER)  # what cannot be served is no version either
    if not (folder / TOKENIZER / "tokenizer_config.json").is_file():
        raise FixableError(f"no tokenizer in {folder / TOKENIZER}", discard)
    if not isinstance(recipe, dict):
        raise FixableError(f"{path} holds no recipe", discard)
    entries = [] if result.origin else read_history(folder / HISTORY)
    return FinishedRun(folder, result, recipe, entries, ended)


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")

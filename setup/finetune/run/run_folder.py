"""The folder of a run: where it is, if it is finished, and what is put there at the end."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import yaml

from setup.common import paths
from setup.common.errors import FixableError
from setup.common.files import fixable_write, sha256_file
from setup.recipe.local import Training
from setup.serve.engine_process import takes_long_factors
from setup.weights.adapter import CONFIG, WEIGHTS
from setup.weights.fetch import model_path

_FORMAT = 3  # raise it when a change of code makes other weights of the same recipe
# How it is run, not what comes out.
_NOT_IN_FINGERPRINT = {"threads", "save_every", "sharding"}


def run_folder(recipe: Training, base_sha256: str, train: Path) -> tuple[Path, str]:
    """The folder of the run that ``recipe`` describes, and its fingerprint (64 hex digits).

    Equal settings, base model and train split make the same run, which is therefore found again.
    """
    if not train.is_file():
        raise FixableError(f"no train split at {train}", recipe.command("data"))
    content = {
        "format": _FORMAT,
        "finetune": recipe.finetune.model_dump(exclude=_NOT_IN_FINGERPRINT),
        "system_role": recipe.model.system_role,
        "base": base_sha256,
        "train": sha256_file(train),
    }
    if takes_long_factors(model_path(recipe.model), recipe.model.context_window):
        content["rope"] = "long"
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return paths.finetune_folder(f"{recipe.name}-{digest[:12]}"), digest


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run whose adapter is still there."""
    result = paths.read_json(folder / "result.json")
    return (
        result
        if result and all((folder / "adapter" / name).is_file() for name in (CONFIG, WEIGHTS))
        else None
    )


def finish(folder: Path, recipe: Training, tokenizer: Any, result: dict[str, Any]) -> None:
    """Put adapter, tokenizer and recipe in their places; result.json comes last and says so.

    ``recipe`` is with the settings that were used, where they are not those that were given.
    """
    if not math.isfinite(result["held_out_loss_after"]):
        raise FixableError("the held-out loss is not a number", "lower finetune.learning_rate")
    with fixable_write(folder):
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        shutil.copytree(folder / "best", folder / "adapter")
        paths.use_umask(folder / "adapter")
        tokenizer.save_pretrained(str(folder / "tokenizer"))
        text = yaml.safe_dump(paths.without_home(recipe.model_dump(mode="json")), sort_keys=False)
        (folder / "recipe.yaml").write_text(text, encoding="utf-8", newline="\n")
        text = json.dumps(paths.without_home(result), indent=2) + "\n"
        with paths.replacing(folder / "result.json") as draft:
            draft.write_text(text, encoding="utf-8", newline="\n")
    for path in [*folder.glob("*best*"), *folder.glob("checkpoint-*")]:
        shutil.rmtree(path, ignore_errors=True)
    for note in ("begun.json", "forecast.json"):
        (folder / note).unlink(missing_ok=True)

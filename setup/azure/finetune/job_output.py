"""Inside the job of route ``own``, after the trainer: what the job leaves.

``python -m setup.azure.finetune.job_output RECIPE --model FOLDER --adapter FOLDER`` merges the
adapter of the finished run into the file it was trained on, as ``model.gguf``, and copies the
adapter with its tokenizer, curve and losses into the other folder. With ``--form transformers`` the
model is a folder of merged safetensors with its tokenizer, as vLLM loads it. The losses also become
metrics of the job.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM
from setup.data.plan import data_plan
from setup.finetune.run.run_folder import finished, run_folder
from setup.recipe.load import load_job_recipe
from setup.recipe.local import JobRecipe
from setup.weights.adapter import Adapter, read_adapter
from setup.weights.fetch import model_sha256, prepare_model
from setup.weights.gguf_write import merge_into_gguf

MODEL_FILE = "model.gguf"
_SECONDS = 30.0


def write_outputs(recipe: str, model: Path, adapter: Path, form: str = "gguf") -> dict[str, Any]:
    """Write both outputs of the finished run of ``recipe``; its figures."""
    loaded = load_job_recipe(recipe)
    base = prepare_model(loaded.model)
    folder, _ = run_folder(loaded, model_sha256(base), data_plan(loaded).paths.train)
    figures = finished(folder)
    if figures is None:
        raise FixableError(f"no finished run in {folder}", loaded.command("finetune"))
    try:
        with tempfile.TemporaryDirectory() as room, console.counting("Merging the adapter") as told:
            tuned = read_adapter(folder / "adapter")
            if form == "transformers":
                _write_transformers(loaded, base, tuned, Path(room) / "model")
            else:
                merge_into_gguf(base, tuned, Path(room) / MODEL_FILE, told)
            _copy_files(Path(room), model)
        _copy_files(folder, adapter)
        shutil.copyfile(folder / "result.json", model / "result.json")
    except OSError as error:
        raise FixableError(f"cannot write {error.filename}: {error.strerror}", MAKE_ROOM) from None
    return figures


def _write_transformers(recipe: JobRecipe, base: Path, tuned: Adapter, target: Path) -> None:
    from setup.weights.transformers_write import write_merged_safetensors

    source = recipe.finetune.base
    window = recipe.model.context_window
    write_merged_safetensors(source or base, tuned, target, base if source else None, window)


def _copy_files(source: Path, target: Path) -> None:
    """Contents only, from first byte to last: mounted storage may refuse more, even renaming."""
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def log_metrics(figures: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Make the losses of ``figures`` metrics of the job; why not, where that fails.

    Azure ML gives each job an MLflow server with its own token:
    https://learn.microsoft.com/azure/machine-learning/how-to-use-mlflow-configure-tracking
    """
    import requests

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID")
    uri, token, run = (environment.get(name, "") for name in names)
    if not uri or not run:
        return "no MLflow server in the environment"
    place, now = urlsplit(uri), int(time.time() * 1000)
    metrics = [
        {"key": key, "value": float(value), "timestamp": now, "step": 0}
        for key, value in figures.items()
        if "loss" in key and isinstance(value, int | float)
    ]
    try:
        reply = requests.post(
            f"https://{place.netloc}{place.path}/api/2.0/mlflow/runs/log-batch",
            json={"run_id": run, "metrics": metrics},
            headers={"Authorization": f"Bearer {token}"},
            timeout=_SECONDS,
        )
        reply.raise_for_status()
    except requests.RequestException as error:
        return f"{type(error).__name__} from {place.hostname}"
    return ""


def main() -> int:
    """The command; a failure is one line in the job's log, which ``finetune`` shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--form", choices=["gguf", "transformers"], default="gguf")
    options = parser.parse_args()
    try:
        figures = write_outputs(options.recipe, options.model, options.adapter, options.form)
    except FixableError as error:
        console.err.print(f"error: {error}", markup=False)
        return 1
    console.out.print(json.dumps(figures), markup=False)
    if why := log_metrics(figures, os.environ):
        console.err.print(f"the losses are in result.json only: {why}", markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

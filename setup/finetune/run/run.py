"""A fine-tuning run from recipe to adapter, resumed where it was left and finished only once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from setup.common import console, paths
from setup.common.errors import FixableError
from setup.common.files import fixable_write, sha256_file
from setup.data import PreparedSplit
from setup.finetune.compute import processes
from setup.finetune.run import copies
from setup.finetune.run.live import UNSHOWN, Shown
from setup.recipe.local import Training
from setup.serve.engine_process import takes_long_factors
from setup.weights.adapter import CONFIG, WEIGHTS
from setup.weights.base import Base
from setup.weights.fetch import model_path

FINGERPRINT = "{fingerprint}"
_FORMAT = 3  # raise it when a change of code makes other weights of the same recipe
# How it is run, not what comes out.
_NOT_IN_FINGERPRINT = {"threads", "save_every", "sharding"}


@dataclass(frozen=True)
class Finetuned:
    """A finished run; ``result`` is the content of its result.json."""

    folder: Path
    changed: bool
    result: dict[str, Any]


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


def finetune(
    recipe: Training, base: Base, split: PreparedSplit, shown: Shown = UNSHOWN
) -> Finetuned:
    """Fine-tune ``base`` on the train split as ``recipe.finetune`` says, or find it done.

    Its curve is ``shown`` while it trains; FINGERPRINT in that command stands for the run's.

    Works alone and as one of several processes of ``torchrun``. A run that was stopped or killed
    goes on from its last whole checkpoint.

    Raises:
        FixableError: No usable data or model, no room to write, a loss that is no number.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint written.
    """
    folder, fingerprint = run_folder(recipe, base.sha256, split.file)
    folder = processes.own_folder(folder)
    with _sole_owner(folder):
        began = time.monotonic()
        if processes.world() > 1:
            prepare_process(recipe.finetune.sharding)
        done = processes.decided_by_first(lambda: _fetched(folder))
        if done:
            processes.leave(folder)
            return Finetuned(folder, False, done)
        _refuse_sharding_alone(recipe)
        prepare_process()
        from setup.finetune.compute.precision import enough_memory
        from setup.finetune.run.attempt import Session

        with enough_memory():
            session = Session(recipe, base, split.file, folder, began)
            console.err.print(f"fine-tuning: on {split}", markup=False)
            command = [fingerprint if part == FINGERPRINT else part for part in shown.command]
            outcome = session.train(shown._replace(command=command))
        outcome["data"] = split.facts | outcome["data"]
        result = {"fingerprint": fingerprint, **outcome}
        if session.is_first:
            used = recipe.model_copy(update={"finetune": session.data.plan.settings})
            _finish(folder, used, session.tokenizer, result)
            session.say_truth(result)
            copies.copy_result(folder)
        processes.leave(folder)
        return Finetuned(folder, True, result)


def _fetched(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run, here or in its copy; what else the copy has is fetched."""
    if not finished(folder):
        copies.fetch(folder)
    return finished(folder)


def _refuse_sharding_alone(recipe: Training) -> None:
    if recipe.finetune.sharding != "none" and processes.world() == 1:
        raise FixableError(
            "finetune.sharding spreads a model over several processes, and this is one",
            f"torchrun --nproc-per-node 2 -m setup finetune {recipe.options}".rstrip()
            + ", or --set finetune.sharding=none",
        )


def _sole_owner(folder: Path) -> AbstractContextManager[Any]:
    """One process at a time, or the processes of one ``torchrun``."""
    with fixable_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    return nullcontext() if processes.launched() else _waiting_for(f"{folder}.lock")


@contextmanager
def _waiting_for(path: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.err.print(f"another process runs this; waiting for {path}", markup=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def prepare_process(sharding: str = "none") -> None:
    """Set what torch must find when it is loaded: environment variables, and a warning filter.

    Threads that spin for long while they wait for each other make a step ten times slower as soon
    as one other program wants a core; threads that never spin make it a fifth slower always.

    One process uses one GPU: several need ``torchrun``. Without it the Trainer would copy the
    model to all of them in every step, which fused layers do not survive.
    """
    if not processes.launched():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="OMP_NUM_THREADS", module="accelerate")
    if sharding != "none":  # then accelerate lets GPUs meet over the CPU too, as checkpoints need
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


def _finish(folder: Path, recipe: Training, tokenizer: Any, result: dict[str, Any]) -> None:
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

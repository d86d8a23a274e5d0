"""A fine-tuning run from recipe to adapter, resumed where it was left and finished only once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from setup.common import console
from setup.common.errors import FixableError
from setup.common.files import fixable_write
from setup.data import PreparedSplit
from setup.finetune.compute import processes
from setup.finetune.run import copies
from setup.finetune.run.live import FINGERPRINT, UNSHOWN, Shown
from setup.finetune.run.run_folder import finish, finished, run_folder
from setup.recipe.local import Training
from setup.weights.base import Base


@dataclass(frozen=True)
class Finetuned:
    """A finished run; ``result`` is the content of its result.json."""

    folder: Path
    changed: bool
    result: dict[str, Any]


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
            processes.prepare(recipe.finetune.sharding)
        done = processes.decided_by_first(lambda: _fetched(folder))
        if done:
            processes.leave(folder)
            return Finetuned(folder, False, done)
        _refuse_sharding_alone(recipe)
        processes.prepare()
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
            finish(folder, used, session.tokenizer, result)
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

"""Checkpoints that are either whole or not used: a kill may come in the middle of writing one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from setup.common import console
from setup.common.errors import FixableError
from setup.common.files import fixable_write, sha256_file
from setup.common.paths import read_json, write_private
from setup.finetune.compute import processes
from setup.finetune.compute.precision import PRECISIONS, choose_dtype
from setup.finetune.compute.sharding import load_adapter
from setup.finetune.run.copies import BEST, HISTORY, NOTE, SEAL
from setup.recipe.local import Finetune
from setup.weights.adapter import WEIGHTS

# Two deep: adapters in folders directly below a checkpoint the Trainer would load and train too.
_KEPT = "kept"


def seal_checkpoint(folder: Path) -> None:
    """Add the curve and the best adapter so far, and write down what every file is.

    Beside the checkpoint they run ahead of it, and after a kill would be those of lost steps.
    """
    kept = folder / _KEPT
    kept.mkdir()
    shutil.copyfile(folder.parent / HISTORY, kept / HISTORY)
    if (folder.parent / BEST).is_dir():
        shutil.copytree(folder.parent / BEST, kept / BEST)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL]
    hashes = {str(path.relative_to(folder)): sha256_file(path) for path in files}
    write_private(folder / SEAL, {"files": hashes})


def resumed_from(folder: Path) -> Path | None:
    """The newest whole checkpoint, the same one in every process; what belongs to it is put back.

    None where the run begins. Raises FixableError where ``folder`` cannot be written.
    """

    def restored() -> str:
        with fixable_write(folder):
            checkpoint = last_checkpoint(folder)
            if checkpoint:
                restore_checkpoint(checkpoint)
        return checkpoint.name if checkpoint else ""

    with fixable_write(folder):
        name = processes.decided_by_first(restored)
        for part in (name, HISTORY) if name else ():
            processes.share(folder, part)
    return folder / name if name else None


def load_best(model: Any, folder: Path) -> None:
    """Put the best adapter of the run in ``folder`` into ``model``; all processes call it together.

    Raises:
        FixableError: It cannot be read.
    """
    processes.share(folder, BEST)
    path = folder / BEST / WEIGHTS
    try:
        load_adapter(model, load_file(path))
    except (OSError, SafetensorError) as error:
        raise FixableError(
            f"cannot read the best adapter {path}: {error}",
            f'delete "{folder}" and fine-tune again',
        ) from None


def restore_checkpoint(folder: Path) -> None:
    """Put the curve and the best adapter back to what they were at the checkpoint."""
    kept = folder / _KEPT
    shutil.copyfile(kept / HISTORY, folder.parent / HISTORY)
    shutil.rmtree(folder.parent / BEST, ignore_errors=True)
    if (kept / BEST).is_dir():
        shutil.copytree(kept / BEST, folder.parent / BEST)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those cut off are removed, damaged ones are named and removed.

    A cut-off checkpoint is the normal trace of a kill. A sealed one with other content is a
    failing disk or a foreign hand, which its owner must hear of.
    """
    saved = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    for path in sorted(saved, key=lambda path: int(path.name[11:]), reverse=True):
        seal = read_json(path / SEAL)
        damaged = None if seal is None else _damaged(path, seal)
        if seal is not None and damaged is None:
            return path
        if damaged:
            console.err.print(f"{path} is damaged ({damaged}); going on without it", markup=False)
        shutil.rmtree(path)
    return None


def _damaged(folder: Path, seal: dict[str, dict[str, str]]) -> str | None:
    for name, digest in seal["files"].items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            return name
    return None


@dataclass(frozen=True)
class Begun:
    """``dtype`` of the frozen weights, and the moment that the chat template takes for now."""

    dtype: torch.dtype
    moment: datetime


def begin(folder: Path, settings: Finetune, world: int) -> Begun:
    """Settle how the run in ``folder`` of ``world`` processes is computed, resumed as begun.

    Several processes on one CPU would disturb each other's measurement: "auto" is fp32 there.

    Raises:
        FixableError: The run was begun by another number of processes, which take other batches,
            or with another sharding, whose checkpoints are others; or the folder cannot be written.
    """
    note = read_json(folder / NOTE) or {}
    if note.get("processes", world) != world:
        begun = f"torchrun --nproc-per-node {note['processes']} -m setup finetune --recipe NAME"
        raise FixableError(
            f"the run in {folder} was begun by {note['processes']} processes, not {world}",
            f'{begun}, or delete "{folder}"',
        )
    sharding = note.get("sharding", "none") if note else settings.sharding
    if sharding != settings.sharding:
        raise FixableError(
            f"the run in {folder} was begun with finetune.sharding {sharding}, "
            f"not {settings.sharding}",
            f'--set finetune.sharding={sharding}, or delete "{folder}"',
        )
    precision = settings.precision
    if precision == "auto" and world > 1 and not torch.cuda.is_available():
        precision = "fp32"
    dtype = choose_dtype(str(note.get("precision", precision)))
    now = datetime.now().replace(microsecond=0)
    moment = datetime.fromisoformat(note.get("moment", now.isoformat()))
    if not note:
        content = {
            "precision": PRECISIONS[dtype],
            "processes": world,
            "sharding": sharding,
            "moment": moment.isoformat(),
        }
        with fixable_write(folder):
            write_private(folder / NOTE, content)
    return Begun(dtype, moment)

"""Checkpoints that are either whole or not used: a kill may come in the middle of writing one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from setup.common import console
from setup.common.errors import FixableError
from setup.common.files import fixable_write, sha256_file
from setup.common.paths import read_json, write_private
from setup.finetune.compute.precision import PRECISIONS, choose_dtype

_SEAL = "whole.json"
_HISTORY, _BEST = "history.jsonl", "best"
# Two deep: adapters in folders directly below a checkpoint the Trainer would load and train too.
_KEPT = "kept"


def seal_checkpoint(folder: Path) -> None:
    """Add the curve and the best adapter so far, and write down what every file is.

    Beside the checkpoint they run ahead of it, and after a kill would be those of lost steps.
    """
    kept = folder / _KEPT
    kept.mkdir()
    shutil.copyfile(folder.parent / _HISTORY, kept / _HISTORY)
    if (folder.parent / _BEST).is_dir():
        shutil.copytree(folder.parent / _BEST, kept / _BEST)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != _SEAL]
    hashes = {str(path.relative_to(folder)): sha256_file(path) for path in files}
    write_private(folder / _SEAL, {"files": hashes})


def restore_checkpoint(folder: Path) -> None:
    """Put the curve and the best adapter back to what they were at the checkpoint."""
    kept = folder / _KEPT
    shutil.copyfile(kept / _HISTORY, folder.parent / _HISTORY)
    shutil.rmtree(folder.parent / _BEST, ignore_errors=True)
    if (kept / _BEST).is_dir():
        shutil.copytree(kept / _BEST, folder.parent / _BEST)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those cut off are removed, damaged ones are named and removed.

    A cut-off checkpoint is the normal trace of a kill. A sealed one with other content is a
    failing disk or a foreign hand, which its owner must hear of.
    """
    saved = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    for path in sorted(saved, key=lambda path: int(path.name[11:]), reverse=True):
        seal = read_json(path / _SEAL)
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


NOTE = "begun.json"


@dataclass(frozen=True)
class Begun:
    """``dtype`` of the frozen weights, and the moment that the chat template takes for now."""

    dtype: torch.dtype
    moment: datetime


def begin(folder: Path, precision: str, processes: int, writes: bool) -> Begun:
    """Settle how the run in ``folder`` is computed: at its start, and as then when it is resumed.

    Several processes on one CPU would disturb each other's measurement: "auto" is fp32 there.

    Raises:
        FixableError: The run was begun by another number of processes, which take other batches,
            or the folder cannot be written.
    """
    note = read_json(folder / NOTE) or {}
    if note.get("processes", processes) != processes:
        begun = f"torchrun --nproc-per-node {note['processes']} -m setup finetune"
        raise FixableError(
            f"the run in {folder} was begun by {note['processes']} processes, not {processes}",
            f'{begun}, or delete "{folder}"',
        )
    if precision == "auto" and processes > 1 and not torch.cuda.is_available():
        precision = "fp32"
    dtype = choose_dtype(str(note.get("precision", precision)))
    now = datetime.now().replace(microsecond=0)
    moment = datetime.fromisoformat(note.get("moment", now.isoformat()))
    if writes and not note:
        content = {
            "precision": PRECISIONS[dtype],
            "processes": processes,
            "moment": moment.isoformat(),
        }
        with fixable_write(folder):
            write_private(folder / NOTE, content)
    return Begun(dtype, moment)

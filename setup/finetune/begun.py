"""How a run was begun: what a resumed run must not decide anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from setup.errors import FixableError
from setup.finetune.precision import PRECISIONS, choose_dtype
from setup.paths import read_json, write_private

NOTE = "begun.json"


@dataclass(frozen=True)
class Begun:
    """``dtype`` of the frozen weights, and the moment that the chat template takes for now."""

    dtype: torch.dtype
    moment: datetime


def begin(folder: Path, precision: str, processes: int, writes: bool) -> Begun:
    """How the run in ``folder`` is computed: decided at its start, kept when it is resumed.

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
        try:
            content = {
                "precision": PRECISIONS[dtype],
                "processes": processes,
                "moment": moment.isoformat(),
            }
            write_private(folder / NOTE, content)
        except OSError as error:
            raise FixableError(
                f"cannot write to {folder}: {error.strerror}", "free disk space"
            ) from None
    return Begun(dtype, moment)

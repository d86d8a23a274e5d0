"""The processes of one ``torchrun``: which of them this is, and what the first decides for all.

Several machines need no folder in common: the first one's is the run's, and the others are given
what they must read of it.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from setup.common.errors import FixableError

T = TypeVar("T")


def launched() -> bool:
    """Tell whether ``torchrun`` started this process."""
    return "RANK" in os.environ


def world() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """The number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this is the process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def machine() -> int:
    """The number of this machine, 0 for that of the first process."""
    return int(os.environ.get("GROUP_RANK", "0"))


def prepare(sharding: str = "none") -> None:
    """Set what torch must find when it is loaded: environment variables, and a warning filter.

    Threads that spin for long while they wait for each other make a step ten times slower as soon
    as one other program wants a core; threads that never spin make it a fifth slower always.

    One process uses one GPU: several need ``torchrun``. Without it the Trainer would copy the
    model to all of them in every step, which fused layers do not survive.
    """
    if not launched():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="OMP_NUM_THREADS", module="accelerate")
    if sharding != "none":  # then accelerate lets GPUs meet over the CPU too, as checkpoints need
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


def join() -> Any:
    """Meet the others, as the Trainer would later; returns accelerate's state of this process."""
    import torch
    from accelerate import PartialState

    # Left to itself, accelerate takes processes without a GPU for strangers to each other.
    return PartialState(**({} if torch.cuda.is_available() else {"cpu": True, "backend": "gloo"}))


def decided_by_first(decide: Callable[[], T]) -> T:
    """Return in every process what ``decide`` returns in the first, which alone calls it.

    Raises:
        FixableError: In every process, where ``decide`` raises it in the first.
    """
    if world() == 1:
        return decide()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = decide()
        except FixableError as error:
            outcome[1] = (error.what, error.fix)
    value, refusal = _broadcast(outcome)
    if refusal:
        raise FixableError(*refusal)
    decided: T = value
    return decided


def _broadcast(values: list[Any]) -> list[Any]:
    from accelerate.utils import broadcast_object_list

    join()
    sent: list[Any] = broadcast_object_list(values)
    return sent


def any_of(asked: bool) -> bool:
    """Tell whether ``asked`` is true in any process."""
    if world() == 1:
        return asked
    import torch
    import torch.distributed as dist

    flag = torch.tensor([int(asked)], device=join().device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def own_folder(folder: Path) -> Path:
    """The place on this machine for what is ``folder`` on the first one.

    It is another one even where both see the same disk.
    """
    return folder.with_name(f"{folder.name}.machine-{machine()}") if machine() else folder


def _several_machines() -> bool:
    return world() > local_world()


def share(folder: Path, name: str) -> None:
    """Give the other machines the file or folder ``name`` of the first one's ``folder``."""
    if not _several_machines():
        return
    writes = machine() > 0 and os.environ.get("LOCAL_RANK", "0") == "0"
    top = folder / name
    paths = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
    for file in _broadcast([sorted(str(path.relative_to(folder)) for path in paths)])[0]:
        content = _broadcast([(folder / file).read_bytes() if is_first() else None])[0]
        if writes:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
    join().wait_for_everyone()


def collect(file: Path) -> None:
    """Put ``file``, which every process wrote on its machine, beside that of the first process."""
    if not _several_machines():
        return
    from accelerate.utils import gather_object

    content = [(file.name, file.read_bytes())] if machine() else []
    for name, written in gather_object(content):
        if is_first():
            file.with_name(name).write_bytes(written)


def leave(folder: Path) -> None:
    """Remove what another machine than the first was given."""
    if machine() and os.environ.get("LOCAL_RANK", "0") == "0":
        shutil.rmtree(folder, ignore_errors=True)

"""A second place for a run, from which another machine goes on where the first one was lost.

``FINETUNE_PHI_COPIES`` names it. It may be mounted storage that can neither rename nor link, so a
file is written from its first byte to its last. The one that says that others are whole is written
after them and deleted before them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from setup.common.console import say
from setup.common.files import fixable_read
from setup.common.paths import read_json

SEAL, NOTE, RESULT = "whole.json", "begun.json", "result.json"
HISTORY, BEST = "history.jsonl", "best"
_OF_RESULT = ("adapter", "tokenizer", "recipe.yaml", HISTORY, RESULT)


def copy_checkpoint(checkpoint: Path) -> None:
    """Copy a whole ``checkpoint``, and remove copies of those that are gone here.

    A copy that fails does not end the training; a line says what it costs.
    """
    copy = _copy_of(checkpoint.parent)
    if copy is None:
        return
    try:
        if read_json(copy / NOTE) is None:
            _copy(checkpoint.parent / NOTE, copy / NOTE)
        _copy(checkpoint, copy / checkpoint.name, last=SEAL)
        for other in copy.glob("checkpoint-*"):
            if not (checkpoint.parent / other.name).is_dir():
                _remove(other)
    except OSError as error:
        _say_failure(copy / checkpoint.name, error, "another machine would lose these steps")


def copy_result(folder: Path) -> None:
    """Copy what the finished run in ``folder`` leaves, in the place of its checkpoints."""
    copy = _copy_of(folder)
    if copy is None:
        return
    try:
        for name in _OF_RESULT:
            _copy(folder / name, copy / name)
        for checkpoint in copy.glob("checkpoint-*"):
            _remove(checkpoint)
        (copy / NOTE).unlink(missing_ok=True)
    except OSError as error:
        _say_failure(copy, error, "another machine would train its last steps again")


def fetch(folder: Path) -> None:
    """Bring the result, or the whole checkpoints, that the copy has and ``folder`` has not.

    Raises:
        FixableError: The copy is there and cannot be read.
    """
    copy = _copy_of(folder)
    if copy is None or not copy.is_dir():
        return
    with fixable_read(copy):
        if read_json(copy / RESULT):
            for name in _OF_RESULT:
                _copy(copy / name, folder / name)
            say(f"the finished run is taken from {copy}")
            return
        for checkpoint in sorted(copy.glob("checkpoint-*")):
            here = folder / checkpoint.name
            if read_json(checkpoint / SEAL) and not read_json(here / SEAL):
                shutil.rmtree(here, ignore_errors=True)
                _copy(checkpoint, here, last=SEAL)
                say(f"{checkpoint.name} is taken from {copy}")
        if read_json(folder / NOTE) is None and (copy / NOTE).is_file():
            _copy(copy / NOTE, folder / NOTE)


def _copy_of(folder: Path) -> Path | None:
    """The place of the copy of the run in ``folder``; None where nobody asked for one."""
    place = os.environ.get("FINETUNE_PHI_COPIES")
    return Path(place) / folder.name if place else None


def _copy(source: Path, target: Path, last: str = "") -> None:
    """Copy a file, or a folder with the file of the name ``last`` at the end of it."""
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    for path in sorted(files, key=lambda path: (path.name == last, path)):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _remove(checkpoint: Path) -> None:
    (checkpoint / SEAL).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _say_failure(copy: Path, error: OSError, cost: str) -> None:
    say(f"cannot write the copy {copy}: {error.strerror or error}; {cost}")

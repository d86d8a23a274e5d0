"""The right to write to `data.out`: one command at a time, and over its own work alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from setup.common.errors import FixableError
from setup.common.files import drafts_beside, sha256_file

from .manifest import owned, read_note
from .plan import DataPlan, OutPaths

# As drafts end, for it is one: what a killed command leaves of either, the next one sweeps.
_LOCK = ".data.lock.partial"


def refuse_overwriting(plan: DataPlan) -> None:
    """See, before anything is written, that nothing is written over which `data` did not make.

    Raises:
        FixableError: The source is one of the files to write, or a folder around them, or a file of
            such a name is there without a manifest that says where it came from.
    """
    for path in (*plan.paths.outputs, plan.paths.manifest):
        if plan.kind == "file" and _is_same(Path(plan.source), path):
            raise FixableError(
                f"data.source {plan.source} is the file {path}, which would be overwritten",
                another_folder(plan),
            )
    if plan.kind == "folder" and _is_within(plan.out, Path(plan.source)):
        raise FixableError(
            f"data.out {plan.out} lies in data.source {plan.source}, and would become part of it",
            another_folder(plan),
        )
    if os.path.lexists(plan.paths.manifest):
        return
    foreign = [str(path) for path in plan.paths.outputs if os.path.lexists(path)]
    if foreign:
        raise FixableError(
            f"{' and '.join(foreign)} would be overwritten, and no {plan.paths.manifest.name} "
            "beside says that `data` made it",
            f"move it away, or {another_folder(plan)}",
        )


@contextmanager
def sole_writer(plan: DataPlan) -> Iterator[None]:
    """Keep other commands from writing to the plan's folder, and sweep what killed ones left.

    Raises:
        FixableError: Another command writes there now.
    """
    path = plan.out / _LOCK
    plan.out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FixableError(
            f"another command{_holder(path)} prepares data in {plan.out}",
            f"wait until it has ended, or {another_folder(plan)}",
        ) from None
    try:
        with suppress(OSError):  # Windows locks the text of the file, too
            path.write_text(str(os.getpid()), encoding="utf-8")
        for output in (*plan.paths.outputs, plan.paths.manifest):
            for draft in drafts_beside(output):
                draft.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):  # while it is held, so that no waiting command takes the old one
            path.unlink()
        lock.release()


def set_aside(paths: OutPaths, outputs: Sequence[Path]) -> list[str]:
    """Rename those of ``outputs`` that were edited since `data` wrote them; a line for each."""
    ours, notes = owned(read_note(paths)), []
    for path in outputs:
        if path.is_file() and sha256_file(path) not in ours:
            kept = _free_name(path, "edited")
            path.rename(kept)
            notes.append(f"{path} was edited after `data` wrote it: kept as {kept.name}")
    return notes


def another_folder(plan: DataPlan) -> str:
    """The option that names a folder where nothing is in the way, for a fix."""
    default = Path(type(plan).out)
    free = default if not default.exists() else free_folder(default)
    if plan.kind == "folder" and _is_within(free, Path(plan.source)):
        free = free_folder(Path(plan.source).resolve())
    return f"--set data.out=FOLDER, such as --set data.out={shlex.quote(str(free))}"


def free_folder(folder: Path) -> Path:
    """A folder beside ``folder`` that is not there yet."""
    return _free_name(folder, "")


def _free_name(path: Path, mark: str) -> Path:
    number = 1
    while os.path.lexists(free := path.with_name(_numbered(path.name, mark, number))):
        number += 1
    return free


def _numbered(name: str, mark: str, number: int) -> str:
    return f"{name}.{mark}-{number}" if mark else f"{name}-{number + 1}"


def _is_same(path: Path, other: Path) -> bool:
    """Tell whether two paths are one file, by whatever links and spellings."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _is_within(folder: Path, around: Path) -> bool:
    """Tell whether ``folder``, which need not exist yet, is ``around`` or lies under it."""
    resolved = folder.resolve()
    return any(_is_same(part, around) for part in (resolved, *resolved.parents))


def _holder(path: Path) -> str:
    try:
        number = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {number})" if number.isdigit() else ""

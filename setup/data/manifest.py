"""The note beside prepared files: what they were made from, and which of them are ours.

Every later step reads it (setup/data/provenance.py), so that nothing is trained, registered or
evaluated under the name of other data. And `data` writes over its own work alone, which is what the
note proves to be so, one command at a time in a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from setup.common import files
from setup.common.errors import FixableError
from setup.common.paths import drafts_beside

from .formats.origin import Origin, patterns_of
from .plan import DataPlan, OutPaths, Prepared

_FORMAT = 2
_COUNTS = {"rows", "kept", "rejected", "train_rows", "test_rows"}
# As drafts end, for it is one: what a killed command leaves of either, the next one sweeps.
_LOCK = ".data.lock.partial"

Note = dict[str, Any]


class Draft:
    """An output on its way to its name, hashed as it is written."""

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self.target, self.file, self.rows = target, file, 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self.file.write(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of all that was written."""
        return self._digest.hexdigest()


def read_note(paths: OutPaths) -> Note | None:
    """The content of the manifest, None where there is none that can be read."""
    try:
        note = json.loads(paths.manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def write_note(plan: DataPlan, facts: Note) -> None:
    """Write the manifest: the plan's source and options, and ``facts``."""
    made = {"format": _FORMAT, "source": plan.name, "path": _paths(plan.origins)}
    _write(plan.paths, made | {"options": options_of(plan)} | facts, indent=2)


def _write(paths: OutPaths, note: Note, indent: int | None = None) -> None:
    text = json.dumps(note, indent=indent, ensure_ascii=False)
    with files.replace_together(paths.manifest) as (file,):
        file.write(f"{text}\n".encode())


def describes(note: Note, plan: DataPlan) -> bool:
    """Tell whether the note names the plan's source and options, whatever is in the source now."""
    made = note.get("format"), note.get("options")
    if made != (_FORMAT, options_of(plan)):
        return False
    # A folder that is gone looks like a name of the hub.
    gone = [str(Path(origin.source).resolve()) for origin in plan.origins]
    return note.get("path") in (_paths(plan.origins), gone[0] if len(gone) == 1 else gone)


def read_manifest(plan: DataPlan) -> Prepared | None:
    """The result of an earlier run of the same plan, or None when there is work to do.

    Work is to be done when the plan or the local source differ, when one of the files is missing or
    was changed, or when the note itself is not whole.
    """
    note, paths = read_note(plan.paths), plan.paths
    if note is None or not describes(note, plan) or not _tells_result(note):
        return None
    if note.get("source_sha256") != source_sha256(plan):
        return None
    if note["counts"]["rejected"] and not paths.rejects.is_file():
        return None
    for path in (paths.train, paths.test):
        if not path.is_file() or digests(note).get(path.name) != files.sha256_file(path):
            return None
    notes, summary = tuple(note.get("notes", ())), note.get("summary") or {}
    return result(plan, note["counts"], notes, already_there=True, summary=summary)


def _tells_result(note: Note) -> bool:
    """Tell whether the note still has the counts and lines of its run: people edit such files."""
    counts, notes = note.get("counts"), note.get("notes", [])
    return (
        isinstance(counts, dict)
        and counts.keys() == _COUNTS
        and all(isinstance(count, int) for count in counts.values())
        and isinstance(notes, list)
    )


def result(
    plan: DataPlan,
    counts: dict[str, int],
    notes: tuple[str, ...] = (),
    *,
    already_there: bool = False,
    summary: Mapping[str, int] | None = None,
) -> Prepared:
    """The counts of a run as what the caller gets."""
    paths = plan.paths
    rejects = paths.rejects if counts["rejected"] else None
    told = {"already_there": already_there, "notes": notes, "summary": summary or {}}
    figures: dict[str, Any] = {**counts, **told}
    return Prepared(paths.train, paths.test, rejects, **figures)


def digests(note: Note | None) -> dict[str, str]:
    """SHA-256 (hex) of the prepared files, by name."""
    names = (note or {}).get("sha256")
    return names if isinstance(names, dict) else {}


def _owned(note: Note | None) -> set[str]:
    """SHA-256 (hex) of every file that the note says is ours."""
    claimed = (note or {}).get("claimed")
    return set(digests(note).values()) | set(claimed if isinstance(claimed, list) else [])


def options_of(plan: DataPlan) -> dict[str, Any]:
    """The options that decide, beside the source, which row goes where."""
    names = ("test_ratio", "seed", "limit", "near_duplicates", "personal")
    made = {name: getattr(plan, name) for name in names}
    if plan.test:
        made["test"] = [{"path": origin.path} | origin.options() for origin in plan.test_origins]
    if len(plan.origins) == 1:
        return made | plan.origins[0].options()
    return made | {"sources": [origin.options() for origin in plan.origins]}


def _paths(origins: Sequence[Origin]) -> str | list[str]:
    paths = [origin.path for origin in origins]
    return paths[0] if len(paths) == 1 else paths


def source_sha256(plan: DataPlan) -> str | None:
    """SHA-256 (hex) of all that is local of the sources, None where nothing is."""
    origins = [*plan.origins, *plan.test_origins]
    digests_of = {origin.path: origin.sha256 for origin in origins}
    if len(digests_of) == 1 or not any(digests_of.values()):
        return next(iter(digests_of.values()), None)
    lines = "".join(f"{path}\0{digest}\n" for path, digest in digests_of.items())
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def refuse_overwriting(plan: DataPlan) -> None:
    """See, before anything is written, that nothing is written over which `data` did not make.

    Raises:
        FixableError: The source is one of the files to write, or a folder around them, or a file of
            such a name is there without a manifest that says where it came from.
    """
    written = (*plan.paths.outputs, plan.paths.manifest)
    for name, origin in _named_origins(plan):
        for path in written if origin.kind == "file" else ():
            if _is_same(Path(origin.source), path):
                raise FixableError(
                    f"{name} {origin.source} is the file {path}, which would be overwritten",
                    another_folder(plan),
                )
        if origin.kind == "folder" and _is_within(plan.out, Path(origin.source)):
            raise FixableError(
                f"data.out {plan.out} lies in {name} {origin.source}, and would become part of it",
                another_folder(plan),
            )
    for pattern in patterns_of(plan.source):
        for path in (plan.paths.train, plan.paths.test):
            if path.absolute().match(str(Path(pattern).absolute())):
                raise FixableError(
                    f"data.source {pattern} would match {path}, which is written",
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


def _named_origins(plan: DataPlan) -> Iterator[tuple[str, Origin]]:
    yield from (("data.source", origin) for origin in plan.origins)
    yield from (("data.test", origin) for origin in plan.test_origins)


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


def _holder(path: Path) -> str:
    try:
        number = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {number})" if number.isdigit() else ""


def claim(paths: OutPaths, drafts: Sequence[Draft]) -> list[str]:
    """Note drafts as ours before they take their names, in case that this is the last that is done.

    What stood before stays described: until the new files are there, the old ones are good. Of it,
    what was edited since `data` wrote it keeps another name; a line for each.
    """
    note, lines = read_note(paths) or {}, []
    ours = _owned(note) | {draft.sha256 for draft in drafts}
    note["claimed"] = sorted(ours)
    _write(paths, note)
    for path in (draft.target for draft in drafts):
        if path.is_file() and files.sha256_file(path) not in ours:
            kept = _free_name(path, ".edited-{}", 1)
            path.rename(kept)
            lines.append(f"{path} was edited after `data` wrote it: kept as {kept.name}")
    return lines


def another_folder(plan: DataPlan) -> str:
    """The option that names a folder where nothing is in the way, for a fix."""
    default = Path(type(plan).out)
    free = default if not default.exists() else free_folder(default)
    for _, origin in _named_origins(plan):
        if origin.kind == "folder" and _is_within(free, Path(origin.source)):
            free = free_folder(Path(origin.source).resolve())
    return f"--set data.out=FOLDER, such as --set data.out={shlex.quote(str(free))}"


def free_folder(folder: Path) -> Path:
    """A folder beside ``folder`` that is not there yet."""
    return _free_name(folder, "-{}", 2)


def _free_name(path: Path, ending: str, number: int) -> Path:
    while os.path.lexists(free := path.with_name(path.name + ending.format(number))):
        number += 1
    return free


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

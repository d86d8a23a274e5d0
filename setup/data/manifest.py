"""The note beside prepared files: what they were made from, and which of them are ours.

Every later step reads it (setup/data/provenance.py), so that nothing is trained, registered or
evaluated under the name of other data; and `data` overwrites only what the note proves to be its
own work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from setup.common.files import replace_together, sha256_file, sha256_folder

from .plan import DataPlan, OutPaths, Prepared

_FORMAT = 2
_COUNTS = {"rows", "kept", "rejected", "train_rows", "test_rows"}

Note = dict[str, Any]


def read_note(paths: OutPaths) -> Note | None:
    """The content of the manifest, None where there is none that can be read."""
    try:
        note = json.loads(paths.manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def is_of(note: Note, plan: DataPlan) -> bool:
    """Tell whether the files of the note were made as the plan would make them now."""
    return describes(note, plan) and note.get("source_sha256") == source_sha256(plan)


def describes(note: Note, plan: DataPlan) -> bool:
    """Tell whether the note names the plan's source and options, whatever is in the source now."""
    # A folder that is gone looks like a name of the hub.
    paths = {source_path(plan), str(Path(plan.source).resolve())}
    made = note.get("format"), note.get("options")
    return made == (_FORMAT, options(plan)) and note.get("path") in paths


def read_manifest(plan: DataPlan) -> Prepared | None:
    """The result of an earlier run of the same plan, or None when there is work to do.

    Work is to be done when the plan or the local source differ, when one of the files is missing or
    was changed, or when the note itself is not whole.
    """
    note, paths = read_note(plan.paths), plan.paths
    if note is None or not is_of(note, plan) or not _tells_result(note):
        return None
    if note["counts"]["rejected"] and not paths.rejects.is_file():
        return None
    for path in (paths.train, paths.test):
        if not path.is_file() or digests(note).get(path.name) != sha256_file(path):
            return None
    return result(plan, note["counts"], tuple(note.get("notes", ())), already_there=True)


def _tells_result(note: Note) -> bool:
    """Tell whether the note still has the counts and lines of its run: people edit such files."""
    counts, notes = note.get("counts"), note.get("notes", [])
    return (
        isinstance(counts, dict)
        and counts.keys() == _COUNTS
        and all(isinstance(count, int) for count in counts.values())
        and isinstance(notes, list)
    )


def write_manifest(
    plan: DataPlan, revision: str, counts: dict[str, int], notes: tuple[str, ...]
) -> None:
    """Record a finished run."""
    note = {
        "source_sha256": source_sha256(plan),
        "revision": revision,
        "counts": counts,
        "notes": list(notes),
        "sha256": {path.name: sha256_file(path) for path in plan.paths.outputs if path.is_file()},
    }
    write_note(plan, note)


def write_note(plan: DataPlan, facts: Note) -> None:
    """Write the manifest: the plan's source and options, and ``facts``."""
    made = {
        "format": _FORMAT,
        "source": plan.source,
        "path": source_path(plan),
        "options": options(plan),
    }
    _write(plan.paths, json.dumps(made | facts, indent=2, ensure_ascii=False))


def claim(paths: OutPaths, made: dict[str, str]) -> None:
    """Note files as ours before they take their names, in case that this is the last that is done.

    What stood before stays described: until the new files are there, the old ones are good.
    """
    note = read_note(paths) or {}
    note["claimed"] = sorted(owned(note) | set(made.values()))
    _write(paths, json.dumps(note, ensure_ascii=False))


def owned(note: Note | None) -> set[str]:
    """SHA-256 (hex) of every file that the note says is ours."""
    claimed = (note or {}).get("claimed")
    return set(digests(note).values()) | set(claimed if isinstance(claimed, list) else [])


def digests(note: Note | None) -> dict[str, str]:
    """SHA-256 (hex) of the prepared files, by name."""
    names = (note or {}).get("sha256")
    return names if isinstance(names, dict) else {}


def result(
    plan: DataPlan,
    counts: dict[str, int],
    notes: tuple[str, ...] = (),
    already_there: bool = False,
) -> Prepared:
    """The counts of a run as what the caller gets."""
    paths = plan.paths
    return Prepared(
        train=paths.train,
        test=paths.test,
        rejects=paths.rejects if counts["rejected"] else None,
        already_there=already_there,
        notes=notes,
        **counts,
    )


def options(plan: DataPlan) -> dict[str, Any]:
    """Return the options that decide, beside the source, which row goes where."""
    chosen: dict[str, Any] = {
        "test_ratio": plan.test_ratio,
        "seed": plan.seed,
        "limit": plan.limit,
    }
    if plan.kind == "file":
        return chosen
    return chosen | {"config": plan.config, "split": plan.split}


def source_path(plan: DataPlan) -> str:
    """The source so that it means the same in every folder: a path in full, an id as it is."""
    return plan.source if plan.kind == "hub" else str(Path(plan.source).resolve())


def source_sha256(plan: DataPlan) -> str | None:
    """SHA-256 (hex) of a local source, None of others and of one that is not there."""
    source = Path(plan.source)
    if plan.kind == "folder":
        return sha256_folder(source)
    return sha256_file(source) if plan.kind == "file" and source.is_file() else None


def _write(paths: OutPaths, text: str) -> None:
    with replace_together(paths.manifest) as (file,):
        file.write(f"{text}\n".encode())

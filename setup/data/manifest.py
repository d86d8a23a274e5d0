"""The note beside prepared files: what they were made from, so that a second run can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import sha256_file
from .plan import DataPlan, Prepared


def read_manifest(plan: DataPlan) -> Prepared | None:
    """The result of an earlier run of the same plan, or None when there is work to do.

    Work is to be done when the plan or the local source file differ, or when one of the files is
    missing or was changed.
    """
    paths = plan.paths
    try:
        note = json.loads(paths.manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(note, dict) or note.get("plan") != _plan_note(plan):
        return None
    files = (paths.train, paths.test)
    if not all(path.is_file() for path in files) or note.get("sha256") != _digests(*files):
        return None
    counts: dict[str, int] = note["counts"]
    return result(plan, counts, already_there=True)


def write_manifest(plan: DataPlan, revision: str, counts: dict[str, int]) -> None:
    """Records a finished run."""
    paths = plan.paths
    note = {
        "plan": _plan_note(plan),
        "revision": revision,
        "sha256": _digests(paths.train, paths.test),
        "counts": counts,
    }
    partial = paths.manifest.with_name(f".{paths.manifest.name}.partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(note, file, indent=2)
        file.write("\n")
    partial.replace(paths.manifest)


def result(plan: DataPlan, counts: dict[str, int], already_there: bool = False) -> Prepared:
    """The counts of a run as what the caller gets."""
    paths = plan.paths
    return Prepared(
        train=paths.train,
        test=paths.test,
        rejects=paths.rejects if counts["rejected"] else None,
        already_there=already_there,
        **counts,
    )


def _plan_note(plan: DataPlan) -> dict[str, Any]:
    note: dict[str, Any] = {
        "source": plan.source,
        "test_ratio": plan.test_ratio,
        "seed": plan.seed,
        "limit": plan.limit,
    }
    if plan.kind == "hub":
        return note | {"config": plan.config, "split": plan.split}
    source = Path(plan.source)
    return note | {"source_sha256": sha256_file(source) if source.is_file() else None}


def _digests(*paths: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in paths}

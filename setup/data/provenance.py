"""The split every later step works on, proved to be made by `data` of the recipe's own source."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from setup.common.errors import FixableError
from setup.common.files import fixable_read, sha256_file

from . import manifest
from .formats.origin import AUTO, SAMPLE, as_text
from .plan import DataPlan

AGAIN = "python -m setup data --recipe NAME"
_BLOCK = 1 << 20


class ForgottenSourceError(FixableError):
    """A command without the ``--set data.source`` that the data were prepared with."""


@dataclass(frozen=True)
class PreparedSplit:
    """A train or test file, and what it was made from.

    Attributes:
        file: JSONL, one conversation a line.
        source: What the recipe calls the source.
        facts: The source for a record: its name, SHA-256 and commit.
        remarks: What is not as one would expect.
    """

    file: Path
    source: str
    facts: dict[str, Any]
    remarks: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        said = [f"{self.source}: {_rows(self.file)} rows of {self.file}", *self.remarks]
        return "; ".join(said)


def prepared_split(
    plan: DataPlan, part: Literal["train", "test"], again: str = AGAIN, then: str = ""
) -> PreparedSplit:
    """The train or the test file of the plan, proved to be of its source and its options.

    Args:
        plan: What the recipe names.
        part: Which file.
        again: The command that prepares it anew.
        then: What a fix says after that command, such as ", then python -m setup finetune".

    Raises:
        FixableError: There is none, or it was made of something else.
    """
    file = plan.paths.train if part == "train" else plan.paths.test
    if not file.is_file():
        raise FixableError(f"no {part} split at {file}", again + then)
    if plan.is_sample:
        refuse_forgotten(plan)
        return PreparedSplit(file, SAMPLE, {"source": SAMPLE}, _beside_the_sample(plan))
    note = manifest.read_note(plan.paths)
    if note is None:
        free = shlex.quote(str(manifest.free_folder(plan.out)))
        raise FixableError(
            f"nothing says what {file} was made from: `data` leaves {plan.paths.manifest.name} "
            "beside its files",
            f"{again} --set data.out={free}, and go on as it says",
        )
    if not manifest.describes(note, plan):
        what, fix = f"{plan.out} holds {_difference(note, plan)}", again + then
        if not plan.chosen and (source := note.get("source")) not in (None, plan.name):
            option = shlex.quote(f"data.source={source}")
            fix = f"the same command with --set {option}, or for other data {fix}"
            raise ForgottenSourceError(what, fix)
        raise FixableError(what, fix)
    with fixable_read(plan.name):
        remarks = _check_source(note, plan, file, again + then)
    return PreparedSplit(file, str(note["source"]), _facts(note), remarks)


def describe_copy(plan: DataPlan, split: PreparedSplit) -> None:
    """Write the manifest for a copy of the train file, for another machine: no path of this one."""
    facts = split.facts | {"source": _without_folders(split.facts["source"])}
    digests_of_copy = {plan.paths.train.name: sha256_file(split.file)}
    plan.out.mkdir(parents=True, exist_ok=True)
    manifest.write_note(plan, facts | {"sha256": digests_of_copy})


def _check_source(note: manifest.Note, plan: DataPlan, file: Path, again: str) -> tuple[str, ...]:
    paths = note["path"] if isinstance(note["path"], list) else [note["path"]]
    # A folder that is gone has no kind.
    local = [str(path) for path in paths if os.path.isabs(str(path))]  # noqa: PTH117
    remarks = [
        f"{path if len(paths) > 1 else plan.name} itself is not there any more"
        for path in local
        if not os.path.lexists(path)
    ]
    is_local = local or plan.test  # of a copy on another machine, nothing but the name is known
    is_other = manifest.source_sha256(plan) != note.get("source_sha256")
    if is_local and not remarks and is_other and _is_only_feedback(note, plan):
        remarks.append(f"feedback has come or gone since, which {again} takes in")
    elif is_local and not remarks and is_other:
        what = f"{plan.name}{' or data.test' if plan.test else ''}"
        raise FixableError(f"{what} was changed after {file} was made from it", again)
    if manifest.digests(note).get(file.name) != sha256_file(file):
        remarks.append("edited since `data` wrote it")
    return tuple(remarks)


def _is_only_feedback(note: manifest.Note, plan: DataPlan) -> bool:
    """Tell whether nothing but feedback has changed, which an endpoint adds to at any time."""
    made = {fact["source"]: fact.get("sha256") for fact in note.get("sources") or []}
    others = [*plan.origins, *plan.test_origins]
    is_fed = any(origin.kind == "feedback" for origin in others)
    return is_fed and all(
        made.get(origin.source) == origin.sha256 for origin in others if origin.kind != "feedback"
    )


def _without_folders(source: str) -> str:
    """The name of a source by the last part of each path in it."""
    given = None
    with suppress(yaml.YAMLError):
        given = yaml.safe_load(source) if source[:1] + source[-1:] == "[]" else None
    if not isinstance(given, list):
        return source.rstrip("/").rpartition("/")[2]
    entries = [entry if isinstance(entry, dict) else {"source": str(entry)} for entry in given]
    return as_text([entry | {"source": _without_folders(entry["source"])} for entry in entries])


def _facts(note: manifest.Note) -> dict[str, Any]:
    names = ("source", "source_sha256", "revision")
    return {name: note[name] for name in names if note.get(name)}


def _difference(note: manifest.Note, plan: DataPlan) -> str:
    """Describe the data that the files were made from, and where the recipe says otherwise."""
    source = note.get("source")
    if source is None:
        return "data that an earlier version prepared"
    if source != plan.name:
        return f"the data of {source}, the recipe says {plan.name}"
    recorded = note.get("options")
    made: dict[str, Any] = recorded if isinstance(recorded, dict) else {}
    if {"near_duplicates", "personal"} - made.keys():
        return "data that an earlier version prepared"
    now = manifest.options_of(plan)
    other = [name for name in made | now if now.get(name) != made.get(name)]
    if not other:
        return f"the data of another {source} ({note.get('path')})"
    usual = {"format": AUTO, "columns": {}, "test": "", "weight": 1}
    said = ", ".join(
        f"data.{name}={made.get(name, usual.get(name))}, the recipe says "
        f"{now.get(name, usual.get(name))}"
        for name in other
    )
    return f"the data of {source} with {said}"


def refuse_forgotten(plan: DataPlan) -> None:
    """Refuse the sample where data of one's own is prepared, unless the sample was asked for.

    Whoever leaves ``--set data.source`` out of the second command would train on something else,
    and in Azure pay for it.
    """
    source = _own_source(plan)
    if source and plan.is_sample and not plan.chosen:
        own, sample = (shlex.quote(f"data.source={name}") for name in (source, SAMPLE))
        raise ForgottenSourceError(
            f"{plan.out} holds the data of {source}, the recipe says {SAMPLE}",
            f"the same command with --set {own}, or with --set {sample} for the sample",
        )


def _own_source(plan: DataPlan) -> str:
    """The source of what is prepared in the plan's folder, empty where nothing is."""
    own = DataPlan(source="own", out=plan.out)
    note = manifest.read_note(own.paths)
    return str((note or {}).get("source") or "") if own.paths.train.is_file() else ""


def _beside_the_sample(plan: DataPlan) -> tuple[str, ...]:
    """A word for one who prepared data of their own, and asks for the sample."""
    source = _own_source(plan)
    if not source:
        return ()
    option = shlex.quote(f"data.source={source}")
    return (f"not the data of {source} in {plan.out}, which --set {option} takes",)


def _rows(file: Path) -> int:
    rows, last = 0, b"\n"
    with file.open("rb") as lines:
        while block := lines.read(_BLOCK):
            rows, last = rows + block.count(b"\n"), block[-1:]
    return rows + (last != b"\n")

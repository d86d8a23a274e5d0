"""The data of a batch run made ready for promptflow: readable, complete, with what nodes left."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.batch.pf_run import TABLES, FlowRun, nodes_of
from setup.common import console
from setup.common.errors import FixableError
from setup.common.json_rows import ARRAY, LINES, read_objects, read_utf8, text_form
from setup.common.paths import batch_folder

Line = tuple[str, dict[str, Any]]
_COLUMN = re.compile(r"\$\{data\.([^{}]+)\}")
_NODE = re.compile(r"\$\{run\.nodes\.([A-Za-z_]\w*)\}")


def prepare(wanted: FlowRun) -> tuple[FlowRun, int | None]:
    """``wanted`` over a file that promptflow reads, and its lines; None where only it can count.

    A file with a byte order mark, in UTF-16 or with one JSON array is copied as plain JSON lines,
    which one line says. ``${run.nodes.NAME}`` in the column mapping, the output of a node of the
    run that is evaluated, becomes a column of the copy.

    Raises:
        FixableError: Naming the line that is no JSON object, or lacks a column that is mapped.
    """
    nodes = {
        name: found[1]
        for name, value in wanted.columns.items()
        if (found := _NODE.fullmatch(value))
    }
    if wanted.data is None or wanted.data.is_dir() or wanted.data.suffix.lower() in TABLES:
        if wanted.data is not None and wanted.data.suffix.lower() in (".csv", ".tsv"):
            read_utf8(wanted.data)
        if not nodes:
            return wanted, None
        if wanted.data is not None:
            what = f"--column-mapping {next(iter(nodes))}=${{run.nodes.…}} needs lines of JSON"
            raise FixableError(f"{what}, and {wanted.data} is none", "give --data as JSONL")
    rows, plain = ([], "") if wanted.data is None else _read(wanted.data)
    _refuse_missing(wanted, rows)
    if nodes:
        rows, columns = _with_nodes(wanted, rows, nodes)
        wanted = replace(wanted, columns=columns)
    elif not plain:
        return wanted, len(rows)
    copy = _copy(wanted.name, rows)
    if plain:
        console.err.print(f"{wanted.data} is {plain}: asked from the copy {copy}", markup=False)
    return replace(wanted, data=copy), len(rows)


def _copy(name: str, rows: list[Line]) -> Path:
    """The rows as lines of JSON, in a file that stays: a run that is resumed reads it again."""
    content = "".join(json.dumps(row) + "\n" for _, row in rows).encode()
    copy = batch_folder() / f"{name}-{hashlib.sha256(content).hexdigest()[:10]}.jsonl"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    return copy


def _read(path: Path) -> tuple[list[Line], str]:
    """The rows of a JSON file, and what it is where promptflow could not read it; else ""."""
    rows, kind = read_objects(path)
    form, json_file = text_form(path), path.suffix.lower() == ".json"
    if json_file and kind != ARRAY and len(rows) == 1:  # pandas takes it for columns
        fix = "put it between [ and ], or call the file .jsonl"
        raise FixableError(f"{path} is one JSON object, not an array of them", fix)
    if form.is_marked or form.encoding != "utf-8":
        mark = "with" if form.is_marked else "without"
        return rows, f"{form.encoding.upper()} {mark} a byte order mark"
    if kind != (ARRAY if json_file else LINES):
        return rows, kind
    return rows, "in lines that end in CR" if kind == LINES and form.has_lone_cr else ""


def _refuse_missing(wanted: FlowRun, rows: list[Line]) -> None:
    columns = {found[1] for text in wanted.columns.values() if (found := _COLUMN.fullmatch(text))}
    for where, row in rows:
        missing = sorted(columns - set(row))
        if missing:
            raise FixableError(
                f"{where} has no column {missing[0]}, which --column-mapping names "
                f"as ${{data.{missing[0]}}}; it has {', '.join(map(str, row)) or 'none'}",
                f'give every line "{missing[0]}", null where there is nothing, or map another',
            )


def _with_nodes(
    wanted: FlowRun, rows: list[Line], nodes: Mapping[str, str]
) -> tuple[list[Line], dict[str, str]]:
    """The rows with a column for each node, and the mapping that names those columns."""
    if not wanted.run:
        raise FixableError("${run.nodes.…} without a run to evaluate", "name one with --run")
    outputs = {name: nodes_of(wanted.run, name) for name in set(nodes.values())}
    count = len(rows) or 1 + max(line for lines in outputs.values() for line in lines)
    rows = rows or [("", {}) for _ in range(count)]
    with_nodes = [
        (where, row | {f"run.nodes.{name}": outputs[name].get(line) for name in outputs})
        for line, (where, row) in enumerate(rows)
    ]
    mapped = {name: f"${{data.run.nodes.{node}}}" for name, node in nodes.items()}
    return with_nodes, wanted.columns | mapped

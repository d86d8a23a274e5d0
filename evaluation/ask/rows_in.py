"""The rows of a run: read, checked and chosen before the first of them is asked."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from evaluation.ask import columns
from evaluation.ask.evaluators import SAFETY_DATA
from evaluation.ask.files import read_records
from evaluation.results import Request, Row
from setup.common import console
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.data import plan as data_plans
from setup.data import prepared_split
from setup.recipe.local import Recipe

_DEFAULTS: dict[str, Any] = {
    "chat_history": [],
    "ground_truth": "",
    "facts": [],
    "must_decline": None,
    "category": "",
    "canaries": [],
    "marks": [],
}
_EXAMPLE = "see the columns in data/README.md"


@dataclass(frozen=True)
class RunData:
    """The rows of one run, each with every column the flows map, and the file's SHA-256 (hex).

    ``mapping`` is by which its columns were read, ``notes`` say what was left out in reading.
    """

    path: Path
    sha256: str
    rows: list[Row]
    mapping: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_data(
    path: Path,
    limit: int | None = None,
    seed: int = 0,
    mapping: Mapping[str, str] | None = None,
) -> RunData:
    """The rows of a data file; with ``limit`` so many of them, drawn by ``seed``, in file order.

    A row needs ``question``, or OpenAI's ``messages``; ``chat_history``, ``ground_truth``,
    ``facts``, ``must_decline``, ``category``, ``canaries`` and ``marks`` have defaults. Its id is
    ``id``, else ``prompt_id``, else made of its question and history. ``mapping`` names other
    columns for them. Columns that remain are left out: promptflow takes one named ``line_number``
    for its own.
    """
    if not path.is_file():
        raise FixableError(f"no data file {path}", "python -m setup data, or name one with --data")
    records = read_records(path)
    if not records:
        raise FixableError(f"{path} has no rows", f"give it at least one, {_EXAMPLE}")
    seen = list(dict.fromkeys(name for record in records for name in record.content))
    mapping = mapping or {}
    columns.check_mapping(mapping, seen, str(path))
    reader = columns.Columns(mapping, seen)
    rows = []
    for record in records:
        row = reader.take(record)
        if "question" not in row:
            raise columns.no_question(record, seen, mapping)
        rows.append(_check(row, record.where))
    notes = tuple(reader.notes(rows))
    _give_ids(rows, path)
    if limit is not None and limit < len(rows):
        chosen = sorted(random.Random(seed).sample(range(len(rows)), limit))  # noqa: S311
        rows = [rows[index] for index in chosen]
    return RunData(path, sha256_file(path), rows, mapping, notes)


def read_for(request: Request, recipe: Recipe) -> RunData:
    """The rows that ``request`` asks for: of its own file, or of a split that the recipe names."""
    mapping = columns.parse_mapping(request.column_mapping)
    data = read_data(_data_path(request, recipe), request.limit, request.seed, mapping)
    # Safety counts what is not refused only where a row says that it must be.
    silent = [row["id"] for row in data.rows if row["must_decline"] is None]
    if "safety" in request.evaluators and silent:
        raise FixableError(
            f"{data.path}: row {silent[0]} does not say must_decline, which evaluator safety goes "
            f"by ({len(silent)} of {len(data.rows)} rows)",
            "give every row must_decline, true or false: data/README.md, Adversarial questions",
        )
    return data


def _data_path(request: Request, recipe: Recipe) -> Path:
    if request.data:
        return request.data
    if "safety" in request.evaluators:
        return SAFETY_DATA
    # A fix names the recipe and the source as this command does.
    with recipe.naming():
        then = ", or name a file with --data"
        return prepared_split(data_plans.data_plan(recipe), "test", then=then).file


def say_split(recipe: Recipe, path: Path) -> None:
    """Say of which data the test split is that is asked, where the recipe decided it."""
    data = data_plans.data_plan(recipe)
    if path == data.paths.test:
        console.err.print(f"asking {prepared_split(data, 'test')}", markup=False)


def _check(row: Row, where: str) -> Row:
    """``row`` with its defaults."""
    row = _DEFAULTS | row
    question = row["question"]
    if not isinstance(question, str) or not question.strip():
        raise FixableError(f"{where}: column question is not text, or empty", _EXAMPLE)
    for name in ("ground_truth", "category"):
        _expect(isinstance(row[name], str), where, name, "text")
    for name in columns.TEXT_LISTS:
        good = isinstance(row[name], list) and all(isinstance(text, str) for text in row[name])
        _expect(good, where, name, "a list of texts")
    said = isinstance(row["must_decline"], bool | None)
    _expect(said, where, "must_decline", "true or false")
    _expect(_is_history(row["chat_history"]), where, "chat_history", _HISTORY)
    try:
        orjson.dumps(row)
    except TypeError as error:
        problem = f"{where} holds what no file takes: {error}"
        raise FixableError(problem, "correct the row (half a character, a huge number)") from None
    return row


_HISTORY = 'a list of {"inputs": {"question": …}, "outputs": {"answer": …}}'


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, dict)
        and isinstance(turn.get("inputs"), dict)
        and isinstance(turn.get("outputs"), dict)
        for turn in value
    )


def _expect(good: bool, where: str, column: str, kind: str) -> None:
    if not good:
        raise FixableError(f"{where}: column {column} is not {kind}", _EXAMPLE)


def _give_ids(rows: list[Row], path: Path) -> None:
    seen: dict[str, int] = {}
    made: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        given = row.get("id", row.get("prompt_id"))
        row["id"] = str(given) if given not in (None, "") else _make_id(row, made)
        if row["id"] in seen:
            raise FixableError(
                f"{path}: rows {seen[row['id']]} and {number} have the same id {row['id']!r}",
                "give every row an id of its own, or leave id and prompt_id out",
            )
        seen[row["id"]] = number


def _make_id(row: Row, made: Counter[str]) -> str:
    """An id that a row keeps in every file, so that two runs can be paired."""
    asked = json.dumps([row["question"], row["chat_history"]], sort_keys=True)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
    made[digest] += 1
    return digest if made[digest] == 1 else f"{digest}-{made[digest]}"

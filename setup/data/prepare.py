"""From a source of conversations to a train and a test file, in one pass at constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from setup.errors import FixableError

from .convert import Row, encode_row
from .files import replace_together
from .lint import (
    TEST_COLUMNS,
    TRAIN_COLUMNS,
    Linter,
    LintReport,
    lint_files,
    lint_source,
    no_rows_left,
)
from .manifest import read_manifest, result, write_manifest
from .plan import DataPlan, OutPaths, Prepared
from .rows import conversation_id, first_prompt, flat_columns, prompt_key
from .sources import Record, Source, open_file, open_hub


def prepare_data(plan: DataPlan) -> Prepared:
    """Makes the train and test files of a plan, or finds that an earlier run did.

    Rows that are no conversation go to a side file with their reason and are counted. The split
    goes by a seeded hash of the normalised first prompt: conversations that open alike are on one
    side, and a row keeps its side when rows are added. The shares are therefore close to
    `test_ratio`, not exact.

    Raises:
        FixableError: the source cannot be had or read, no row of it is usable, or one side of the
            split would be empty.
    """
    if plan.kind == "sample":
        return _check_sample(plan.paths)
    done = read_manifest(plan)
    if done:
        return done
    source = _open(plan)
    counts = _write(plan, source)
    write_manifest(plan, source.revision, counts)
    return result(plan, counts)


def _check_sample(paths: OutPaths) -> Prepared:
    files = [paths.train, paths.test]
    report = lint_files(files, [TRAIN_COLUMNS, (*TEST_COLUMNS, "must_decline")])
    if report.rejected:
        raise FixableError(
            f"the committed sample has {report.rejected} bad rows, the first: {report.problems[0]}",
            fix="python -m setup.sample",
        )
    train = lint_files([paths.train]).rows
    return Prepared(
        train=paths.train,
        test=paths.test,
        rejects=None,
        rows=report.rows,
        kept=report.kept,
        rejected=0,
        train_rows=train,
        test_rows=report.rows - train,
        already_there=True,
    )


def _open(plan: DataPlan) -> Source:
    if plan.kind == "file":
        return open_file(Path(plan.source))
    return open_hub(plan.source, plan.config, plan.split)


def _write(plan: DataPlan, source: Source) -> dict[str, int]:
    from setup.console import TASK, progress_bar  # noqa: PLC0415  (the package imports quickly)

    paths, linter = plan.paths, Linter()
    sides = {"train_rows": 0, "test_rows": 0}
    failure: FixableError | None = None
    with (
        replace_together(paths.rejects) as (rejects,),
        progress_bar("preparing", plan.limit or source.total) as bar,
    ):
        # The reasons are written also when no row is left to train on.
        try:
            with replace_together(paths.train, paths.test) as (train, test):
                for clean in lint_source(linter, _limited(source, plan.limit), rejects):
                    test_lines = _split(plan, clean, train, test)
                    sides["test_rows"] += test_lines
                    sides["train_rows"] += len(clean) - test_lines
                    bar.update(TASK, completed=linter.report.rows)
                _check_sides(plan, linter.report, sides)
        except FixableError as error:
            failure = error
    if not linter.report.rejected:
        paths.rejects.unlink(missing_ok=True)
    if failure:
        raise failure
    report = linter.report
    return {"rows": report.rows, "kept": report.kept, "rejected": report.rejected, **sides}


def _limited(source: Source, limit: int | None) -> Source:
    return Source(_first(source, limit), source.total, source.revision) if limit else source


def _first(source: Source, limit: int) -> Iterator[list[Record]]:
    for batch in source.batches:
        yield batch[:limit]
        limit -= len(batch)
        if limit <= 0:
            return


def _split(plan: DataPlan, records: list[Record], train: BinaryIO, test: BinaryIO) -> int:
    """Writes each record to its side; returns how many went to the test side."""
    test_lines = 0
    for record in records:
        row = _complete(record.row)
        if _is_test(plan, first_prompt(row["messages"])):
            test.write(encode_row(_test_row(row)))
            test_lines += 1
        else:
            train.write(encode_row(row))
    return test_lines


def _complete(row: dict[str, Any]) -> Row:
    """The row with `prompt` and `prompt_id` filled in where missing."""
    messages = row["messages"]
    prompt = row.get("prompt") or first_prompt(messages)
    identity = row.get("prompt_id") or conversation_id(messages)
    return {**row, "prompt": prompt, "prompt_id": identity}


def _test_row(row: Row) -> Row:
    return {"facts": [], **row, **flat_columns(row["messages"])}


def _is_test(plan: DataPlan, prompt: str) -> bool:
    salt = plan.seed.to_bytes(16, "big", signed=True)
    seeded = hashlib.blake2b(prompt_key(prompt), digest_size=8, salt=salt).digest()
    return int.from_bytes(seeded, "big") < plan.test_ratio * 2**64


def _check_sides(plan: DataPlan, report: LintReport, sides: dict[str, int]) -> None:
    if not report.kept:
        raise no_rows_left(plan.source, report)
    if not all(sides.values()):
        raise FixableError(
            f"{report.kept} rows are too few to split with ratio {plan.test_ratio}: one side is "
            f"empty (train={sides['train_rows']} test={sides['test_rows']})",
            fix="add rows, or try another data.seed",
        )

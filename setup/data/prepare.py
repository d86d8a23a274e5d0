"""From a source of conversations to a train and a test file, in one pass at constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from setup.common.console import shorten
from setup.common.errors import FixableError
from setup.common.files import fixable_read, fixable_write, replace_together, sha256_file
from setup.data.sources.any_source import open_file
from setup.data.sources.folder import open_folder
from setup.data.sources.hub import open_hub
from setup.data.sources.records import Record, Source

from .advice import advise
from .claim import another_folder, refuse_overwriting, set_aside, sole_writer
from .convert import Row, encode_row
from .lint import (
    TEST_COLUMNS,
    TRAIN_COLUMNS,
    Linter,
    LintReport,
    lint_files,
    lint_source,
    no_rows_left,
)
from .manifest import claim, read_manifest, result, write_manifest
from .plan import DEFAULT_CONFIG, ULTRACHAT_SPLIT, DataPlan, OutPaths, Prepared
from .rows import conversation_id, first_prompt, flat_columns, learnt_part
from .split import Splitter

_CUT = "test rows end with answers of weight 0, and ask for the last one before"
_LONGEST_OPENING = 40
_UNREAD_NAMED = 8


def prepare_data(plan: DataPlan) -> Prepared:
    """Makes the train and test files of a plan, or finds that an earlier run did.

    Rows that are no conversation go to a side file with their reason and are counted. The split
    goes by a seeded hash of how a conversation opens (setup/data/split.py): those that open alike
    are on one side, and a row keeps its side when rows are added. The shares are therefore close to
    `test_ratio`, not exact.

    Raises:
        FixableError: the source cannot be had or read, no row of it is usable, one side of the
            split would be empty, or files that `data` did not write would be overwritten.
    """
    if plan.kind == "sample":
        return _check_sample(plan.paths)
    with fixable_read(plan.source):
        done = read_manifest(plan)
        if done:
            return done
        refuse_overwriting(plan)
        source = _open(plan)
    with fixable_write(plan.out, another_folder(plan)), sole_writer(plan):
        refuse_overwriting(plan)
        counts, notes = _write(plan, source)
        write_manifest(plan, source.revision, counts, notes)
    return result(plan, counts, notes)


def _check_sample(paths: OutPaths) -> Prepared:
    files = [paths.train, paths.test]
    report = lint_files(files, [TRAIN_COLUMNS, (*TEST_COLUMNS, "must_decline")])
    if report.rejected:
        raise FixableError(
            f"the committed sample has {report.rejected} bad rows, the first: {report.problems[0]}",
            fix="python -m setup.data.sample",
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
    if plan.kind == "hub":
        return open_hub(plan.source, plan.config, plan.split)
    if plan.kind == "folder":
        return open_folder(Path(plan.source), plan.config, plan.split)
    source = open_file(Path(plan.source))
    if plan.split != ULTRACHAT_SPLIT or plan.config != DEFAULT_CONFIG:
        named = {"split": ULTRACHAT_SPLIT, "config": DEFAULT_CONFIG}
        unused = [f"data.{name}" for name, usual in named.items() if getattr(plan, name) != usual]
        note = f"{' and '.join(unused)} not used: {plan.source} is one file, and is read whole"
        source.notes[note] = 0
    return source


def _write(plan: DataPlan, source: Source) -> tuple[dict[str, int], tuple[str, ...]]:
    """The three files, the split done again where an opening turned out to be common."""
    past: dict[bytes, str] = {}
    while True:
        splitter = Splitter(plan.test_ratio, plan.seed, frozenset(past))
        notes: Counter[str] = Counter()
        try:
            counts = _write_once(plan, source, splitter, notes)
        except _CommonOpeningError as error:
            past |= error.openings
            source = _open(plan)
            continue
        told = [
            f"many conversations open with {opening!r}: split by what comes after it"
            for opening in (shorten(text, _LONGEST_OPENING) for text in past.values())
        ]
        kept = [f"{rows} {note}" if rows else note for note, rows in notes.items()]
        return counts, (*source.said(), *told, *kept)


class _CommonOpeningError(Exception):
    """The split must be done again, looking past ``openings``."""

    def __init__(self, openings: dict[bytes, str]) -> None:
        super().__init__()
        self.openings = openings


def _write_once(
    plan: DataPlan, source: Source, splitter: Splitter, notes: Counter[str]
) -> dict[str, int]:
    from setup.common.console import TASK, progress_bar  # noqa: PLC0415  (the package imports quickly)

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
                    test_lines = _split(splitter, clean, train, test, notes)
                    sides["test_rows"] += test_lines
                    sides["train_rows"] += len(clean) - test_lines
                    bar.update(TASK, completed=linter.report.rows)
                common = splitter.common()
                if common:
                    raise _CommonOpeningError(common)
                _check_sides(plan, linter.report, sides, splitter)
                for what, rows in linter.unread.most_common(_UNREAD_NAMED):
                    notes[f"row{'s have' if rows > 1 else ' has'} {what}, which is not read"] = rows
                _claim(paths, [train, test, rejects], notes)
        except FixableError as error:
            failure = error
            _claim(paths, [rejects], notes)
    if not linter.report.rejected:
        paths.rejects.unlink(missing_ok=True)
    if failure:
        raise failure
    report = linter.report
    return {"rows": report.rows, "kept": report.kept, "rejected": report.rejected, **sides}


def _claim(paths: OutPaths, drafts: list[BinaryIO], notes: Counter[str]) -> None:
    """Note the drafts as ours; what stands in their places and is not, keeps another name."""
    outputs = {".".join(Path(draft.name).name.split(".")[1:-2]): draft for draft in drafts}
    for draft in drafts:
        draft.flush()
    claim(paths, {name: sha256_file(Path(draft.name)) for name, draft in outputs.items()})
    for note in set_aside(paths, [paths.train.with_name(name) for name in outputs]):
        notes[note] = 0


def _limited(source: Source, limit: int | None) -> Source:
    return replace(source, batches=_first(source, limit)) if limit else source


def _first(source: Source, limit: int) -> Iterator[list[Record]]:
    for batch in source.batches:
        yield batch[:limit]
        limit -= len(batch)
        if limit <= 0:
            return


def _split(
    splitter: Splitter,
    records: list[Record],
    train: BinaryIO,
    test: BinaryIO,
    notes: Counter[str],
) -> int:
    """Writes each record to its side; returns how many went to the test side."""
    test_lines = 0
    for record in records:
        row = _complete(record.row)
        if splitter.is_test(row["messages"]):
            test.write(encode_row(_test_row(row, notes)))
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


def _test_row(row: Row, notes: Counter[str]) -> Row:
    messages = row["messages"]
    asked = learnt_part(messages)
    if len(asked) < len(messages):
        notes[_CUT] += 1
    columns = flat_columns(asked)
    own = [name for name, value in columns.items() if row.get(name) not in (None, value)]
    if own:
        notes[f"test rows with another {', '.join(own)}: written anew from messages"] += 1
    return {"facts": [], **row, **columns}


def _check_sides(
    plan: DataPlan, report: LintReport, sides: dict[str, int], splitter: Splitter
) -> None:
    if not report.kept:
        raise no_rows_left(plan.source, report)
    if all(sides.values()):
        return
    rejected = f" ({report.rejected} of {report.rows} were rejected: {report.why})"
    what = (
        f"{report.kept} rows{rejected if report.rejected else ''} are too few to split with ratio "
        f"{plan.test_ratio}: one side is empty "
        f"(train={sides['train_rows']} test={sides['test_rows']})"
    )
    raise FixableError(what, _more_rows(plan, report, splitter))


def _more_rows(plan: DataPlan, report: LintReport, splitter: Splitter) -> str:
    seed = splitter.seed_for_both()
    others = "add conversations that open in other words"
    if seed is not None:
        others = f"add rows, or --set data.seed={seed}, which leaves rows on both sides"
    elif report.duplicates:
        others = "add other conversations: these are one, again and again"
    if report.first is None:
        return others
    record, problem = report.first
    return f"{others}; the rejected ones: {advise(record, problem.reason, plan.source).fix}"

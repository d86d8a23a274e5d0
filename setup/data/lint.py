"""The linter: which rows are conversations a fine-tune can learn from, and why the others are not.

A row needs `messages`: turns of `role` and `content`, user and assistant in turn after an optional
system turn, the assistant last, no turn empty; and no conversation may occur twice. A turn may have
a `weight`, 0 or 1: an answer of weight 0 is context and is not learnt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from setup.common.errors import FixableError
from setup.common.files import replace_together
from setup.data.sources.any_source import open_file
from setup.data.sources.records import Record, Source

from .advice import advise
from .convert import unpack_messages
from .rows import conversation_key, is_empty
from .seen import SeenKeys

ROLES = ("system", "user", "assistant")
TRAIN_COLUMNS = ("prompt", "prompt_id", "messages")
TEST_COLUMNS = (*TRAIN_COLUMNS, "question", "chat_history", "ground_truth", "facts")
# What else of a turn, and beside the turns, changes what other trainers learn from a row.
_READ_OF_TURN = {"role", "content", "weight"}
_BESIDE_TURNS = ("weight", "tools", "functions", "system", "system_prompt")
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_DUPLICATE = "the conversation occurs before"
_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One rejected row: its file, its line (row, where there are no lines), the reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


Rejected = tuple[Record, Problem]


@dataclass
class LintReport:
    """The linter's count; `problems` holds the first 20, the side file all of them.

    `duplicates` are among the rejected; `first` is the first of the others, with its problem.
    """

    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    problems: list[Problem] = field(default_factory=list)
    first: Rejected | None = None

    @property
    def kept(self) -> int:
        """Rows without a problem."""
        return self.rows - self.rejected

    def __str__(self) -> str:
        return f"rows={self.rows} kept={self.kept} rejected={self.rejected}"

    @property
    def why(self) -> str:
        """The reason why rows were rejected, in a few words; "" where none was."""
        said = f"{self.duplicates} of them occur before" if self.duplicates else ""
        first = f"the first: {self.first[1]}" if self.first else ""
        return ", ".join(filter(None, (said, first)))


class Linter:
    """Lints batches of records; remembers the conversations of all of them.

    `unread` counts the rows by what they hold and nobody reads.
    """

    def __init__(self, required: Sequence[str] = ("messages",)) -> None:
        self.required = required
        self.report = LintReport()
        self.unread: Counter[str] = Counter()
        self._seen = SeenKeys()

    def check(self, batch: Sequence[Record]) -> tuple[list[Record], list[Rejected]]:
        """Splits a batch into clean and rejected records, and counts both."""
        for record in batch:
            unpack_messages(record.row)
        reasons = [r.problem or find_problem(r.row, self.required) for r in batch]
        sound = [place for place, reason in enumerate(reasons) if not reason]
        keys = [conversation_key(batch[place].row["messages"]) for place in sound]
        for place, repeated in zip(sound, self._seen.add(keys), strict=True):
            if repeated:
                reasons[place] = _DUPLICATE
                self.report.duplicates += 1
        self.report.rows += len(batch)
        clean = [record for record, reason in zip(batch, reasons, strict=True) if not reason]
        for record in clean:
            self.unread.update(_unread(record.row))
        return clean, self._reject(batch, reasons)

    def _reject(self, batch: Sequence[Record], reasons: list[str]) -> list[Rejected]:
        rejected = [
            (record, Problem(record.file, record.number, reason))
            for record, reason in zip(batch, reasons, strict=True)
            if reason
        ]
        self.report.rejected += len(rejected)
        if self.report.first is None:
            others = (item for item in rejected if item[1].reason != _DUPLICATE)
            self.report.first = next(others, None)
        shown = self.report.problems
        shown += [problem for _, problem in rejected][: _SHOWN - len(shown)]
        return rejected


def _unread(row: dict[str, Any]) -> set[str]:
    """Name what a clean row holds that others learn from, or forbid learning by, unread here."""
    beside = {f"{name} beside messages" for name in _BESIDE_TURNS if row.get(name) not in _NOTHING}
    return beside.union(
        f"{name} in a turn"
        for turn in row["messages"]
        if turn.keys() - _READ_OF_TURN
        for name, value in turn.items()
        if name not in _READ_OF_TURN and value not in _NOTHING
    )


def find_problem(row: Any, required: Sequence[str] = ("messages",)) -> str:
    """Return the reason why a row is not a conversation to learn from, or "" when it is one."""
    if not isinstance(row, dict):
        return f"the row is {_kind(row)}, not an object"
    for column in required:
        if row.get(column) is None:
            return f"column {column} is missing"
    if not isinstance(row.get("prompt", ""), str | None):
        return f"column prompt is {_kind(row['prompt'])}, not a string"
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        return "messages is not a list of turns"
    return next(filter(None, _turn_problems(messages)), "")


def _turn_problems(messages: list[Any]) -> Iterator[str]:
    expected = "user"
    for number, turn in enumerate(messages, 1):
        yield _turn_problem(turn, number)
        role = turn["role"]
        if role == "system" and number == 1:
            continue
        if role != expected:
            yield f"turn {number} is {role}, expected {expected}"
        expected = "assistant" if role == "user" else "user"
    if expected != "user" or messages[-1]["role"] != "assistant":
        yield "the last turn is not the assistant's"
    if all(turn.get("weight") == 0 for turn in messages if turn["role"] == "assistant"):
        yield "every answer has weight 0, so there is nothing to learn"


def _turn_problem(turn: Any, number: int) -> str:
    if not isinstance(turn, dict):
        return f"turn {number} is {_kind(turn)}, not an object"
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        return f"turn {number} has the unknown role {role!r}"
    weight = turn.get("weight")
    if weight is not None and not _is_weight(weight):
        return f"turn {number} has the weight {weight!r}, not 0 or 1"
    if weight and role != "assistant":
        return f"turn {number} is the {role}'s and has weight 1, but only answers are learnt"
    if not isinstance(content, str):
        calls = content is None and (turn.get("tool_calls") or turn.get("function_call"))
        what = "calls a tool instead of saying something"
        return (
            f"turn {number} {what if calls else f'has {_kind(content)} as content, not a string'}"
        )
    return f"turn {number} is empty" if is_empty(content) else ""


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null", int: "an int"}
    return names.get(type(value), f"a {type(value).__name__}")


def encode_reject(record: Record, problem: Problem) -> bytes:
    """The line of a rejected row in the side file: file, line, reason and the original."""
    original = (
        record.line.decode("utf-8", "backslashreplace")
        if record.line is not None
        else orjson.dumps(record.row, default=repr).decode("utf-8")
    )
    entry = {"file": problem.file, "line": problem.line, "reason": problem.reason}
    return orjson.dumps(entry | {"original": original}, option=orjson.OPT_APPEND_NEWLINE)


def lint_files(
    paths: Sequence[Path],
    columns: Sequence[Sequence[str]] | None = None,
    rejects: Path | None = None,
) -> LintReport:
    """Lints the files of one data set; a conversation may occur in one of them only, and once.

    Args:
        paths: The files, such as both sides of a split.
        columns: The required columns of each; by default `messages` of all.
        rejects: Where rejected rows go; nowhere by default. Written only if there are any.

    Raises:
        FixableError: a file cannot be read, or has no row without a problem.
    """
    linter = Linter()
    with replace_together(*([rejects] if rejects else [])) as files:
        for place, path in enumerate(paths):
            linter.required = columns[place] if columns else ("messages",)
            kept = linter.report.kept
            for _ in lint_source(linter, open_file(path), *files):
                pass
            if linter.report.kept == kept:
                raise no_rows_left(path, linter.report)
    if rejects and not linter.report.rejected:
        rejects.unlink(missing_ok=True)
    return linter.report


def lint_source(
    linter: Linter, source: Source, rejects: BinaryIO | None = None
) -> Iterator[list[Record]]:
    """The clean records of a source, batch by batch; the others go to the side file."""
    for batch in source.batches:
        clean, rejected = linter.check(batch)
        if rejects:
            rejects.writelines(encode_reject(record, problem) for record, problem in rejected)
        yield clean


def no_rows_left(source: Path | str, report: LintReport) -> FixableError:
    """The error of a source of which nothing can be used."""
    if not report.rows:
        return FixableError(f"{source} is empty", fix="give rows with messages (data/README.md)")
    if report.first is None:
        return FixableError(f"no usable row in {source} ({report})", fix="give other rows")
    record, problem = report.first
    form, fix = advise(record, problem.reason, str(source))
    return FixableError(f"no usable row in {source} ({report}; the first: {problem}){form}", fix)

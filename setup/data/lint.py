"""The linter: which rows are conversations a fine-tune can learn from, and why the others are not.

A row needs `messages`: turns of `role` and `content`, user and assistant in turn after an optional
system turn, the assistant last, no turn empty; and no conversation may occur twice. A turn may have
a `weight`, 0 or 1: an answer of weight 0 is context and is not learnt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from setup.common.errors import FixableError
from setup.common.files import replace_together

from .advice import Advice, advise
from .rows import is_empty
from .seen import SeenKeys, quick_key
from .sources.file import Record, Source, open_file

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


@dataclass
class LintReport:
    """The linter's count; `problems` holds the first 20, the side file all of them.

    `duplicates` are among the rejected, and so are those `unwanted` by data.near_duplicates and
    data.personal; `first` is the first of the others, with its problem.
    """

    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    unwanted: int = 0
    problems: list[Problem] = field(default_factory=list)
    first: tuple[Record, Problem] | None = None

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
        unwanted = f"{self.unwanted} by data.near_duplicates or data.personal"
        first = f"the first: {self.first[1]}" if self.first else ""
        return ", ".join(filter(None, (said, unwanted if self.unwanted else "", first)))

    def no_rows_left(self, source: Path | str) -> FixableError:
        """The error of a source of which nothing can be used."""
        if not self.rows:
            return FixableError(f"{source} is empty", "give rows with messages (data/README.md)")
        form, fix = self.advice(source)
        why = f"; {self.why}" if self.why else ""
        return FixableError(f"no usable row in {source} ({self}{why}){form}", fix)

    def advice(self, source: Path | str) -> Advice:
        """The advice on the first rejected row, where there is one that is no duplicate."""
        if self.first is None:
            keep = ", or --set data.personal=mask" if self.unwanted else ""
            return Advice("", f"give other rows{keep}")
        record, problem = self.first
        return advise(record, problem.reason, str(source))


class Linter:
    """Lints batches of records; remembers the conversations of all of them.

    Args:
        reject: Takes the line of a rejected row for the side file.
        closely: The conversations that are compared to the last mark (setup/data/seen.py).

    `unread` counts the rows by what they hold and nobody reads.
    """

    def __init__(
        self,
        reject: Callable[[bytes], Any] | None = None,
        closely: Container[int] | None = None,
    ) -> None:
        self.required: Sequence[str] = ("messages",)
        self.report = LintReport()
        self.unread: Counter[str] = Counter()
        self.seen = SeenKeys()
        self._write_reject, self._closely = reject, closely

    def clean(self, source: Source) -> Iterator[list[Record]]:
        """The clean records of a source, batch by batch; the others go to the side file."""
        for batch in source.batches:
            reasons = [r.problem or find_problem(r.row, self.required) for r in batch]
            keys = [
                quick_key(record.row["messages"], self._closely)
                for record, reason in zip(batch, reasons, strict=True)
                if not reason
            ]
            repeated, clean = iter(self.seen.add(keys)), []
            for record, reason in zip(batch, reasons, strict=True):
                if reason or next(repeated):
                    self._reject(record, reason or _DUPLICATE)
                else:
                    clean.append(record)
                    if unread := _unread(record.row):
                        self.unread.update(unread)
            self.report.rows += len(batch)
            yield clean

    def leave_out(self, record: Record, reason: str) -> None:
        """Reject a record that nothing is wrong with."""
        self.report.unwanted += 1
        self._reject(record, reason, is_faulty=False)

    def _reject(self, record: Record, reason: str, is_faulty: bool = True) -> None:
        report, problem = self.report, Problem(record.file, record.number, reason)
        report.rejected += 1
        if reason == _DUPLICATE:
            report.duplicates += 1
        elif is_faulty and report.first is None:
            report.first = record, problem
        if len(report.problems) < _SHOWN:
            report.problems.append(problem)
        if self._write_reject:
            self._write_reject(_encode_reject(record, problem))


def _encode_reject(record: Record, problem: Problem) -> bytes:
    """The line of a rejected row in the side file: file, line, reason and the original."""
    original = (
        record.line.decode("utf-8", "backslashreplace")
        if record.line is not None
        else orjson.dumps(record.row, default=repr).decode("utf-8")
    )
    entry = {"file": problem.file, "line": problem.line, "reason": problem.reason}
    return orjson.dumps(entry | {"original": original}, option=orjson.OPT_APPEND_NEWLINE)


def _unread(row: dict[str, Any]) -> set[str]:
    """Name what a clean row holds that others learn from, or forbid learning by, unread here."""
    unread = {
        f"{name} in a turn"
        for turn in row["messages"]
        if len(turn) > 2
        for name, value in turn.items()
        if name not in _READ_OF_TURN and value not in _NOTHING
    }
    for name in _BESIDE_TURNS:
        if name in row and row[name] not in _NOTHING:
            unread.add(f"{name} beside messages")
    return unread


def find_problem(row: Any, required: Sequence[str] = ("messages",)) -> str:
    """Return the reason why a row is not a conversation to learn from, or "" when it is one."""
    if not isinstance(row, dict):
        return f"the row is {_kind(row)}, not an object"
    missing = next((column for column in required if row.get(column) is None), "")
    if missing:
        return f"column {missing} is missing"
    if not isinstance(row.get("prompt", ""), str | None):
        return f"column prompt is {_kind(row['prompt'])}, not a string"
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        return "messages is not a list of turns"
    return "" if _is_usual(messages) else _turns_problem(messages)


def _is_usual(turns: list[Any]) -> bool:
    """Tell whether all turns are as nearly all are: there is nothing to look at more closely."""
    expected, role = "user", None
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return False
        role, content = turn.get("role"), turn.get("content")
        if type(content) is not str or not ("!" <= content[:1] <= "~" or content[:1].isalnum()):
            return False
        if role == expected:
            expected = "assistant" if role == "user" else "user"
        elif role != "system" or turn is not turns[0]:
            return False
    return role == "assistant"


def _turns_problem(turns: list[Any]) -> str:
    expected = "user"
    for number, turn in enumerate(turns, 1):
        if problem := _turn_problem(turn, number):
            return problem
        role = turn["role"]
        if role == "system" and number == 1:
            continue
        if role != expected:
            return f"turn {number} is {role}, expected {expected}"
        expected = "assistant" if role == "user" else "user"
    if expected != "user" or turns[-1]["role"] != "assistant":
        return "the last turn is not the assistant's"
    if all(turn.get("weight") == 0 for turn in turns if turn["role"] == "assistant"):
        return "every answer has weight 0, so there is nothing to learn"
    return ""


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
    with replace_together(*([rejects] if rejects else [])) as files:
        linter = Linter(files[0].write if files else None)
        for place, path in enumerate(paths):
            linter.required = columns[place] if columns else linter.required
            kept = linter.report.kept
            for _ in linter.clean(open_file(path)):
                pass
            if linter.report.kept == kept:
                raise linter.report.no_rows_left(path)
    if rejects and not linter.report.rejected:
        rejects.unlink(missing_ok=True)
    return linter.report

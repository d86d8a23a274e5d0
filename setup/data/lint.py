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
from .formats import as_messages
from .origin import Origin
from .rows import is_empty
from .seen import SeenKeys, quick_key
from .sources.file import open_file
from .sources.record import Record, Source
from .stream import Stream

ROLES = ("system", "user", "assistant", "tool")
TRAIN_COLUMNS = ("prompt", "prompt_id", "messages")
TEST_COLUMNS = (*TRAIN_COLUMNS, "question", "chat_history", "ground_truth", "facts")
# What else of a turn, and beside the turns, changes what other trainers learn from a row.
_READ_OF_TURN = {"role", "content", "weight", "tool_calls"}
_READ_OF_TOOL = {*_READ_OF_TURN, "tool_call_id", "name"}
_BESIDE_TURNS = ("weight", "label", "system", "system_prompt", "chosen", "rejected")
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_DUPLICATE = "the conversation occurs before"
_IN_TEST = "the conversation stands in data.test"
_SHOWN = 20
_FOLLOWERS = {"user": ("assistant",), "assistant": ("user",), "tool": ("tool", "assistant")}


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

    `duplicates` are among the rejected, `in_test` among these, and so are those `unwanted` by
    data.near_duplicates and data.personal; `first` is the first of the others, with its problem.
    """

    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    unwanted: int = 0
    in_test: int = 0
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

    def no_rows_left(self, source: Path | str, rows: int) -> FixableError:
        """The error of a source of which nothing can be used of its ``rows``."""
        if not rows:
            return FixableError(f"{source} is empty", "give rows with messages (data/README.md)")
        form, fix = self.advice(source)
        why = f"; {self.why}" if self.why else ""
        said = str(self) if rows == self.rows else f"rows={rows} kept=0 rejected={rows}"
        return FixableError(f"no usable row in {source} ({said}{why}){form}", fix)

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

    `unread` counts the rows by what they hold and nobody reads; `tested` holds the conversations of
    a test split of its own, once they were all read.
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
        self.tested: SeenKeys | None = None
        self._write_reject, self._closely = reject, closely

    def clean(self, source: Source) -> Iterator[list[Record]]:
        """The clean records of a source, batch by batch; the others go to the side file."""
        self.report.first = None
        for batch in source.batches:
            reasons = [r.problem or find_problem(r.row, self.required) for r in batch]
            keys = [
                quick_key(record.row["messages"], self._closely)
                for record, reason in zip(batch, reasons, strict=True)
                if not reason
            ]
            tested = self.tested.know(keys) if self.tested else [False] * len(keys)
            known, clean = iter(zip(self.seen.add(keys), tested, strict=True)), []
            for record, reason in zip(batch, reasons, strict=True):
                is_repeated, is_tested = (False, False) if reason else next(known)
                if reason or is_repeated:
                    self._reject(record, reason or (_IN_TEST if is_tested else _DUPLICATE))
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

    def clean_stream(self, stream: Stream) -> Iterator[list[Record]]:
        """The clean records of one of several sources; what stands in the test split is rejected.

        Raises:
            FixableError: None is clean.
        """
        if stream.side == "train" and self.tested is None:
            self.tested = self.seen.snapshot()
        rows, kept = self.report.rows, self.report.kept
        yield from self.clean(stream.source)
        stream.rows, stream.kept = self.report.rows - rows, self.report.kept - kept
        if not stream.kept:
            raise self.report.no_rows_left(stream.origin.source, stream.rows)

    def _reject(self, record: Record, reason: str, is_faulty: bool = True) -> None:
        report, problem = self.report, Problem(record.file, record.number, reason)
        report.rejected += 1
        report.in_test += reason == _IN_TEST
        if reason in (_DUPLICATE, _IN_TEST):
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
        else orjson.dumps(record.given or record.row, default=repr).decode("utf-8")
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
        if name not in _known(turn) and value not in _NOTHING
    }
    for name in _BESIDE_TURNS:
        if name in row and row[name] not in _NOTHING:
            unread.add(f"{name} beside messages")
    return unread


def _known(turn: dict[str, Any]) -> set[str]:
    """What is read of a turn; the id of a call only where a tool answers."""
    return _READ_OF_TOOL if turn["role"] == "tool" else _READ_OF_TURN


def uses_tools(row: dict[str, Any]) -> bool:
    """Tell whether a clean row offers, calls or answers for tools."""
    return bool(row.get("tools")) or any(
        (len(turn) > 2 and turn.get("tool_calls")) or turn["role"] == "tool"
        for turn in row["messages"]
    )


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
    expected: tuple[str, ...] = ("user",)
    open_calls = set[str]()
    for number, turn in enumerate(turns, 1):
        if problem := _turn_problem(turn, number):
            return problem
        role = turn["role"]
        if role == "system" and number == 1:
            continue
        if role not in expected:
            return f"turn {number} is {role}, expected {' or '.join(expected)}"
        if (
            role == "tool"
            and open_calls
            and turn.get("tool_call_id", None) not in {None, *open_calls}
        ):
            return f"turn {number} answers the call {turn['tool_call_id']!r}, which nobody made"
        if calls := turn.get("tool_calls"):
            expected, open_calls = ("tool",), {call["id"] for call in calls if call.get("id")}
        else:
            expected = _FOLLOWERS[role]
    if turns[-1]["role"] != "assistant":
        return "the last turn is not the assistant's"
    if all(turn.get("weight") == 0 for turn in turns if turn["role"] == "assistant"):
        return "every answer has weight 0, so there is nothing to learn"
    return ""


def _turn_problem(turn: Any, number: int) -> str:
    if not isinstance(turn, dict):
        return f"turn {number} is {_kind(turn)}, not an object"
    role = turn.get("role")
    if role not in ROLES:
        return f"turn {number} has the unknown role {role!r}"
    weight = turn.get("weight")
    if weight is not None and not _is_weight(weight):
        return f"turn {number} has the weight {weight!r}, not 0 or 1"
    if weight and role != "assistant":
        return f"turn {number} is the {role}'s and has weight 1, but only answers are learnt"
    return _content_problem(turn, number)


def _content_problem(turn: dict[str, Any], number: int) -> str:
    content, calls = turn.get("content"), turn.get("tool_calls")
    if not isinstance(content, str):
        return f"turn {number} has {_kind(content)} as content, not a string"
    if calls:
        return _calls_problem(calls, number, turn["role"])
    return f"turn {number} is empty" if is_empty(content) and turn["role"] != "tool" else ""


def _calls_problem(calls: Any, number: int, role: str) -> str:
    if role != "assistant":
        return f"turn {number} is the {role}'s and calls a tool, which only the assistant does"
    functions = [
        call.get("function") if isinstance(call, dict) else None
        for call in (calls if isinstance(calls, list) else [None])
    ]
    named = [isinstance(function, dict) and function.get("name") for function in functions]
    return "" if all(named) else f"turn {number} calls a tool without a name"


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
            rows, kept = linter.report.rows, linter.report.kept
            for _ in linter.clean(as_messages(open_file(path), Origin(str(path), format="openai"))):
                pass
            if linter.report.kept == kept:
                raise linter.report.no_rows_left(path, linter.report.rows - rows)
    if rejects and not linter.report.rejected:
        rejects.unlink(missing_ok=True)
    return linter.report

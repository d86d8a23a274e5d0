"""The linter: which rows are conversations a fine-tune can learn from, and why the others are not.

A row needs `messages`: turns of `role` and `content`, user and assistant in turn after an optional
system turn, the assistant last, no turn empty; and no conversation may occur twice. A turn may have
a `weight`, 0 or 1: an answer of weight 0 is context and is not learnt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from setup.common.errors import FixableError
from setup.common.files import replace_together

from .advice import Advice, advise
from .formats import as_messages
from .formats.origin import Origin
from .formats.rules import find_problem, find_unread
from .formats.source import Record, Source
from .rows import conversation_key
from .seen import SeenKeys, quick_key
from .sources.file import open_file
from .sources.stream import Stream

TRAIN_COLUMNS = ("prompt", "prompt_id", "messages")
TEST_COLUMNS = (*TRAIN_COLUMNS, "question", "chat_history", "ground_truth", "facts")
_DUPLICATE = "the conversation occurs before"
_IN_TEST = "the conversation stands in data.test"
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
        before = self.duplicates - self.in_test
        said = [
            f"{before} of them occur before" if before else "",
            f"{self.in_test} stand in data.test" if self.in_test else "",
            f"{self.unwanted} by data.near_duplicates or data.personal" if self.unwanted else "",
            f"the first: {self.first[1]}" if self.first else "",
        ]
        return ", ".join(filter(None, said))

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
        self._side, self._tested = "", SeenKeys()
        self._write_reject, self._closely = reject, closely

    def clean(self, source: Source) -> Iterator[list[Record]]:
        """The clean records of a source, batch by batch; the others go to the side file."""
        self.report.first = None
        for batch in source.batches:
            reasons = [r.problem or find_problem(r.row, self.required) for r in batch]
            keys = [
                self._key(record.row)
                for record, reason in zip(batch, reasons, strict=True)
                if not reason
            ]
            tested = self._find_in_test(
                [r.row["messages"] for r, reason in zip(batch, reasons, strict=True) if not reason]
            )
            known, clean = iter(zip(self.seen.add(keys), tested, strict=True)), []
            for record, reason in zip(batch, reasons, strict=True):
                is_repeated, is_tested = (False, False) if reason else next(known)
                if reason or is_repeated or is_tested:
                    self._reject(record, reason or (_IN_TEST if is_tested else _DUPLICATE))
                else:
                    clean.append(record)
                    if unread := find_unread(record.row):
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
        self._side = stream.side
        rows, kept = self.report.rows, self.report.kept
        yield from self.clean(stream.source)
        stream.rows, stream.kept = self.report.rows - rows, self.report.kept - kept
        if not stream.kept:
            raise self.report.no_rows_left(stream.origin.source, stream.rows)

    def _key(self, row: dict[str, Any]) -> int:
        """The key of a conversation, and of the tools that it offers: with others it is another."""
        key = quick_key(row["messages"], self._closely)
        if tools := row.get("tools"):
            offered = orjson.dumps(tools, default=str, option=orjson.OPT_SORT_KEYS)
            key ^= int.from_bytes(blake2b(offered, digest_size=8).digest(), "little")
        return key

    def _find_in_test(self, talks: list[list[dict[str, Any]]]) -> list[bool]:
        """Tell of conversations to train on if they stand in data.test, whatever the system says.

        Those of data.test are remembered.
        """
        if self._side:
            said = ([turn for turn in talk if turn["role"] != "system"] for talk in talks)
            keys = [int.from_bytes(conversation_key(talk)[:8], "little") for talk in said]
            if self._side == "train":
                return self._tested.know(keys)
            self._tested.add(keys)
        return [False] * len(talks)

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

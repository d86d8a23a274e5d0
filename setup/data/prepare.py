"""From a source of conversations to a train and a test file, at constant memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from setup.common.console import TASK, progress_bar, shorten
from setup.common.errors import FixableError
from setup.common.files import fixable_read, fixable_write, replace_together

from . import lint, manifest, provenance, rows, screen
from .formats.source import Record
from .plan import DataPlan, Prepared
from .sources.sides import Sides
from .sources.stream import Stream, open_streams, total_rows
from .split import Splitter

_CUT = "test rows end with answers of weight 0, and ask for the last one before"
_NOTHING_TO_TEST = (
    "the test file has no rows, so that nothing can be evaluated on it: give data.test, or add "
    "conversations without tools"
)
_LONGEST_OPENING = 40
_UNREAD_NAMED = 8
_MOST_ALIKE = 1 << 16  # that are remembered; where there are more, all are looked at closely
_OFTEN_ALIKE = 1 / 50  # the share of rows from which on that takes less time, if it is known early
_EARLY = 1000  # rows


def prepare_data(plan: DataPlan) -> Prepared:
    """Makes the train and test files of a plan, or finds that an earlier run did.

    Rows that are no conversation go to a side file with their reason and are counted. The split
    goes by a seeded hash of how a conversation opens (setup/data/split.py): those that open alike
    are on one side, and a row keeps its side when rows are added. The shares are therefore close to
    `test_ratio`, not exact.

    Raises:
        FixableError: the source cannot be had or read, no row of it is usable, one side of the
            split would be empty, files that `data` did not write would be overwritten, or one's own
            data were forgotten.
    """
    if plan.is_sample:
        provenance.refuse_forgotten(plan)
        return _check_sample(plan)
    with fixable_read(plan.name):
        done = manifest.read_manifest(plan)
        if done:
            return done
        manifest.refuse_overwriting(plan)
        streams = open_streams(plan)
        # Before it is read: a change meanwhile must not pass for what was read.
        source_sha256 = manifest.source_sha256(plan)
    with (
        fixable_write(plan.out, manifest.another_folder(plan)),
        manifest.sole_writer(plan),
    ):
        manifest.refuse_overwriting(plan)
        counts, notes, digests, summary, streams = _write(plan, streams)
        revision = ", ".join(filter(None, (stream.source.revision for stream in streams)))
        facts: manifest.Note = {"source_sha256": source_sha256, "revision": revision}
        facts |= {"counts": counts, "summary": summary}
        facts["sources"] = [stream.facts() for stream in streams]
        manifest.write_note(plan, facts | {"notes": list(notes), "sha256": digests})
    return manifest.result(plan, counts, notes, summary=summary)


def _check_sample(plan: DataPlan) -> Prepared:
    files = [plan.paths.train, plan.paths.test]
    report = lint.lint_files(files, [lint.TRAIN_COLUMNS, (*lint.TEST_COLUMNS, "must_decline")])
    if report.rejected:
        raise FixableError(
            f"the committed sample has {report.rejected} bad rows, the first: {report.problems[0]}",
            fix="python -m setup.data.sample",
        )
    counts = {"rows": report.rows, "kept": report.kept, "rejected": 0}
    counts["train_rows"] = lint.lint_files(files[:1]).rows
    counts["test_rows"] = report.rows - counts["train_rows"]
    summary = screen.summarise(plan, files)
    return manifest.result(plan, counts, already_there=True, summary=summary)


class _OnceMoreError(Exception):
    """Begin again, with what this pass has shown and is noted in `_Shown`."""


@dataclass
class _Shown:
    """The findings of passes over the source, as the next one needs them.

    Attributes:
        past: Openings to look past, with their texts.
        closely: The conversations to compare closely; None for all of them.
        near: The near-duplicates of the split as it is now.
        with_tools: The openings of rows with tools, which all go to train.
    """

    past: dict[bytes, str] = field(default_factory=dict)
    closely: set[int] | None = field(default_factory=set)
    near: screen.NearFound | None = None
    with_tools: frozenset[bytes] = frozenset()


# Counts, notes, digests of the files, figures of the rows, and the sources.
_Outcome = tuple[dict[str, int], tuple[str, ...], dict[str, str], dict[str, int], list[Stream]]


def _write(plan: DataPlan, streams: list[Stream]) -> _Outcome:
    """Write all files, again where rows turn out to be much alike."""
    shown = _Shown()
    while True:
        writer = _Writer(plan, shown)
        try:
            writer.write(streams)
        except _OnceMoreError:
            streams = open_streams(plan, streams)
            continue
        told = [
            f"many conversations open with {shorten(opening, _LONGEST_OPENING)!r}: split by what "
            "comes after it"
            for opening in shown.past.values()
        ]
        read = [line for stream in streams for line in stream.source.said()]
        kept = [f"{count} {note}" if count else note for note, count in writer.notes.items()]
        notes = (*read, *told, *kept, *writer.screen.notes())
        return writer.counts, notes, writer.digests, writer.screen.facts(), streams


class _Writer:
    """Writes the three files of a plan."""

    def __init__(self, plan: DataPlan, shown: _Shown) -> None:
        self._plan, self._shown = plan, shown
        followers = shown.near.followers if shown.near else None
        splitter = Splitter(plan.test_ratio, plan.seed, shown.past, followers)
        self._sides = Sides(splitter, shown.with_tools)
        self.screen = screen.Screen(plan, shown.near)
        self.notes: Counter[str] = Counter()
        self.counts: dict[str, int] = {}
        self.digests: dict[str, str] = {}

    def write(self, streams: list[Stream]) -> None:
        """Write them, the reasons of the rejected rows also when no row is left to train on.

        Raises:
            FixableError: One of the sides would be empty.
            _OnceMoreError: It must be done again.
        """
        paths, failure = self._plan.paths, None
        with replace_together(paths.rejects, private=self._plan.has_feedback) as (file,):
            rejects = manifest.Draft(paths.rejects, file)
            linter = lint.Linter(rejects.write, self._shown.closely)
            try:
                self._write_sides(linter, streams, rejects)
            except FixableError as error:
                failure = error
                self._claim(rejects)
        if not linter.report.rejected:
            paths.rejects.unlink(missing_ok=True)
            self.digests.pop(paths.rejects.name, None)
        if failure:
            raise failure

    def _write_sides(
        self, linter: lint.Linter, streams: list[Stream], rejects: manifest.Draft
    ) -> None:
        plan, report = self._plan, linter.report
        with (
            replace_together(plan.paths.train, plan.paths.test, private=plan.has_feedback) as files,
            progress_bar("preparing", total_rows(streams)) as bar,
        ):
            train = manifest.Draft(plan.paths.train, files[0])
            test = manifest.Draft(plan.paths.test, files[1])
            for stream in streams:
                for clean in linter.clean_stream(stream):
                    admitted = self.screen.admit(clean, linter.leave_out)
                    self._split(admitted, stream, train, test)
                    bar.update(TASK, completed=report.rows)
                    self._refuse_to_look_quickly(linter)
            self._ask_once_more(linter)
            self.notes.update(dict.fromkeys(self._sides.notes(report.in_test), 0))
            sides = {"train_rows": train.rows, "test_rows": test.rows}
            self._check_sides(report, sides)
            for what, count in linter.unread.most_common(_UNREAD_NAMED):
                note = f"row{'s have' if count > 1 else ' has'} {what}, which is not read"
                self.notes[note] = count
            self._claim(train, test, rejects)
        whole = {"rows": report.rows, "kept": report.kept, "rejected": report.rejected}
        self.counts = whole | sides

    def _refuse_to_look_quickly(self, linter: lint.Linter) -> None:
        """Begin anew where so many rows are alike that a quick pass would be for nothing."""
        alike, read = len(linter.seen.alike), linter.report.rows
        often = read >= _EARLY and alike > read * _OFTEN_ALIKE
        if self._shown.closely is not None and (often or alike > _MOST_ALIKE):
            self._shown.closely = self._shown.near = None
            raise _OnceMoreError

    def _ask_once_more(self, linter: lint.Linter) -> None:
        shown, sides = self._shown, self._sides
        if shown.closely is not None and (alike := linter.seen.alike - shown.closely):
            shown.closely, shown.near = shown.closely | alike, None
            raise _OnceMoreError
        if common := sides.splitter.common():
            shown.past, shown.near = shown.past | common, None
            raise _OnceMoreError
        if moved := sides.moved_late():
            shown.with_tools |= moved
            raise _OnceMoreError
        if near := self.screen.settle(sides.goes_to_test):
            shown.near = near
            raise _OnceMoreError

    def _claim(self, *drafts: manifest.Draft) -> None:
        """Note the drafts as ours; what stands in their places and is not, keeps another name."""
        for draft in drafts:
            draft.file.flush()
            self.digests[draft.target.name] = draft.sha256
        for note in manifest.claim(self._plan.paths, drafts):
            self.notes[note] = 0

    def _split(
        self, records: list[Record], stream: Stream, train: manifest.Draft, test: manifest.Draft
    ) -> None:
        """Write each record to its side, to train as often as its weight says."""
        sides: tuple[list[bytes], list[bytes]] = [], []
        for record in records:
            row, messages = record.row, record.row["messages"]
            if not (row.get("prompt") and row.get("prompt_id")):
                row["prompt"] = row.get("prompt") or rows.user_turns(messages)[0]
                row["prompt_id"] = row.get("prompt_id") or rows.conversation_id(messages)
            opening = self._sides.opening(messages, stream)
            is_test = self._sides.is_test(row, stream, opening)
            self.screen.take(record, opening, stream.side)
            copies = self._sides.copies(messages, stream, is_test, self._plan.seed)
            if copies:
                line = rows.encode_row(self._test_row(row) if is_test else row)
                sides[bool(is_test)].append(line)
            for time in range(2, copies + 1):
                sides[0].append(rows.encode_row(row | {rows.COPY: time}))
        for draft, lines in zip((train, test), sides, strict=True):
            draft.rows += len(lines)
            draft.write(b"".join(lines))

    def _test_row(self, row: rows.Row) -> rows.Row:
        messages = row["messages"]
        asked = rows.learnt_part(messages)
        if len(asked) < len(messages):
            self.notes[_CUT] += 1
        columns = rows.flat_columns(asked)
        own = [name for name, value in columns.items() if row.get(name) not in (None, value)]
        if own:
            self.notes[f"test rows with another {', '.join(own)}: written anew from messages"] += 1
        return {"facts": [], **row, **columns}

    def _check_sides(self, report: lint.LintReport, sides: dict[str, int]) -> None:
        if not report.kept:
            raise report.no_rows_left(self._plan.name, report.rows)
        if all(sides.values()):
            return
        if sides["train_rows"] and self._sides.with_tools:
            self.notes[_NOTHING_TO_TEST] = 0
            return
        rejected = f" ({report.rejected} of {report.rows} were rejected: {report.why})"
        what = (
            f"{report.kept} rows{rejected if report.rejected else ''} are too few to split with "
            f"ratio {self._plan.test_ratio}: one side is empty "
            f"(train={sides['train_rows']} test={sides['test_rows']})"
        )
        seed = self._sides.splitter.seed_for_both()
        others = "add conversations that open in other words"
        if seed is not None:
            others = f"add rows, or --set data.seed={seed}, which leaves rows on both sides"
        elif report.duplicates or report.unwanted:
            others = "add other conversations: these are one, again and again"
        if report.first is not None:
            others += f"; the rejected ones: {report.advice(self._plan.name).fix}"
        raise FixableError(what, others)

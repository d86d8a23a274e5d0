"""The choice of a format by the first row that has one, and the rows of a source in that format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from setup.common.errors import FixableError

from .adapters import BESIDE_TURNS, BY_NAME, FORMATS, Format, Row, is_nothing, is_ready, to_row
from .origin import AUTO, Origin
from .rules import kind_of
from .source import Record, Source
from .turns import UnusableError

_NAMED = 8
_READ_LATER = ("facts", "must_decline", "prompt_id", "id", "")  # by an evaluation, or by nobody


def as_messages(source: Source, origin: Origin) -> Source:
    """The rows of ``source`` with `messages`; ``notes`` say what was taken for them.

    Raises:
        FixableError: While it is read, that a row fits two formats, or has a column that is named
            only under another name.
    """
    reader = Reader(origin)
    return replace(source, batches=reader.read(source))


class Reader:
    """Reads the rows of one source in the format that it finds, or is told.

    Args:
        origin: The source.
        others: Asked where rows fit several formats: those of the rows that they go with.

    Attributes:
        form: The format, None until a row has told it.
        taken: The columns that were read, by what they hold.
    """

    def __init__(self, origin: Origin, others: Callable[[], Collection[str]] = tuple) -> None:
        self._origin, self._others = origin, others
        self.form: Format | None = None if origin.format == AUTO else BY_NAME[origin.format]
        self._is_openai = False  # without a column of another name
        self.taken: dict[str, str] = {}
        self._left: dict[str, None] = {}
        self._seen: dict[str, None] = {}
        if origin.columns:
            self._check_names()

    def read(self, source: Source) -> Iterator[list[Record]]:
        """The records of ``source``, each with its row as messages or with its problem."""
        for batch in source.batches:
            for record in batch:
                if isinstance(record.row, dict) and not record.problem:
                    self._convert(record, source.notes)
            yield batch
        if missing := [name for name in self._origin.columns.values() if name not in self._seen]:
            columns = ", ".join(list(map(str, self._seen))[:_NAMED]) or "none"
            raise FixableError(
                f"{self._origin.source} has no column {missing[0]}; its columns are {columns}",
                "correct data.columns, or give this source its own: "
                f"{{source: {self._origin.source}, columns: {{…}}}}",
            )
        if said := self._said():
            source.notes[said] = 0

    def _convert(self, record: Record, notes: Counter[str]) -> None:
        row = record.row
        if self._is_openai and is_ready(row):
            return
        if self._origin.columns:
            self._seen |= dict.fromkeys(row)
        form = self.form = self.form or self._choose(row, notes)
        self._is_openai = form is BY_NAME["openai"] and not self._origin.columns
        if form is None:
            record.problem = f"it fits no format: {_misfit(row, self._origin.columns)}"
            return
        given = row if record.line is None and record.given is None else record.given
        try:
            record.row, taken = to_row(row, form, self._origin.columns)
        except UnusableError as error:
            record.problem = _explain(error, row, form)
            return
        record.given = given
        self.taken |= taken
        if form.name != "openai" or self._origin.columns:
            self._left |= dict.fromkeys(row.keys() - taken.values())
            _note_answers(row, taken, record.row["messages"], notes)

    def _choose(self, row: Row, notes: Counter[str]) -> Format | None:
        columns = self._origin.columns
        fitting = [form for form in FORMATS if form.fits(row, columns)]
        if len(fitting) > 1:
            others = self._others()
            alike = [form for form in fitting if form.name in others]
            if len(alike) != 1:
                raise self._ambiguous(row, fitting)
            fits = " and ".join(form.name for form in fitting)
            taken = f"read as {alike[0].name}, as the rows to train on are"
            told = f"{self._origin.source} fits {fits}: {taken}"
            notes[told], fitting = 0, alike
        if not fitting:
            return None
        (form,) = fitting
        if clash := form.clash(row, columns):
            what, names = clash
            options = [self._origin.set_option(f"columns.{what}", name) for name in names]
            raise FixableError(
                f"{self._origin.source} has the {what} of {form.name} in {len(names)} columns: "
                f"{', '.join(names)}",
                ", or ".join(options),
            )
        return form

    def _ambiguous(self, row: Row, fitting: list[Format]) -> FixableError:
        fits = []
        for form in fitting:
            names = [
                name for names in form.needed(row, self._origin.columns).values() for name in names
            ]
            fits.append(f"{form.name} ({', '.join(names)})")
        columns = ", ".join(list(map(str, row))[:_NAMED])
        options = [self._origin.set_option("format", form.name) for form in fitting]
        return FixableError(
            f"{self._origin.source} fits {len(fits)} formats, {' and '.join(fits)}; its columns "
            f"are {columns}",
            ", or ".join(options),
        )

    def _check_names(self) -> None:
        """See that a format has what the user names."""
        columns = self._origin.columns
        forms = [self.form] if self.form else [*FORMATS]
        known = {what: None for form in forms for what in form.known}
        if unknown := next((what for what in columns if what not in known), ""):
            who = f"{self.form.name} does not have" if self.form else "no format has"
            raise FixableError(
                f"data.columns names {unknown}, which {who}",
                f"name what a column holds: {', '.join(known)}",
            )
        if not any(columns.keys() <= form.known.keys() for form in forms):
            raise FixableError(
                f"data.columns names {', '.join(columns)}, which no format has together",
                "; ".join(f"{form.name}: {', '.join(form.known)}" for form in forms),
            )

    def _said(self) -> str:
        """The columns and what they were taken for, unless it is what everybody expects."""
        form = self.form
        if form is None or (form.name == "openai" and not self._origin.columns):
            return ""
        taken = [name if name == what else f"{name} as {what}" for what, name in self.taken.items()]
        left = [name for name in self._left if name not in (*BESIDE_TURNS, *_READ_LATER)]
        beside = f"; not read: {', '.join(sorted(left)[:_NAMED])}" if left else ""
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        return f"{self._origin.source} is read as {form.name}: {', '.join(taken)}{beside}{more}"


def _misfit(row: Row, columns: Mapping[str, str]) -> str:
    """The value for which a row is not of the format that its columns name, else its columns."""
    for form in FORMATS:
        names = {what: form.filled(what, row, columns) for what in form.needs}
        if all(names.values()):
            able = form.needed(row, columns)
            for what in (what for what in names if not able[what]):
                name = names[what][0]
                return f"column {name}, the {what} of {form.name}, is {kind_of(row[name])}"
    return f"its columns are {', '.join(list(map(str, row))[:_NAMED]) or 'none'}"


def _explain(error: UnusableError, row: Row, form: Format) -> str:
    """The problem, and the other format that a row has where it is not that of its source."""
    others = [other.name for other in FORMATS if other is not form and other.fits(row, {})]
    if others and not form.fits(row, {}):
        return f"{error}; the row is {' or '.join(others)}, the source {form.name}"
    return str(error)


def _note_answers(row: Row, taken: dict[str, str], turns: list[Any], notes: Counter[str]) -> None:
    if "completion" not in taken:
        return
    completion = row[taken["completion"]]
    if isinstance(completion, str):
        if completion.startswith(" "):
            notes["the space that completions begin with is left out"] += 1
        return
    answers = [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "assistant"]
    if len(answers) > 1 and not is_nothing(row[taken["prompt"]]):
        notes["prompts have answers of their own, which are learnt as well (weight 0: not)"] += 1

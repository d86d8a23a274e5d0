"""The screen between linter and split: personal data, near-duplicates, a summary of the rows."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from setup.common.console import shorten
from setup.common.errors import FixableError

from .formats.source import Record
from .near import Grouped, NearDuplicates, Pair, droppable, group, sketch
from .personal import count_kind, findings, hide, mask_row
from .plan import DataPlan
from .rows import Message, conversation_id, turn_text, user_turns
from .sources.file import open_file
from .split import KEY_BYTES, Splitter

_DONE = {"mask": "masked", "reject": "rejected"}
INSPECT = "python -m setup inspect"
_SHOW = f"{INSPECT} shows them"
_LONGEST_TEXT = 60
_SIDES = ("", "train", "test")


@dataclass
class NearFound:
    """The near-duplicates of a source, as the next pass over it needs them.

    Attributes:
        grouped: Their pairs, and which openings follow which.
        dropped: Rows to leave out, by number, and the earlier rows they repeat.
        places: File and line of the rows named here.
        across: How many of them stand in train and test, as they are given.
        texts: The first questions of the two rows that an error names, as they come by.
    """

    grouped: Grouped
    dropped: dict[int, int]
    places: dict[int, str]
    across: int = 0
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def followers(self) -> Mapping[bytes, bytes]:
        """The openings that do not decide for themselves."""
        return self.grouped.followers


class Screen:
    """Looks at each row that the linter let through.

    In the first pass it keeps a sketch of each; with ``near``, which ``settle`` made of them, it
    drops rows in the second.
    """

    def __init__(self, plan: DataPlan, near: NearFound | None = None) -> None:
        self._plan, self._near = plan, near
        self._sketches = NearDuplicates()
        self._openings, self._sides = bytearray(), bytearray()
        self._files: list[str] = []
        self._places = array("Q")
        self._row = -1
        self._kinds: Counter[str] = Counter()
        self._personal_rows = 0
        self.summary: Counter[str] = Counter()

    def admit(self, records: list[Record], reject: Callable[[Record, str], None]) -> list[Record]:
        """The records that stay, masked where that is asked for; the others are rejected."""
        return [record for record in records if self._admits(record, reject)]

    def _admits(self, record: Record, reject: Callable[[Record, str], None]) -> bool:
        kinds = _kinds_of(record.row["messages"])
        if kinds:
            self._personal_rows += 1
            self._kinds.update(kinds)
            if self._plan.personal == "reject":
                reject(record, f"it holds what looks like {_listed(kinds)}")
                return False
            if self._plan.personal == "mask":
                had_id = record.row.get("prompt_id") == conversation_id(record.row["messages"])
                record.row = mask_row(record.row)
                if had_id:
                    record.row["prompt_id"] = conversation_id(record.row["messages"])
        self._row += 1
        if self._near is None:
            return True
        if self._row in self._shown():
            self._near.texts[self._row] = user_turns(record.row["messages"])[0]
        earlier = self._near.dropped.get(self._row)
        if earlier is not None:
            reject(record, f"nearly the same as {self._near.places[earlier]}")
        return earlier is None

    def _shown(self) -> tuple[int, ...]:
        pairs = self._near.grouped.pairs if self._near else []
        return pairs[0][:2] if pairs and self._plan.near_duplicates == "error" else ()

    def take(self, record: Record, opening: bytes, side: str = "") -> None:
        """Take a row that was admitted, the key of how it opens, and its side if it is given."""
        messages = record.row["messages"]
        answers = sum(turn["role"] == "assistant" for turn in messages)
        self.summary["exchanges"] += answers
        self.summary["most_exchanges"] = max(self.summary["most_exchanges"], answers)
        self.summary["with_system"] += messages[0]["role"] == "system"
        if self._near is not None:
            return
        self._sketches.add(sketch(messages))
        self._openings += opening
        self._sides.append(_SIDES.index(side))
        if not self._files or self._files[-1] != record.file:
            self._files.append(record.file)
        self._places.append(len(self._files) - 1 << 40 | record.number)

    def settle(self, is_test: Callable[[bytes], bool]) -> NearFound | None:
        """The findings for which the rows have to be read again; ``is_test`` is their split.

        Raises:
            FixableError: Near-duplicates are not to be.
        """
        if self._near is not None:
            self._refuse()
            return None
        grouped = group(self._sketches.pairs(), self._openings, KEY_BYTES) if self._places else None
        if grouped is None or not (grouped.pairs or grouped.templates):
            return None
        mode = self._plan.near_duplicates
        named = {row for pair in grouped.pairs for row in pair[:2]} if mode == "drop" else set()
        named |= {row for pair in grouped.pairs[:1] for row in pair[:2]}
        named |= {row for row, _ in grouped.templates}
        across = {pair.second for pair in grouped.pairs if self._is_across(pair)}
        near = NearFound(
            grouped,
            droppable(grouped.pairs) if mode == "drop" else {},
            {row: self._place(row) for row in named},
            len(across),
        )
        moved = not any(self._sides) and any(
            is_test(key) != is_test(leader) for key, leader in near.followers.items()
        )
        if moved or (grouped.pairs and mode != "keep"):
            return near
        self._near = near
        return None

    def _is_across(self, pair: Pair) -> bool:
        """Tell whether the two stand in both files, as somebody else has split them."""
        return any(self._sides) and self._sides[pair.first] != self._sides[pair.second]

    def _place(self, row: int) -> str:
        file, number = divmod(self._places[row], 1 << 40)
        return f"{self._files[file]}:{number}"

    def _refuse(self) -> None:
        """Raise the error of the first pair, where near-duplicates are one."""
        near, rows = self._near, self._shown()
        if near is None or len(near.texts) < len(rows) or not rows:
            return
        first, second = (
            f"{near.places[row]} ({shorten(hide(near.texts[row]), _LONGEST_TEXT)!r})"
            for row in rows
        )
        count = len({pair.second for pair in near.grouped.pairs})
        raise FixableError(
            f"{_rows(count)} nearly the same as an earlier one; the first: {second} and {first}",
            "--set data.near_duplicates=drop leaves out the later ones, keep puts both on one side",
        )

    def notes(self) -> list[str]:
        """Lines about what was found and done."""
        lines = []
        if self._kinds:
            what = f"what looks like {_listed(self._kinds, counts=True)}"
            done = _DONE.get(self._plan.personal, f"kept; {_SHOW}, --set data.personal=mask masks")
            if self._plan.personal == "reject":
                done += f"; {self._plan.paths.rejects.name} still holds them"
            hold = "rows hold" if self._personal_rows > 1 else "row holds"
            lines.append(f"{self._personal_rows} {hold} {what}: {done}")
        if self._near is None:
            return lines
        near = self._near
        grouped, dropped = near.grouped, near.dropped
        if dropped:
            lines.append(f"{_rows(len(dropped))} nearly the same as an earlier one: left out")
        elif grouped.pairs:
            count = len({pair.second for pair in grouped.pairs})
            where = ", on one side"
            if self._plan.test:
                where = f", {near.across} of them in train and test" if near.across else ""
                where += ", as they are given; --set data.near_duplicates=drop drops those in train"
            done = f"both kept{where}; {_SHOW}"
            lines.append(f"{_rows(count)} nearly the same as an earlier one: {done}")
        for row, size in grouped.templates:
            lines.append(
                f"{size} rows are alike as instances of one template are, such as "
                f"{near.places[row]}: on one side are only those that are nearly equal"
            )
        return lines

    def facts(self) -> dict[str, int]:
        """The summary, for the manifest."""
        near = self._near.grouped.pairs if self._near else []
        more = {"near_duplicates": len({pair.second for pair in near})}
        return {**self.summary, **more, "personal_rows": self._personal_rows}


def summarise(plan: DataPlan, files: Sequence[Path]) -> dict[str, int]:
    """The figures of prepared ``files``, of which nothing is changed."""
    screen, split = Screen(plan), Splitter(plan.test_ratio, plan.seed)
    for path in files:
        for batch in open_file(path).batches:
            for record in screen.admit(batch, lambda *_: None):
                screen.take(record, split.opening(record.row["messages"]))
    screen.settle(lambda _: False)
    return screen.facts()


def describe_summary(figures: Mapping[str, int]) -> str:
    """The figures of a preparation as a sentence; "" where there are none."""
    if not figures:
        return ""
    near, personal = figures.get("near_duplicates", 0), figures.get("personal_rows", 0)
    return (
        f"{figures.get('exchanges', 0):,} answers, at most {figures.get('most_exchanges', 0)} in "
        f"one conversation; {figures.get('with_system', 0):,} system messages; {near:,} "
        f"near-duplicates; what looks like personal data in {personal:,} rows"
    )


def _rows(count: int) -> str:
    return f"{count} rows are" if count > 1 else "1 row is"


def _kinds_of(messages: list[Message]) -> Counter[str]:
    text = "\n".join(map(turn_text, messages))
    return Counter(finding.kind for finding in findings(text))


def _listed(kinds: Counter[str], counts: bool = False) -> str:
    """The kinds of findings as the end of a sentence: "an IBAN and 2 card numbers"."""
    said = []
    for kind, count in sorted(kinds.items()):
        article = "an" if kind[0] in "aeiI" else "a"
        said.append(count_kind(count, kind) if counts else f"{article} {kind}")
    *most, last = said
    return f"{', '.join(most)} and {last}" if most else last

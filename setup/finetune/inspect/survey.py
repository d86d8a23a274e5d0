"""The figures of prepared data that need no model: turns, languages, repetitions, personal data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from setup.common.console import TASK, progress_bar
from setup.data import manifest
from setup.data.formats.origin import SAMPLE
from setup.data.near import NearDuplicates, sketch
from setup.data.personal import findings, hide
from setup.data.plan import DataPlan
from setup.data.rows import Message, conversation_key, learnt_part, turn_text
from setup.data.screen import INSPECT
from setup.finetune.examples.dataset import read_rows
from setup.finetune.examples.tools import Conversation, uses_tools
from setup.finetune.inspect.languages import Languages

_LISTED = 500  # pairs and findings; all are counted
_SHOWN = 70  # characters of a question
_SHORT = 4  # words: shorter answers belong to many questions
_NUMBERS = re.compile(r"\d+")
_PLACE = re.compile(r"nearly the same as \S+")


class Place(NamedTuple):
    """A row of a prepared file, counted from 1, and the first words of a question in it."""

    part: str
    number: int
    opening: str

    @property
    def row(self) -> str:
        """The row as ``--row`` takes it."""
        return f"{self.part}:{self.number}"


class Personal(NamedTuple):
    """A finding: what it looks like, in which row and turn, and the ends of it."""

    kind: str
    row: str
    turn: int
    shown: str


@dataclass
class Survey:
    """The contents of the prepared files.

    ``copies`` are rows that the weight of their source repeats: they are not looked at again.
    ``across`` counts test rows that a train row nearly repeats, ``leaks`` those of which the last
    question and its answer stand nearly word for word in any exchange of the train split.
    """

    source: str
    kind: str
    files: dict[str, str]
    rows: dict[str, int]
    rejected: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    exchanges: Counter[int] = field(default_factory=Counter)
    with_system: int = 0
    with_tools: int = 0
    copies: int = 0
    weight_0: int = 0
    languages: Languages = field(default_factory=Languages)
    duplicates: Counter[str] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)
    near_pairs: list[tuple[Place, Place]] = field(default_factory=list)
    leaks: int = 0
    leak_pairs: list[tuple[Place, Place]] = field(default_factory=list)
    personal_rows: int = 0
    personal: Counter[str] = field(default_factory=Counter)
    personal_found: list[Personal] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The survey as JSON has it."""
        pairs = {"near_duplicates": self.near_pairs, "leaks": self.leak_pairs}
        shown = {
            name: [[place._asdict() for place in pair] for pair in listed]
            for name, listed in pairs.items()
        }
        rejected = [{"reason": why, "rows": n} for why, n in self.rejected.most_common()]
        return {
            "source": self.source,
            "kind": self.kind,
            "files": self.files,
            "rows": self.rows,
            "rejected": rejected,
            "notes": self.notes,
            "exchanges": {str(n): rows for n, rows in sorted(self.exchanges.items())},
            "with_system_message": self.with_system,
            "with_tools": self.with_tools,
            "copies": self.copies,
            "answers_of_weight_0": self.weight_0,
            "languages": self.languages.as_dict(),
            "duplicates": dict(self.duplicates),
            "near_duplicates": {**self.near, "pairs": shown["near_duplicates"]},
            "leaks": {"test_rows": self.leaks, "pairs": shown["leaks"]},
            "personal": {
                "rows": self.personal_rows,
                "kinds": dict(self.personal),
                "findings": [finding._asdict() for finding in self.personal_found],
            },
        }


def survey(plan: DataPlan, train: Path, test: Path) -> Survey:
    """Read both prepared files once, and say what is in them.

    Raises:
        FixableError: One of them cannot be read.
    """
    made = _described(plan, train, test)
    reader = _Reader(made)
    total = made.rows.get("train", 0) + made.rows.get("test", 0) or None
    with progress_bar("Reading the prepared data", total) as bar:
        for part, path in (("train", train), ("test", test)):
            made.rows[part] = 0
            for number, messages in enumerate(read_rows(path), 1):
                reader.take(Place(part, number, _opening(messages)), messages)
                made.rows[part] = number
                bar.update(TASK, completed=reader.count)
    reader.compare()
    if plan.is_sample:
        made.rows |= {"read": reader.count, "kept": reader.count, "rejected": 0}
    return made


def _described(plan: DataPlan, train: Path, test: Path) -> Survey:
    """A survey with what the manifest and the side file of rejected rows tell."""
    note = None if plan.is_sample else manifest.read_note(plan.paths)
    counts = (note or {}).get("counts") or {}
    names = {"rows": "read", "kept": "kept", "rejected": "rejected"}
    rows = {said: counts[name] for name, said in names.items() if name in counts}
    rows |= {part: counts.get(f"{part}_rows", 0) for part in ("train", "test")}
    kind = SAMPLE if plan.is_sample else ", ".join(map(_kind, (note or {}).get("sources") or []))
    files = {"train": str(train), "test": str(test)}
    # Of what this command shows itself, `data` has spoken as well.
    notes = [line for line in (note or {}).get("notes") or [] if INSPECT not in line]
    made = Survey(plan.name, kind, files, rows, notes=notes)
    if rows.get("rejected") and plan.paths.rejects.is_file():
        made.rejected.update(_reasons(plan.paths.rejects))
    return made


def _kind(source: Mapping[str, Any]) -> str:
    """The format of one of the sources, as the manifest has it, and how its file is kept."""
    suffixes = "".join(Path(str(source.get("source"))).suffixes[-2:])
    return f"{source.get('format')}{f' in {suffixes}' if suffixes else ''}"


def _reasons(path: Path) -> Iterator[str]:
    """Why rows were rejected, without the numbers by which one reason would be many."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            reason = str(json.loads(line).get("reason"))
            reason = _PLACE.sub("nearly the same as an earlier row", reason)
            yield _NUMBERS.sub("N", reason)


def _opening(messages: Sequence[Message]) -> str:
    text = next((turn["content"] for turn in messages if turn["role"] == "user"), "")
    line = " ".join(hide(text[: 4 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


class _Reader:
    """Counts row by row, and keeps what must be compared at the end."""

    def __init__(self, made: Survey) -> None:
        self._made, self.count = made, 0
        self._keys: dict[bytes, str] = {}
        self._whole, self._exchanges = NearDuplicates(), NearDuplicates()
        self._places: list[Place] = []
        self._asked: list[Place] = []

    def take(self, place: Place, messages: list[Message]) -> None:
        """Count a row."""
        made, roles = self._made, [turn["role"] for turn in messages]
        made.exchanges[roles.count("user")] += 1
        made.with_system += roles[0] == "system"
        made.with_tools += uses_tools(messages)
        made.weight_0 += sum(turn.get("weight") == 0 for turn in messages)
        self.count += 1
        if isinstance(messages, Conversation) and messages.is_copy:
            made.copies += 1
            return
        made.languages.take(messages)
        self._look_for_personal(place, messages)
        key = conversation_key(messages)
        if key in self._keys:
            made.duplicates["across" if self._keys[key] != place.part else place.part] += 1
        self._keys.setdefault(key, place.part)
        self._whole.add(sketch(messages))
        for exchange in _exchanges(messages, last=place.part == "test"):
            self._exchanges.add(sketch(exchange))
            self._asked.append(place._replace(opening=_opening(exchange)))
        self._places.append(place)

    def _look_for_personal(self, place: Place, messages: list[Message]) -> None:
        made, count = self._made, 0
        for number, turn in enumerate(messages, 1):
            text = turn_text(turn)
            for kind, start, end in findings(text):
                count += 1
                made.personal[kind] += 1
                if len(made.personal_found) < _LISTED:
                    shown = hide(text)[start:end].replace("\n", " ")
                    made.personal_found.append(Personal(kind, place.row, number, shown))
        made.personal_rows += count > 0

    def compare(self) -> None:
        """Find the near-duplicates, and the test rows that stand in the train split."""
        made, places = self._made, self._places
        repeating: dict[int, str] = {}
        for pair in self._whole.pairs():
            first, second = places[pair.first], places[pair.second]
            crosses = first.part != second.part
            if crosses or pair.second not in repeating:
                repeating[pair.second] = "across" if crosses else first.part
            if crosses or len(made.near_pairs) < _LISTED:
                made.near_pairs.append((first, second))
        made.near.update(repeating.values())
        made.near_pairs.sort(key=lambda pair: pair[0].part == pair[1].part)
        del made.near_pairs[_LISTED:]
        leaks: dict[int, tuple[Place, Place]] = {}
        for pair in self._exchanges.pairs():
            first, second = self._asked[pair.first], self._asked[pair.second]
            if first.part != second.part:
                leaks.setdefault(second.number, (first, second))
        made.leaks = len(leaks)
        made.leak_pairs = [leaks[number] for number in sorted(leaks)[:_LISTED]]


def _exchanges(messages: list[Message], last: bool) -> Iterator[list[Message]]:
    """Each question with its answer; of a test row only the ``last``, which is what it asks.

    A short answer to a question that others come before is left out: it may belong to any.
    """
    turns = learnt_part(messages) if last else messages
    starts = [place for place, turn in enumerate(turns) if turn["role"] == "user"]
    for start, end in list(pairwise([*starts, len(turns)]))[-1 if last else 0 :]:
        exchange = [turns[start], *turns[start + 1 : end][-1:]]
        if start == starts[0] or len(turn_text(exchange[-1]).split()) >= _SHORT:
            yield exchange

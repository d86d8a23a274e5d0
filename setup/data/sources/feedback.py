"""The rows of the feedback file: answers that were found good, or corrected, each with its past.

Of what was said before an answer nothing is learnt (weight 0): that is rated on its own. Nor is
what is tested: a conversation with a question of the test split, or with one that every evaluation
asks, is left out, also where it is asked nearly so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from setup.common.errors import FixableError
from setup.common.feedback_file import FEEDBACK, conversation_ids, correction, feedback_path
from setup.data import manifest
from setup.data.formats.origin import FEEDBACK_SOURCE
from setup.data.formats.source import Record, Source
from setup.data.plan import SAMPLE_DIR, DataPlan
from setup.data.rows import Row, is_empty

from . import tested
from .tables import BATCH_ROWS

_TESTED = "tested"
_OF_SPLIT = "a question of the test split"
_OF_EVERY = "a general or safety question, which every evaluation asks"
_COLLECT = (
    "rate answers on the page of python -m setup compare, of an endpoint that was deployed with "
    "--set endpoint.collect=feedback"
)


class Feedback:
    """One look at the feedback file, and the questions that are tested.

    These are of the sample, of data.test, of the split that was there before, and those that every
    evaluation asks. ``earlier`` are those of the split before, by their keys: that file is
    replaced, and they stay tested.
    """

    def __init__(self, plan: DataPlan) -> None:
        self.earlier = _earlier(plan)
        self._split = self.earlier | tested.keys_in(SAMPLE_DIR / "test.jsonl")
        data = SAMPLE_DIR.parent
        always = (data / "general" / "questions.jsonl", data / "safety" / "adversarial.jsonl")
        self._always = set[bytes]().union(*map(tested.keys_in, always))
        self._ratings: list[Record] = []
        self._unread = 0

    def watch(self, source: Source) -> Source:
        """``source``, whose rows are to test, and whose questions are known when it was read."""
        return replace(source, batches=self._watched(source))

    def _watched(self, source: Source) -> Iterator[list[Record]]:
        for batch in source.batches:
            for record in batch:
                self._split |= tested.keys_of_row(None if record.problem else record.row)
            yield batch

    def facts(self) -> dict[str, Any]:
        """The questions that the next preparation has to know, for the manifest."""
        return {_TESTED: sorted(key.hex() for key in self.earlier)} if self.earlier else {}

    def open(self) -> Source:
        """The answers to learn from; the same ones each time, whatever is rated meanwhile."""
        notes: Counter[str] = Counter()
        if os.path.isdir(FEEDBACK_SOURCE):  # noqa: PTH112 - no exception where it may not be asked
            here = f"./{FEEDBACK_SOURCE}"
            note = f"feedback is what endpoints have kept, not the folder {here}, which is {here}"
            notes[note] = 0
        return Source(self._batches(notes), notes=notes)

    def _batches(self, notes: Counter[str]) -> Iterator[list[Record]]:
        if not self._ratings:
            self._read()
        learnt, left = Counter[str](), Counter[str]()
        records = list(self._records(learnt, left))
        left["lines that are no records"] += self._unread
        out = ", ".join(f"{count} {what}" for what, count in left.items() if count)
        if not records:
            why = f" (left out: {out})" if out else ""
            raise FixableError(f"no answer to learn from in {feedback_path()}{why}", _COLLECT)
        said = ", ".join(f"{count} {what}" for what, count in learnt.items())
        notes[f"answers of {feedback_path()}: {said}{out and f'; left out: {out}'}"] = 0
        for begin in range(0, len(records), BATCH_ROWS):
            yield records[begin : begin + BATCH_ROWS]

    def _read(self) -> None:
        """Read the last rating of each answer, of which a request may have several, in order."""
        last: dict[tuple[str, str], Record] = {}
        for line, conversation in conversation_ids():
            if line.record is None:
                self._unread += 1
            elif line.record["kind"] == FEEDBACK:
                row = {**line.record, "conversation": conversation}
                last.pop(key := (row["id"], row["answer"]), None)
                last[key] = Record(FEEDBACK_SOURCE, line.number, row)
        self._ratings = list(last.values())

    def _records(self, taken: Counter[str], left: Counter[str]) -> Iterator[Record]:
        for record in self._ratings:
            learnt, why = _learnt(record.row)
            if learnt and (is_tested := self._tested(record.row)):
                learnt, why = "", is_tested
            (taken if learnt else left)[why] += 1
            if learnt:
                yield replace(record, row=_row(record.row, learnt, why))

    def _tested(self, feedback: Row) -> str:
        """Say how the conversation holds what is tested, "" where it does not."""
        turns = [turn for turn in feedback["messages"] if turn["role"] == "user"]
        asked = [text for turn in turns if isinstance(text := turn.get("content"), str)]
        for nearly, is_found in (("", tested.is_among), ("nearly ", tested.is_nearly_among)):
            for keys, what in ((self._split, _OF_SPLIT), (self._always, _OF_EVERY)):
                if any(is_found(question, keys) for question in asked):
                    return f"{nearly}with {what}"
        return ""


def _earlier(plan: DataPlan) -> set[bytes]:
    note = manifest.read_note(plan.paths) or {}
    facts = [fact for fact in note.get("sources") or [] if isinstance(fact, dict)]
    keys = {bytes.fromhex(key) for fact in facts for key in fact.get(_TESTED, [])}
    return keys | tested.keys_in(plan.paths.test)


def _learnt(feedback: Row) -> tuple[str, str]:
    """The answer to learn, "" for none, and what was said of the one that was given."""
    answer, rating = feedback["answer"], feedback.get("rating")
    if corrected := correction(feedback):
        return corrected, "corrected"
    if rating == "up":
        return ("", "with an empty answer") if is_empty(answer) else (answer, "found good")
    return "", "found bad and not corrected" if rating else "not rated"


def _row(feedback: Row, learnt: str, why: str) -> Row:
    past = [
        turn | {"weight": 0} if turn.get("role") == "assistant" else turn
        for turn in feedback["messages"]
    ]
    names = ("conversation", "id", "time", "endpoint", "deployment", "model")
    origin = {name: feedback.get(name, "") for name in names} | {"rating": why}
    return {"messages": [*past, {"role": "assistant", "content": learnt}], "feedback": origin}

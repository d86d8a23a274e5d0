"""The rows of each place of a plan as conversations, and which of the two files they may go to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from setup.data.formats import Reader
from setup.data.formats.origin import AUTO, DEFAULT_CONFIG, TEST_SPLIT, ULTRACHAT_SPLIT, Origin
from setup.data.formats.source import Record, Source
from setup.data.plan import DataPlan
from setup.data.rows import Message, conversation_key

from .feedback import Feedback
from .file import open_file
from .folder import open_folder
from .hub import open_hub


@dataclass
class Stream:
    """The rows of one place.

    Attributes:
        origin: The place.
        side: The file its rows go to; "" where each row's opening decides.
        source: Its rows as conversations, or with what is wrong with them.
        rows: How many were read; of them ``kept`` are clean.
        feedback: The look at the feedback file, where it is one.
    """

    origin: Origin
    side: Literal["", "train", "test"]
    source: Source
    reader: Reader
    rows: int = 0
    kept: int = 0
    feedback: Feedback | None = None

    def facts(self) -> dict[str, Any]:
        """The facts of it for the manifest."""
        form = self.reader.form.name if self.reader.form else None
        facts: dict[str, Any] = {
            "source": self.origin.source,
            "format": form,
            "columns": self.reader.taken,
        }
        if self.side == "test":
            facts["side"] = self.side
        if self.origin.weight != 1:
            facts["weight"] = self.origin.weight
        counts = {"rows": self.rows, "kept": self.kept}
        revision = {"revision": self.source.revision} if self.source.revision else {}
        revision |= self.feedback.facts() if self.feedback else {}
        return facts | revision | {"sha256": self.origin.sha256} | counts

    def copies(self, messages: list[Message], seed: int) -> int:
        """The times that a conversation is trained on: its weight, the fraction of it by chance.

        The chance is that of the conversation and the seed, whatever rows there are beside it.
        """
        whole = math.floor(self.origin.weight)
        fraction = self.origin.weight - whole
        if not fraction:
            return whole
        key = conversation_key(messages) + seed.to_bytes(8, "big", signed=True)
        drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return whole + (drawn < fraction * 2**64)


def open_streams(plan: DataPlan, before: Sequence[Stream] = ()) -> list[Stream]:
    """The places of ``plan``, those of its own test rows first.

    ``before`` are those of the pass before, where this is one more.

    Raises:
        FixableError: One of them cannot be had or read.
    """
    side: Literal["", "train"] = "train" if plan.test else ""
    feedback = next((stream.feedback for stream in before if stream.feedback), None)
    if plan.has_feedback:
        feedback = feedback or Feedback(plan)
    formats = cache(partial(_formats, plan))
    tests = [_open(origin, "test", plan, formats=formats) for origin in plan.test_origins]
    if feedback:
        for stream in tests:
            stream.source = feedback.watch(stream.source)
    if tests and plan.test_ratio != DataPlan.test_ratio:
        tests[0].source.notes["data.test_ratio not used: data.test has the rows to test"] = 0
    return tests + [_open(origin, side, plan, feedback) for origin in plan.origins]


def total_rows(streams: list[Stream]) -> int | None:
    """The number of all rows, None when only reading tells."""
    totals = [stream.source.total for stream in streams]
    return None if None in totals else sum(filter(None, totals))


def _open(
    origin: Origin,
    side: Literal["", "train", "test"],
    plan: DataPlan,
    feedback: Feedback | None = None,
    formats: Callable[[], set[str]] = set,
) -> Stream:
    feedback = feedback if origin.kind == "feedback" else None
    source = feedback.open() if feedback else _open_source(origin)
    if feedback and origin.is_only and (origin.format != AUTO or origin.columns):
        source.notes["data.format and data.columns not used: feedback has a form of its own"] = 0
    if plan.limit:
        total = min(plan.limit, source.total or plan.limit)
        source = replace(source, batches=_first(source, plan.limit), total=total)
    reader = Reader(_as_read(origin), formats)
    source = replace(source, batches=reader.read(source))
    return Stream(origin, side, source, reader, feedback=feedback)


def _as_read(origin: Origin) -> Origin:
    is_feedback = origin.kind == "feedback"
    return replace(origin, format="openai", columns={}) if is_feedback else origin


def _formats(plan: DataPlan) -> set[str]:
    """The formats of the rows to train on, as far as the first ones of each source tell."""
    readers = [(origin, Reader(_as_read(origin))) for origin in plan.origins]
    for origin, reader in readers:
        if reader.form is None:
            next(reader.read(_open_source(origin)), None)
    return {reader.form.name for _, reader in readers if reader.form}


def _open_source(origin: Origin) -> Source:
    if origin.kind == "hub":
        return open_hub(origin.source, origin.config, origin.split)
    if origin.kind == "folder":
        return open_folder(Path(origin.source), origin.config, origin.split)
    source = open_file(Path(origin.source))
    unused = ["data.split"] if origin.split not in (ULTRACHAT_SPLIT, TEST_SPLIT) else []
    unused += ["data.config"] if origin.config != DEFAULT_CONFIG else []
    if unused and origin.is_only:
        note = f"{' and '.join(unused)} not used: {origin.source} is one file, and is read whole"
        source.notes[note] = 0
    return source


def _first(source: Source, limit: int) -> Iterator[list[Record]]:
    for batch in source.batches:
        yield batch[:limit]
        limit -= len(batch)
        if limit <= 0:
            return

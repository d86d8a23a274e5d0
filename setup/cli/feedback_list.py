"""Command ``feedback``: the conversations that endpoints of this machine have kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import Timeout

from setup.cli import options
from setup.common import console, feedback_file
from setup.common.errors import FixableError
from setup.data.personal import hide

app = typer.Typer()
_SHOWN = 44  # characters of a question
_SHOW = "python -m setup feedback"


@dataclass
class Conversation:
    """A conversation that is kept: its lines, and what was said of its answers."""

    id: str
    begun: str
    question: str
    lines: int = 0
    deployments: dict[str, None] = field(default_factory=dict)
    ratings: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, record: feedback_file.Record) -> None:
        """Count a line of it; of two ratings of one answer the later one holds."""
        self.lines += 1
        self.deployments[str(record.get("deployment"))] = None
        if record["kind"] == feedback_file.FEEDBACK:
            is_corrected = feedback_file.correction(record)
            said = "corrected" if is_corrected else str(record.get("rating") or "")
            self.ratings[record["id"], record["answer"]] = said

    @property
    def rated(self) -> list[str]:
        """The ratings that hold."""
        return [rating for rating in self.ratings.values() if rating]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        facts = {"id": self.id, "begun": self.begun, "question": self.question}
        return {**facts, "deployments": list(self.deployments), "ratings": self.rated}


@app.command(epilog="Example: python -m setup feedback --delete page-0123456789abcdef")
def feedback(
    delete: Annotated[str, typer.Option(metavar="ID", help="Delete this conversation.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """List the conversations that endpoints of this machine have kept, or delete one by its id."""
    if delete:
        _delete(delete, as_json)
        return
    path = feedback_file.feedback_path()
    try:
        kept, unread = list(_conversations()), _count_unread()
    except OSError as error:
        why = error.strerror or error
        raise FixableError(f"cannot read {path}: {why}", _usable(path)) from None
    if as_json:
        content = {"file": str(path), "conversations": [one.as_dict() for one in kept]}
        options.show(content | {"unread_lines": unread}, "", as_json)
        return
    for conversation in kept:
        question = console.shorten(hide(conversation.question), _SHOWN)
        rated = ", ".join(conversation.rated) or "not rated"
        where = ", ".join(conversation.deployments)
        line = f"{conversation.id}  {conversation.begun}  {where}: {rated}"
        console.out.print(f"{line}\n    {question!r}", markup=False)
    said = f"{len(kept)} conversation{'' if len(kept) == 1 else 's'} in {path}"
    console.out.print(said if kept else f"no conversation is kept in {path}", markup=False)
    if unread:
        console.err.print(f"{unread} of its lines are no records, and are not read")
    if kept:
        options.say_next("python -m setup data --set data.source=feedback", as_json)


def _conversations() -> Iterator[Conversation]:
    made: dict[str, Conversation] = {}
    for line, name in feedback_file.conversation_ids():
        if line.record is None:
            continue
        if name not in made:
            asked = [turn for turn in line.record["messages"] if turn.get("role") == "user"]
            question = str(asked[0].get("content")) if asked else ""
            made[name] = Conversation(name, str(line.record.get("time", ""))[:16], question)
        made[name].add(line.record)
    yield from made.values()


def _count_unread() -> int:
    return sum(line.record is None for line in feedback_file.read_lines())


def _usable(path: Path) -> str:
    """The fix where the file cannot be read or written: what must be so for it to go."""
    # Of os.path, which raises nothing where it may not be asked.
    if os.path.lexists(path.parent) and not os.path.isdir(path.parent):  # noqa: PTH112
        return f"move {path.parent} away, which is no folder"
    if os.path.isdir(path):  # noqa: PTH112
        return "move it away, which is a folder"
    return "make it a file of yours, close what has it open, and try again"


def _delete(name: str, as_json: bool) -> None:
    path = feedback_file.feedback_path()
    try:
        lines, unread = feedback_file.delete(name), _count_unread()
    except Timeout:
        raise FixableError(f"another process holds the lock of {path}", "try again") from None
    except OSError as error:
        why = error.strerror or error
        raise FixableError(f"cannot write {path}: {why}", _usable(path)) from None
    hidden = f"{_lines(unread)} of {path} cannot be read and may hold some of it: look there"
    if not lines:
        what = f"no conversation {name!r} in {path}{f'; {hidden}' if unread else ''}"
        raise FixableError(what, f"{_SHOW}, and name one it lists")
    told = f"feedback: conversation {name} is gone, {_lines(lines)}"
    facts = {"ok": True, "deleted": name, "lines": lines, "unread_lines": unread}
    options.show(facts, told, as_json)
    if unread:
        console.err.print(hidden, markup=False)
    if not as_json:
        console.err.print("data that was prepared, and models that were trained, still hold it")


def _lines(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"

"""Which column of a data file is which of ours: by name, by a mapping, out of OpenAI's messages."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.ask.files import Record
from setup.common.errors import FixableError

TEXT_LISTS = ("facts", "canaries", "marks")
READ = ("id", "prompt_id", "question", "chat_history", "ground_truth", "must_decline", "category")
NAMES = (*READ, *TEXT_LISTS)
OPTION = "--column-mapping"
_REFERENCE = re.compile(r"\$\{data\.(?P<column>.+)\}")
_JSON = {"chat_history", "must_decline", "messages", *TEXT_LISTS}
_MESSAGES = "messages"
# What others call it, likeliest first.
_SYNONYMS = {
    "question": "query prompt input instruction user_input user_query request utterance text q",
    "ground_truth": "groundtruth reference reference_answer expected expected_answer "
    "expected_output correct_answer ideal target gold answer answers response output completion "
    "label",
    "chat_history": "history conversation conversation_history",
    "facts": "must_contain keywords key_facts",
}


@dataclass
class Columns:
    """Takes our columns out of the records of one file, and counts what it had to decide.

    ``mapping`` is by our name: ``${data.COLUMN}``, or a constant.
    """

    mapping: Mapping[str, str]
    seen: Sequence[str]
    _decided: Counter[str] = field(default_factory=Counter)

    def take(self, record: Record) -> dict[str, Any]:
        """Our columns of ``record``; what is null or empty is not there."""
        content = {name: value for name, value in record.content.items() if value is not None}
        row = {name: content[name] for name in NAMES if name in content}
        if record.is_text:
            row = {name: _read_text(name, value, record.where) for name, value in row.items()}
        for name, value in self.mapping.items():
            column = column_of(value)
            if column is None:
                row[name] = _read_text(name, value, OPTION)
            elif (found := content.get(column)) is not None:
                row[name] = _read_text(name, found, record.where) if record.is_text else found
            else:
                row.pop(name, None)
        messages = row.get("question", self._messages(record))
        if _is_messages(messages):
            row = row | self._conversation(messages, row, record.where)
        if "ground_truth" in row:
            row["ground_truth"] = self._reference(row["ground_truth"])
        return row

    def notes(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Sentences on what was left out, or chosen, in reading the file."""
        notes = [
            f"{what} in {count:,} of {len(rows):,} rows" for what, count in self._decided.items()
        ]
        known = any(
            row.get("ground_truth") or row.get("facts") or row.get("must_decline") is not None
            for row in rows
        )
        guessed = guess(self.seen, {"ground_truth", "facts"} - set(self.mapping))
        if not known and guessed:
            columns = ", ".join(str(column_of(value)) for value in guessed.values())
            notes.append(f"nothing is known of right answers; to read {columns}: {option(guessed)}")
        return notes

    def _messages(self, record: Record) -> Any:
        found = record.content.get(_MESSAGES)
        return _read_text(_MESSAGES, found, record.where) if record.is_text and found else found

    def _conversation(self, messages: list[Any], row: dict[str, Any], where: str) -> dict[str, Any]:
        turns = [(str(turn["role"]), _content(turn, where)) for turn in messages]
        spoken = [turn for turn in turns if turn[0] not in {"system", "developer"}]
        if len(spoken) < len(turns):
            self._decided["the system turn of messages is left out"] += 1
        roles = [role for role, _ in spoken]
        if not roles or roles != (["user", "assistant"] * len(roles))[: len(roles)]:
            raise FixableError(
                f"{where}: the turns of messages are {', '.join(roles) or 'none'}",
                "user and assistant in turn, the user first",
            )
        texts = [text for _, text in spoken]
        answer = texts.pop() if roles[-1] == "assistant" else None
        *before, question = texts
        history = [
            {"inputs": {"question": asked}, "outputs": {"answer": told}}
            for asked, told in zip(before[::2], before[1::2], strict=True)
        ]
        made = {"question": question, "chat_history": history}
        given = answer is not None and "ground_truth" not in row
        return made | ({"ground_truth": answer} if given else {})

    def _reference(self, value: Any) -> Any:
        """The one text that a ground truth is; what is none stays as it is, and is refused."""
        if isinstance(value, dict):  # as SQuAD and TriviaQA write answers
            value = next((value[name] for name in ("text", "value") if name in value), value)
        if isinstance(value, list) and all(_is_plain(each) for each in value):
            if len(value) > 1:
                self._decided["only the first ground truth of several is the reference"] += 1
            value = value[0] if value else ""
        return json.dumps(value) if _is_plain(value) and not isinstance(value, str) else value


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as ``pf run create`` takes them, by name."""
    mapping = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and value):
            how = f"{OPTION} {name or 'question'}='${{data.COLUMN}}', in single quotes"
            raise FixableError(f"{OPTION} {pair!r} has no value", how)
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, 1)
            fix = f"{OPTION} {close[0]}={value!r}" if close else f"one of {', '.join(NAMES)}"
            raise FixableError(f"{OPTION}: no column {name!r} is read", fix)
        if value.startswith("${") and column_of(value) is None:
            how = f"{OPTION} {name}='${{data.COLUMN}}', or a constant"
            raise FixableError(f"{OPTION} {name}: {value} is no column of the data", how)
        if name in mapping:
            raise FixableError(f"{OPTION} names {name} twice", "name one column for it")
        mapping[name] = value
    return mapping


def check_mapping(mapping: Mapping[str, str], seen: Sequence[str], where: str) -> None:
    """Refuse a mapping of columns that the file does not have."""
    for name, value in mapping.items():
        column = column_of(value)
        if column is None and (value in seen or name == "question"):
            known = value if value in seen else "COLUMN"
            raise FixableError(
                f"{OPTION} {name}={value} gives every row the same text",
                f"{OPTION} {name}='${{data.{known}}}'",
            )
        if column is not None and column not in seen:
            close = difflib.get_close_matches(column, seen, 1, cutoff=0.5)
            likely = close[0] if close else "COLUMN"
            raise FixableError(
                f"{where} has no column {column}; it has {_listed(seen)}",
                f"{OPTION} {name}='${{data.{likely}}}'",
            )


def no_question(record: Record, seen: Sequence[str], mapping: Mapping[str, str]) -> FixableError:
    """The error of a row without ``question``: its fix is to read, or give, the column.

    ``seen`` are the columns of the whole file.
    """
    if {"question", _MESSAGES} & {*seen, *mapping}:
        what = f"{record.where}: column question is missing in this row"
        return FixableError(what, "give the row a question, or leave it out")
    guessed = guess(seen, {"question", "ground_truth", "chat_history", "facts"} - set(mapping))
    if "question" not in guessed:
        guessed = {"question": "${data.COLUMN}"} | guessed
    return FixableError(
        f"{record.where}: column question is missing; the file has {_listed(seen)}",
        f"the same command with {option(dict(mapping) | guessed)}",
    )


def guess(seen: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """A mapping of the ``wanted`` columns that the file has under another name."""
    plain = {re.sub(r"[\W_]+", "_", column.strip().lower()): column for column in reversed(seen)}
    found: dict[str, str] = {}
    for name in (each for each in NAMES if each in wanted and each not in seen):
        for synonym in (name, *_SYNONYMS[name].split()):
            column = plain.get(synonym)
            if column and f"${{data.{column}}}" not in found.values() and column not in NAMES:
                found[name] = f"${{data.{column}}}"
                break
    return found


def option(mapping: Mapping[str, str]) -> str:
    """``mapping`` as it is typed."""
    return " ".join([OPTION, *(f"{name}='{value}'" for name, value in mapping.items())])


def column_of(value: str) -> str | None:
    """The column that ``${data.COLUMN}`` names, None for a constant."""
    match = _REFERENCE.fullmatch(value)
    return match["column"] if match else None


def _listed(seen: Sequence[str]) -> str:
    shown = ", ".join(seen[:12]) or "none"
    return f"{shown} and {len(seen) - 12} more" if len(seen) > 12 else shown


def _read_text(name: str, value: Any, where: str) -> Any:
    """The value in the column ``name`` of a cell's, or an option's, text."""
    text = str(value).strip()
    if name not in _JSON:
        return value
    if name == "must_decline":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), value)
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        example = '["9 months"]' if name in TEXT_LISTS else "[]"
        raise FixableError(
            f"{where}: column {name} is not JSON: {text[:40]!r}", f"write it as {example}"
        ) from None


def _is_plain(value: Any) -> bool:
    """True for a text, and for a number that can be written as one."""
    if isinstance(value, bool):
        return False
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and "role" in turn for turn in value)
    )


def _content(turn: dict[str, Any], where: str) -> str:
    """The text of a turn, of parts of text as well."""
    content = turn.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str) or not content.strip():
        raise FixableError(
            f"{where}: a turn of messages ({turn['role']}) has no text in it",
            "leave the row out: pictures and calls of tools cannot be asked",
        )
    return content

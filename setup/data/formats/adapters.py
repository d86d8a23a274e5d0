"""Formats of rows, each with the columns it needs and the function that makes messages of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .turns import (
    Turn,
    UnusableError,
    are_plain,
    as_list,
    is_turns,
    openai_turns,
    parsed,
    sharegpt_turns,
    speaks_sharegpt,
    tool_list,
)

Row = dict[str, Any]
Values = Mapping[str, Any]  # what a row holds, by the names of the format
Names = dict[str, tuple[str, ...]]  # what a column holds, and the names that say so

_SYSTEM: Names = {"system": ("system", "system_prompt")}
_TOOLS: Names = {"tools": ("tools", "functions")}
_CHATS = ("conversations", "conversation", "dialogue", "dialog", "chat", "turns", "messages")
# What beside the turns changes what other trainers learn from a row.
BESIDE_TURNS = ("weight", "label", "system", "system_prompt", "chosen", "rejected")
_PREFERENCES = {"chosen", "rejected"}
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")

_CONVERTED = frozenset({*_MEDIA, "tools", "functions"})


def is_nothing(value: Any) -> bool:
    """Tell whether a table has it for a value that is not there."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or (isinstance(value, str | list | dict) and not value)


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: As `data.format` takes it.
        needs: What a row must have, by the names of the columns.
        may_have: What else is read.
        convert: Makes the turns of these values; raises UnusableError.
        accepts: Tells, of a column ("" of one that the user named) and its value, whether that can
            be what is needed.
        not_beside: Columns beside which it is another format's.
    """

    name: str
    needs: Names
    may_have: Names
    convert: Callable[[Values], Any]
    accepts: Callable[[str, Any], bool]
    not_beside: frozenset[str] = field(default=frozenset())

    @property
    def known(self) -> Names:
        """All that is read."""
        return self.needs | self.may_have

    def fits(self, row: Row, columns: Mapping[str, str]) -> bool:
        """Tell whether ``row`` has what is needed, ``columns`` named by the user."""
        if not columns.keys() <= self.known.keys():
            return False
        if not columns and any(not is_nothing(row.get(name)) for name in self.not_beside):
            return False
        return all(self.needed(row, columns).values())

    def clash(self, row: Row, columns: Mapping[str, str]) -> tuple[str, list[str]] | None:
        """The part that stands in several columns of ``row``, and these; None if none does."""
        filled = self.needed(row, columns).items()
        return next(((what, names) for what, names in filled if len(names) > 1), None)

    def needed(self, row: Row, columns: Mapping[str, str]) -> dict[str, list[str]]:
        """The columns of a row that can be each thing that is needed."""
        return {what: self._able(what, row, columns) for what in self.needs}

    def filled(self, what: str, row: Row, columns: Mapping[str, str]) -> list[str]:
        """The columns of a row that are named as what holds it, and hold something."""
        return [name for name in self._names(what, columns) if not is_nothing(row.get(name))]

    def _able(self, what: str, row: Row, columns: Mapping[str, str]) -> list[str]:
        names = self.filled(what, row, columns)
        is_named = what in columns
        return [name for name in names if self.accepts("" if is_named else name, row[name])]

    def take(self, row: Row, columns: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of a row, and the columns that they are of.

        Raises:
            UnusableError: A needed one is missing, or two columns hold one thing.
        """
        values, taken = {}, {}
        for what in self.known:
            present = [name for name in self._names(what, columns) if name in row]
            filled = [name for name in present if not is_nothing(row[name])]
            if what in self.needs:
                filled = self._able(what, row, columns) or filled
            if len(filled) > 1:
                raise UnusableError(f"columns {' and '.join(filled)} both hold the {what}")
            if what in self.needs and all(row[name] is None for name in present):
                raise UnusableError(f"column {self._names(what, columns)[0]} is missing")
            for name in filled or present[:1]:
                values[what], taken[what] = row[name], name
        return values, taken

    def _names(self, what: str, columns: Mapping[str, str]) -> tuple[str, ...]:
        return (columns[what],) if what in columns else self.known[what]


def is_ready(row: Row) -> bool:
    """Tell whether a row is what an adapter would make of it."""
    return (
        _CONVERTED.isdisjoint(row)
        and not isinstance(parsed(row.get("prompt")), list)
        and are_plain(row.get("messages"))
    )


def to_row(row: Row, form: Format, columns: Mapping[str, str]) -> tuple[Row, dict[str, str]]:
    """A row with `messages` and what it has beside, and the columns that were taken.

    Raises:
        UnusableError: It cannot be made.
    """
    medium = next((name for name in _MEDIA if not is_nothing(row.get(name))), "")
    if medium:
        raise UnusableError(f"the row has {medium}, and only text is trained on")
    values, taken = form.take(row, columns)
    tools = tool_list(values["tools"]) if not is_nothing(values.get("tools")) else None
    turns = form.convert(values)
    if form.name == "openai" and not isinstance(parsed(values.get("prompt")), list):
        taken.pop("prompt", None)  # the first question once more, as ultrachat has it
    made = {name: value for name, value in row.items() if name not in taken.values()}
    made["messages"] = turns
    if tools:
        made["tools"] = tools
    return made, taken


def _text(values: Values, what: str) -> str:
    value = values.get(what)
    if is_nothing(value):
        return ""
    if not isinstance(value, str):
        raise UnusableError(f"its {what} is no text: {str(value)[:40]!r}")
    return value


def _with_system(values: Values, turns: list[Turn]) -> list[Turn]:
    system = _text(values, "system")
    if not system.strip():
        return turns
    if turns and isinstance(turns[0], dict) and turns[0].get("role") == "system":
        if turns[0].get("content") == system:
            return turns
        raise UnusableError("it has a system text in a column, and another in its first turn")
    return [{"role": "system", "content": system}, *turns]


def _exchange(question: str, answer: str) -> list[Turn]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _openai(values: Values) -> Any:
    turns = openai_turns(values["messages"])
    begin = parsed(values.get("prompt"))
    if isinstance(begin, list) and turns[: len(begin)] != openai_turns(begin):
        raise UnusableError("its prompt is a list of turns that messages do not begin with")
    return _with_system(values, turns) if values.get("system") else turns


def _sharegpt(values: Values) -> list[Turn]:
    return _with_system(values, sharegpt_turns(values["conversations"]))


def _alpaca(values: Values) -> list[Turn]:
    asked = [_text(values, name) for name in ("instruction", "input")]
    question = "\n".join(text for text in asked if text.strip())
    turns = [*_history(values), *_exchange(question, _text(values, "output"))]
    return _with_system(values, turns)


def _question_answer(values: Values) -> list[Turn]:
    turns = _exchange(_text(values, "question"), _text(values, "answer"))
    return _with_system(values, [*_history(values), *turns])


def _history(values: Values) -> Iterator[Turn]:
    """Earlier exchanges: pairs of texts, or objects as Prompt flow has them."""
    history = parsed(values.get("history"))
    if is_nothing(history):
        return
    for pair in history if isinstance(history, list) else [None]:
        texts = pair
        if isinstance(pair, dict) and isinstance(pair.get("inputs"), dict):
            texts = [*pair["inputs"].values(), *(pair.get("outputs") or {}).values()]
        if (
            not isinstance(texts, list | tuple)
            or len(texts) != 2
            or not all(isinstance(text, str) for text in texts)
        ):
            raise UnusableError("its history is no list of a question and an answer each")
        yield from _exchange(*texts)


def _prompt_completion(values: Values) -> list[Turn]:
    prompt, completion = as_list(values["prompt"]), as_list(values["completion"])
    begin = _turns_of(prompt, "user", "prompt")
    end = _turns_of(completion, "assistant", "completion")
    if isinstance(completion, str):
        # Legacy files begin each with the space that joined it to its prompt.
        end[0]["content"] = completion.lstrip(" ")
    whole = end if end[: len(begin)] == begin else begin + end
    return _with_system(values, whole)


def _turns_of(value: Any, role: str, what: str) -> list[Turn]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        value = [value]
    if not is_turns(value):
        raise UnusableError(f"its {what} is neither text nor a list of turns")
    turns: list[Turn] = sharegpt_turns(value)
    return turns


def _is_text(_: str, value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_turns(_: str, value: Any) -> bool:
    return isinstance(value, str) or is_turns([value] if isinstance(value, dict) else value)


FORMATS = (
    Format(
        "openai",
        needs={"messages": ("messages",)},
        may_have={**_TOOLS, "prompt": ("prompt",), "system": ()},
        convert=_openai,
        accepts=lambda _, value: not speaks_sharegpt(value),
    ),
    Format(
        "sharegpt",
        needs={"conversations": _CHATS},
        may_have={**_SYSTEM, **_TOOLS},
        convert=_sharegpt,
        accepts=lambda column, value: (
            is_turns(value) and (column != "messages" or speaks_sharegpt(value))
        ),
        not_beside=frozenset(_PREFERENCES),
    ),
    Format(
        "alpaca",
        needs={"instruction": ("instruction",), "output": ("output", "response")},
        may_have={"input": ("input", "context"), **_SYSTEM, "history": ("history",)},
        convert=_alpaca,
        accepts=_is_text,
        not_beside=frozenset(_PREFERENCES),
    ),
    Format(
        "prompt_completion",
        needs={"prompt": ("prompt",), "completion": ("completion", "response")},
        may_have={**_SYSTEM, **_TOOLS},
        convert=_prompt_completion,
        accepts=_is_text_or_turns,
        not_beside=frozenset(_PREFERENCES),
    ),
    Format(
        "question_answer",
        needs={
            "question": ("question", "query", "input"),
            "answer": ("answer", "response", "output", "ground_truth"),
        },
        may_have={**_SYSTEM, "history": ("history", "chat_history")},
        convert=_question_answer,
        accepts=_is_text,
        not_beside=frozenset({*_PREFERENCES, "instruction"}),
    ),
)
BY_NAME = {form.name: form for form in FORMATS}

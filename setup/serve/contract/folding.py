"""Turns as a chat template takes them: some know no system role, some no two turns of one role.

Training and serving ask the template the same questions, so that both send it the same turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

Turn = dict[str, Any]
_BETWEEN = "\n\n"  # what flows/chat puts between a system text and the first question as well
_BLANKS = " \t\n\v\f\r"
_MARK = "finetune-phi asks"


def _turns(*roles: str) -> list[Turn]:
    return [{"role": role, "content": f"{_MARK} {number}"} for number, role in enumerate(roles)]


# The conversations whose prompts tell what a template takes.
PROBES = {
    "question": _turns("user"),
    "later": _turns("user", "assistant", "user"),
    "system": _turns("system", "user"),
    "system, later": _turns("system", "user", "assistant", "user"),
    "run": _turns("user", "user"),
}


@dataclass(frozen=True)
class Taken:
    """The turns a chat template takes: a ``system`` message, ``runs`` of turns of one role."""

    system: bool = True
    runs: bool = True

    def fold(self, turns: Sequence[Turn]) -> list[Turn]:
        """``turns`` as the template takes them, all of their text but blanks at its ends."""
        trimmed = [_trim_alike(turn) for turn in turns]
        folded = trimmed if self.system else fold_system(trimmed)
        return folded if self.runs else _merge_runs(folded)


def judge(prompts: Mapping[str, str | None], knows_system: bool | None = None) -> Taken:
    """Tell what a template takes, by its ``prompts`` for ``PROBES``, None where it raises an error.

    ``knows_system`` is for a renderer that helps itself where the template has no such role. A
    template that moves the system text to the latest question has none either: what was answered
    before would be answered to another prompt than it was learnt from.
    """
    if prompts["question"] is None:  # it takes nothing at all
        return Taken()
    first, later = prompts["system"] or "", prompts["system, later"] or ""
    system = f"{_MARK} 0" in first.lower() if knows_system is None else knows_system
    moves = not later.startswith(first)
    rewrites = not (prompts["later"] or "").startswith(prompts["question"] or "")
    return Taken(system and (not moves or rewrites), prompts["run"] is not None)


def fold_system(turns: Sequence[Turn]) -> list[Turn]:
    """``turns`` with a system message put before the first question, as the chat flow does it."""
    if not turns or turns[0]["role"] != "system":
        return list(turns)
    system, *rest = turns
    asked = next((number for number, turn in enumerate(rest) if turn["role"] == "user"), None)
    if asked is None:
        return list(turns)
    text = f"{system['content']}{_BETWEEN}{rest[asked]['content']}"
    return [*rest[:asked], {**rest[asked], "content": text}, *rest[asked + 1 :]]


def _trim_alike(turn: Turn) -> Turn:
    """``turn`` without white space at its ends that only one of two renderers takes for such.

    Templates trim; llama.cpp's knows blanks and line ends alone, Python's U+00A0 and U+2028 too.
    """
    text = turn["content"]
    if not isinstance(text, str) or text.strip() == text.strip(_BLANKS):
        return turn
    return {**turn, "content": text.strip()}


def _merge_runs(turns: Sequence[Turn]) -> list[Turn]:
    merged = []
    for (_, _, apart), run in groupby(turns, key=_kind):
        first, *others = run
        if apart or not others:  # calls and their results each stay what they are
            merged += [first, *others]
            continue
        parts = [first["content"], *(turn["content"] for turn in others)]
        merged.append({**first, "content": _BETWEEN.join(parts)})
    return merged


def _kind(turn: Turn) -> tuple[Any, ...]:
    return (
        turn["role"],
        turn.get("weight", 1),
        bool(turn.get("tool_calls")) or turn["role"] == "tool",
    )

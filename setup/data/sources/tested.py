"""The questions that are tested, by keys that find them again, asked alike or nearly so.

Nearly alike are two questions that differ in courtesies alone: greetings, thanks and "please"
before and after the question, or a "please" within it. Where punctuation sets them off, each may
have its own; else one of the two must do without: "the word for thanks" is not "the word for
please". No other word may differ, for it may be the one that matters ("the capital of France").
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from setup.data.formats.origin import FEEDBACK_SOURCE
from setup.data.rows import learnt_part, normalise, prompt_key, user_turns

from .file import open_file

_GREETING = r"hi|hello|hey|good\s+(?:morning|day|afternoon|evening)"
_MORE = r"there|again|all|everyone|very\s+much|so\s+much|a\s+lot|in\s+advance"
_COURTESY = rf"(?:(?:{_GREETING}|please|kindly|thanks|thank\s+you|cheers)(?:\s+(?:{_MORE}))*)"
_OFF = r"(?:\s?[,.;!?…–—]|\s-\s)[\s,.;!?…–—]*"  # noqa: RUF001
_BEFORE, _AFTER = rf"\A(?:{_COURTESY}{_OFF})+", rf"(?:{_OFF}{_COURTESY})+[\s.!?…:)]*\Z"
_BARE_BEFORE, _BARE_AFTER = rf"\A(?:{_COURTESY}\s)+", rf"(?:\s{_COURTESY})+\Z"
_WITHIN = re.compile(r"(?<!\S)(?:please|kindly)(?!\S)")
_END = 100  # characters in which courtesies are looked for: a search in more takes its square
_BARE = b"~"  # begins the key of a question without courtesies that nothing sets off


def keys_of(question: str) -> set[bytes]:
    """The keys of a question that is tested."""
    plain, bare = _without_courtesies(question)
    keys = {prompt_key(question), prompt_key(plain)}
    return keys | {_BARE + prompt_key(bare)} if bare else keys


def is_among(question: str, keys: Collection[bytes]) -> bool:
    """Tell whether the question is tested, compared like duplicates."""
    return prompt_key(question) in keys


def is_nearly_among(question: str, keys: Collection[bytes]) -> bool:
    """Tell whether it differs in courtesies alone from a question that is tested."""
    plain, bare = _without_courtesies(question)
    key = prompt_key(plain)
    return key in keys or _BARE + key in keys or (bare != "" and prompt_key(bare) in keys)


def _without_courtesies(question: str) -> tuple[str, str]:
    """The question without those that punctuation sets off, and without any; "" where none is."""
    lines = (" ".join(line.split()) for line in question.splitlines())
    plain = _cut(", ".join(filter(None, lines)), _BEFORE, _AFTER)
    plain = plain if normalise(plain) else question
    words = normalise(plain)
    bare = " ".join(_WITHIN.sub(" ", _cut(words, _BARE_BEFORE, _BARE_AFTER)).split())
    return plain, "" if bare == words else bare


def _cut(text: str, before: str, after: str) -> str:
    text = re.sub(before, "", text, flags=re.IGNORECASE)
    return text[:-_END] + re.sub(after, "", text[-_END:], flags=re.IGNORECASE)


def keys_in(file: Path) -> set[bytes]:
    """The keys of what the rows of ``file`` ask, but for those that feedback made."""
    if not file.is_file():
        return set()
    read = (record.row for batch in open_file(file).batches for record in batch)
    return {key for row in read if not _is_of_feedback(row) for key in keys_of_row(row)}


def keys_of_row(row: Any) -> set[bytes]:
    """The keys of the question that a test row asks; none where it asks nothing."""
    return {key for question in _asked(row) for key in keys_of(question)}


def _is_of_feedback(row: Any) -> bool:
    return isinstance(row, dict) and bool(row.get(FEEDBACK_SOURCE))


def _asked(row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        return
    turns, question = row.get("messages"), row.get("question")
    if isinstance(turns, list) and all(map(_is_turn, turns)):
        yield from user_turns(learnt_part(turns))[-1:]
    elif isinstance(question, str):
        yield question


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and all(
        isinstance(turn.get(name), str) for name in ("role", "content")
    )

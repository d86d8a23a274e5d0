"""The rules that a judge's reply must keep to count as a verdict."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCORES = ("correctness", "relevance", "coherence", "fluency")
LOWEST, HIGHEST = 1, 5


class Verdict(BaseModel):
    """The four grades of one answer, integers from 1 to 5, and why."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    correctness: int = Field(ge=LOWEST, le=HIGHEST)
    relevance: int = Field(ge=LOWEST, le=HIGHEST)
    coherence: int = Field(ge=LOWEST, le=HIGHEST)
    fluency: int = Field(ge=LOWEST, le=HIGHEST)
    reason: str


class Preference(BaseModel):
    """Which of two answers is better, by the place it was shown in, and why."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    better: Literal["1", "2", "tie"]
    reason: str


@dataclass(frozen=True)
class Unparsed:
    """A reply that is no verdict: its ``text`` and the ``problem`` with it."""

    text: str
    problem: str


Shape = TypeVar("Shape", bound=BaseModel)

# The whole reply, so that a fence quoted from the answer under examination is no verdict.
_FENCED = re.compile(r"```(?:json)?\s*(?P<inside>.*?)\s*```", re.DOTALL | re.IGNORECASE)
# What a reasoning model says before its reply. Some templates leave out the first tag.
_THOUGHT = re.compile(r"\A(?:<think>|(?![{`])).*?</think>", re.DOTALL)


def parse_verdict(text: str | None) -> Verdict | Unparsed:
    """The four grades in a judge's reply to ``score``.

    The reply is one JSON object with exactly the keys of :class:`Verdict`, bare or as a whole in
    one code fence; a ``<think>`` part may come before. Anything else is :class:`Unparsed`: it is
    counted, and never becomes a score.
    """
    return _parse(text, Verdict)


def parse_preference(text: str | None) -> Preference | Unparsed:
    """The better answer in a judge's reply to ``pairwise``; the same rules."""
    return _parse(text, Preference)


def _parse(text: str | None, shape: type[Shape]) -> Shape | Unparsed:
    # An endpoint may answer with null, and JSON can carry half a character, which no file takes.
    raw = (text or "").encode("utf-8", "replace").decode("utf-8")
    said = _THOUGHT.sub("", raw.strip()).strip()
    fenced = _FENCED.fullmatch(said)
    try:
        read = json.loads(fenced["inside"] if fenced else said, object_pairs_hook=_once)
        verdict = shape.model_validate(read)
        verdict.model_dump_json()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Unparsed(raw, f"{where}: {first['msg']}" if where else first["msg"])
    except (ValueError, RecursionError) as error:
        return Unparsed(raw, f"no JSON object: {error}")
    return verdict


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are unique: of two values for one key neither is the verdict."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a key occurs twice")
    return read

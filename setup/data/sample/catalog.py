"""Reads what Orrinfell sells, how it is asked for, and the general conversations.

The texts lie in the YAML files beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Split = Literal["train", "test"]
Wordings = dict[Split, list[str]]
SPLITS: tuple[Split, Split] = ("train", "test")

_HERE = Path(__file__).parent
_GENERAL = ("general_turns", "general_prose", "general_short", "general_short_more")


@dataclass(frozen=True)
class Fact:
    """One checkable statement.

    Attributes:
        subject: The product's name, or the policy's topic.
        attribute: What of the subject it states; unique within the subject.
        value: The string an answer must contain.
        answer: The reference answer; contains the value.
        ask: Question templates that need no context.
        follow: Question templates that lean on the turn before; empty where there are none.
        is_product: False for a policy.
    """

    subject: str
    attribute: str
    value: str
    answer: str
    ask: Wordings
    follow: Wordings
    is_product: bool


@dataclass(frozen=True)
class Declines:
    """Questions support does not answer: templates, follow-ups, and what fills the slots."""

    ask: Wordings
    follow: Wordings
    slots: dict[str, list[str]]


@dataclass(frozen=True)
class Catalog:
    """Everything the generator says."""

    company: str
    decline: str
    facts: list[Fact]
    declines: Declines
    switch: Wordings
    greetings: Wordings
    thanks: Wordings


def load_catalog() -> Catalog:
    """The whole company, from the YAML files of this package."""
    base, refused = _read("catalog"), _read("declines")
    slots = {**refused["slots"], "p": list(base["products"])}
    declines = Declines(_wordings(refused), _wordings(refused, "then_"), slots)
    return Catalog(
        company=base["company"],
        decline=base["decline"],
        facts=list(_facts(base["products"])),
        declines=declines,
        switch=_wordings(base["switch"]),
        greetings=_wordings(base["greetings"]),
        thanks=_wordings(base["thanks"]),
    )


def load_general() -> list[list[str]]:
    """The general conversations: in each the texts of user and assistant in turn, the user first.

    They are about anything but the company, and are there for training only.
    """
    return [texts for name in _GENERAL for texts in _read(name)]


def _facts(products: dict[str, dict[str, str]]) -> Iterator[Fact]:
    phrasings = {**_read("phrasings"), **_read("phrasings_more")}
    for name, attributes in products.items():
        for attribute, value in attributes.items():
            entry = phrasings[attribute]
            answer = entry["answer"].format(p=name, v=value)
            ask, follow = _wordings(entry), _wordings(entry, "then_")
            yield Fact(name, attribute, value, answer, ask, follow, is_product=True)
    for topic, entries in _read("policies").items():
        for number, entry in enumerate(entries):
            ask, follow = _wordings(entry), _wordings(entry, "then_")
            yield Fact(topic, str(number), entry["fact"], entry["answer"], ask, follow, False)


def _wordings(entry: dict[str, Any], prefix: str = "") -> Wordings:
    return {split: entry.get(prefix + split, []) for split in SPLITS}


def _read(name: str) -> Any:
    return yaml.safe_load((_HERE / f"{name}.yaml").read_text(encoding="utf-8"))

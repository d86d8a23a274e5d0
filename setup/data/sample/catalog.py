"""Reads what Orrinfell sells, how it is asked for, and the general conversations.

The texts lie in the YAML files beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Split = Literal["train", "test"]
Wordings = dict[Split, list[str]]
SPLITS: tuple[Split, Split] = ("train", "test")

_HERE = Path(__file__).parent
_GENERAL = ("general_turns", "general_prose", "general_short")


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
    products = list(base["products"])
    declines = Declines(
        _wordings(refused), _wordings(refused, "then_"), {**refused["slots"], "p": products}
    )
    return Catalog(
        company=base["company"],
        decline=base["decline"],
        facts=_product_facts(base["products"]) + _policy_facts(),
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


def _product_facts(products: dict[str, dict[str, str]]) -> list[Fact]:
    phrasings = {**_read("phrasings"), **_read("phrasings_more")}
    return [
        Fact(
            subject=name,
            attribute=attribute,
            value=value,
            answer=phrasings[attribute]["answer"].format(p=name, v=value),
            ask=_wordings(phrasings[attribute]),
            follow=_wordings(phrasings[attribute], "then_"),
            is_product=True,
        )
        for name, attributes in products.items()
        for attribute, value in attributes.items()
    ]


def _policy_facts() -> list[Fact]:
    return [
        Fact(
            subject=topic,
            attribute=str(number),
            value=entry["fact"],
            answer=entry["answer"],
            ask=_wordings(entry),
            follow=_wordings(entry, "then_"),
            is_product=False,
        )
        for topic, entries in _read("policies").items()
        for number, entry in enumerate(entries)
    ]


def _wordings(entry: dict[str, Any], prefix: str = "") -> Wordings:
    return {split: entry.get(prefix + split, []) for split in SPLITS}


def _read(name: str) -> Any:
    return yaml.safe_load((_HERE / f"{name}.yaml").read_text(encoding="utf-8"))

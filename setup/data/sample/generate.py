"""The conversations of the sample, the same for a seed on every platform and Python version.

Both splits speak of the same facts; no question template occurs in both. General conversations,
which have nothing to do with the facts, are mixed into the training split alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from setup.data.rows import Message, conversation_id, conversation_key, first_prompt, flat_columns

from .catalog import SPLITS, Catalog, Fact, Split, load_catalog, load_general
from .wording import Deck, Voice

DEFAULT_SEED = 20


@dataclass(frozen=True)
class Plan:
    """The number of conversations of each kind in a split: per fact (`each`), on top (`extra`)."""

    single_each: int
    single_extra: int
    multi_each: int
    multi_extra: int
    declines: int
    declines_after_answer: int


PLANS: dict[Split, Plan] = {
    "train": Plan(5, 0, 3, 30, 140, 28),
    "test": Plan(1, 16, 0, 68, 36, 4),
}


@dataclass(frozen=True)
class Turn:
    """A question with its answer.

    `fact` is None where support declines, and in general conversations.
    """

    template: str
    question: str
    answer: str
    fact: Fact | None


@dataclass(frozen=True)
class Conversation:
    """One or more turns; the last one is what a test row asks."""

    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[Message]:
        """The turns as role messages."""
        return [
            {"role": role, "content": content}
            for turn in self.turns
            for role, content in (("user", turn.question), ("assistant", turn.answer))
        ]

    def row(self, split: Split) -> dict[str, Any]:
        """The row of `train.jsonl`, or of `test.jsonl` with its flat columns."""
        messages = self.messages
        row: dict[str, Any] = {
            "prompt": first_prompt(messages),
            "prompt_id": conversation_id(messages),
            "messages": messages,
        }
        if split == "test":
            fact = self.turns[-1].fact
            row |= flat_columns(messages)
            row |= {"facts": [fact.value] if fact else [], "must_decline": fact is None}
        return row


class Writer:
    """Writes the conversations of one split."""

    def __init__(self, catalog: Catalog, split: Split, rng: random.Random) -> None:
        self._catalog = catalog
        self._split = split
        self._rng = rng
        self._voice = Voice(catalog, split, rng)
        self._decks: dict[tuple[str, ...], Deck] = {}

    def single(self, fact: Fact) -> Conversation:
        """One question about a fact."""
        return Conversation((self._ask(fact),))

    def multi(self, fact: Fact) -> Conversation:
        """Ends with the fact, asked in words that lean on the turns before."""
        peers = [f for f in self._peers(fact) if f.subject != fact.subject]
        siblings = [f for f in self._catalog.facts if f.subject == fact.subject and f is not fact]
        draw = self._rng.random()
        if not peers or draw < 0.55:
            return Conversation((self._ask(self._rng.choice(siblings)), self._follow(fact)))
        peer = self._rng.choice(peers)
        if draw < 0.85:
            return Conversation((self._ask(peer), self._switch(fact)))
        before = [f for f in self._catalog.facts if f.subject == peer.subject and f is not peer]
        opening = self._ask(self._rng.choice(before))
        return Conversation((opening, self._follow(peer), self._switch(fact)))

    def decline(self) -> Conversation:
        """One question that support declines."""
        template = self._deal("decline", "", self._catalog.declines.ask[self._split])
        slots = {name: self._rng.choice(v) for name, v in self._catalog.declines.slots.items()}
        question = self._voice.say(template, slots)
        return Conversation((Turn(template, question, self._catalog.decline, None),))

    def decline_after(self, fact: Fact) -> Conversation:
        """An answer about a product, then a question about it that support declines."""
        template = self._deal("decline", "then", self._catalog.declines.follow[self._split])
        question = self._voice.say(template, {}, opening=False)
        last = Turn(template, question, self._catalog.decline, None)
        return Conversation((self._ask(fact), last))

    def _ask(self, fact: Fact) -> Turn:
        template = self._deal(fact.subject, fact.attribute, fact.ask[self._split])
        return self._turn(fact, template, opening=True)

    def _follow(self, fact: Fact) -> Turn:
        templates = fact.follow[self._split]
        template = self._deal(fact.subject, f"{fact.attribute}+", templates)
        return self._turn(fact, template, opening=False)

    def _switch(self, fact: Fact) -> Turn:
        template = self._deal("switch", "", self._catalog.switch[self._split])
        return self._turn(fact, template, opening=False)

    def _turn(self, fact: Fact, template: str, opening: bool) -> Turn:
        question = self._voice.say(template, {"p": fact.subject}, opening)
        return Turn(template, question, fact.answer, fact)

    def _deal(self, subject: str, attribute: str, templates: list[str]) -> str:
        deck = self._decks.setdefault((subject, attribute), Deck(templates, self._rng))
        return deck.draw()

    def _peers(self, fact: Fact) -> list[Fact]:
        if not fact.is_product:
            return []
        return [f for f in self._catalog.facts if f.is_product and f.attribute == fact.attribute]


def build(seed: int = DEFAULT_SEED) -> dict[Split, list[Conversation]]:
    """Both splits, each shuffled."""
    catalog = load_catalog()
    # Only shuffle, choice and random are drawn on: the same values on every Python since 3.2.
    return {
        split: _build_split(catalog, split, random.Random(seed))  # noqa: S311  (no secret)
        for split in SPLITS
    }


def _build_split(catalog: Catalog, split: Split, rng: random.Random) -> list[Conversation]:
    plan, writer = PLANS[split], Writer(catalog, split, rng)
    endings = [fact for fact in catalog.facts if fact.follow[split]]
    products = [fact for fact in catalog.facts if fact.is_product]
    seen: set[bytes] = set()
    made = [
        *_each(
            writer.single, _spread(catalog.facts, plan.single_each, plan.single_extra, rng), seen
        ),
        *_each(writer.multi, _spread(endings, plan.multi_each, plan.multi_extra, rng), seen),
        *_each(writer.decline_after, _spread(products, 0, plan.declines_after_answer, rng), seen),
        *(_unseen(writer.decline, seen) for _ in range(plan.declines)),
        *(_general() if split == "train" else ()),
    ]
    rng.shuffle(made)
    return made


def _general() -> list[Conversation]:
    return [
        Conversation(
            tuple(
                Turn(question, question, answer, None)
                for question, answer in zip(texts[::2], texts[1::2], strict=True)
            )
        )
        for texts in load_general()
    ]


def _spread(facts: list[Fact], each: int, extra: int, rng: random.Random) -> list[Fact]:
    more = list(facts)
    rng.shuffle(more)
    return facts * each + more[:extra]


def _each(
    write: Callable[[Fact], Conversation], facts: Iterable[Fact], seen: set[bytes]
) -> list[Conversation]:
    return [_unseen(partial(write, fact), seen) for fact in facts]


def _unseen(write: Callable[[], Conversation], seen: set[bytes]) -> Conversation:
    for _ in range(1000):
        conversation = write()
        key = conversation_key(conversation.messages)
        if key not in seen:
            seen.add(key)
            return conversation
    raise ValueError("the phrasings allow no further distinct conversation; add templates")

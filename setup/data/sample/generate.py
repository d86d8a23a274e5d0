"""The conversations of the sample, the same for a seed on every platform and Python version.

Both splits speak of the same facts; no question template occurs in both. General conversations,
which have nothing to do with the facts, are mixed into the training split alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from setup.data import rows

from . import catalog
from .wording import Deck, Voice

DEFAULT_SEED = 20
_TOUR = 5  # turns


@dataclass(frozen=True)
class Plan:
    """The number of conversations of each kind in a split: per fact (`each`), on top (`extra`).

    A policy is asked `policy_more` times more: no peer and no second topic ever mentions it.
    `tours` are long conversations: a turn more costs half the tokens of a row of its own.
    """

    single_each: int
    policy_more: int
    single_extra: int
    multi_each: int
    multi_extra: int
    tours: int
    declines: int
    declines_after_answer: int


PLANS: dict[catalog.Split, Plan] = {
    "train": Plan(4, 4, 0, 3, 0, 60, 184, 36),
    "test": Plan(1, 0, 16, 0, 68, 0, 36, 4),
}


@dataclass(frozen=True)
class Turn:
    """A question with its answer.

    `fact` is None where support declines, and in general conversations.
    """

    template: str
    question: str
    answer: str
    fact: catalog.Fact | None


@dataclass(frozen=True)
class Conversation:
    """One or more turns; the last one is what a test row asks."""

    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[rows.Message]:
        """The turns as role messages."""
        return [
            {"role": role, "content": content}
            for turn in self.turns
            for role, content in (("user", turn.question), ("assistant", turn.answer))
        ]

    def row(self, split: catalog.Split) -> dict[str, Any]:
        """The row of `train.jsonl`, or of `test.jsonl` with its flat columns."""
        messages = self.messages
        row: dict[str, Any] = {
            "prompt": rows.user_turns(messages)[0],
            "prompt_id": rows.conversation_id(messages),
            "messages": messages,
        }
        if split == "test":
            fact = self.turns[-1].fact
            row |= rows.flat_columns(messages)
            row |= {"facts": [fact.value] if fact else [], "must_decline": fact is None}
        return row


class Writer:
    """Writes the conversations of one split."""

    def __init__(self, company: catalog.Catalog, split: catalog.Split, rng: random.Random) -> None:
        self._company = company
        self._split = split
        self._rng = rng
        self._voice = Voice(company, split, rng)
        self._decks: dict[tuple[str, ...], Deck] = {}

    def single(self, fact: catalog.Fact) -> Conversation:
        """One question about a fact."""
        return Conversation((self._ask(fact),))

    def multi(self, fact: catalog.Fact) -> Conversation:
        """Ends with the fact, asked in words that lean on the turns before."""
        facts = self._company.facts
        alike = [f for f in facts if f.is_product and f.attribute == fact.attribute]
        peers = [f for f in alike if fact.is_product and f.subject != fact.subject]
        siblings = [f for f in facts if f.subject == fact.subject and f is not fact]
        draw = self._rng.random()
        if not peers or draw < 0.55:
            return Conversation((self._ask(self._rng.choice(siblings)), self._follow(fact)))
        peer = self._rng.choice(peers)
        if draw < 0.85:
            return Conversation((self._ask(peer), self._switch(fact)))
        before = [f for f in facts if f.subject == peer.subject and f is not peer]
        opening = self._ask(self._rng.choice(before))
        return Conversation((opening, self._follow(peer), self._switch(fact)))

    def tour(self, fact: catalog.Fact) -> Conversation:
        """Begins with the fact and goes on to others: of the same subject, or of another one."""
        asked, turns = [fact], [self._ask(fact)]
        while len(turns) < _TOUR:
            here = asked[-1]
            siblings = [f for f in self._facts_like(here, "subject") if f not in asked]
            peers = [f for f in self._facts_like(here, "attribute") if f not in asked]
            if siblings and siblings[0].follow[self._split]:
                turns.append(self._follow(siblings[0]))
                asked.append(siblings[0])
            elif peers and here.is_product:
                asked.append(self._rng.choice(peers))
                turns.append(self._switch(asked[-1]))
            else:
                asked.append(self._rng.choice([f for f in self._company.facts if f not in asked]))
                turns.append(self._ask(asked[-1], opening=False))
        return Conversation(tuple(turns))

    def _facts_like(self, fact: catalog.Fact, name: str) -> list[catalog.Fact]:
        """Other facts of the same kind, product or policy, that share its subject or attribute."""
        value = getattr(fact, name)
        return [
            other
            for other in self._company.facts
            if other != fact
            and other.is_product == fact.is_product
            and getattr(other, name) == value
        ]

    def decline(self) -> Conversation:
        """One question that support declines."""
        declines = self._company.declines
        template = self._deal(("decline", ""), declines.ask)
        slots = {name: self._rng.choice(v) for name, v in declines.slots.items()}
        return Conversation((self._declined(template, slots, opening=True),))

    def decline_after(self, fact: catalog.Fact) -> Conversation:
        """An answer about a product, then a question about it that support declines."""
        template = self._deal(("decline", "then"), self._company.declines.follow)
        last = self._declined(template, {}, opening=False)
        return Conversation((self._ask(fact), last))

    def _ask(self, fact: catalog.Fact, opening: bool = True) -> Turn:
        return self._turn(fact, (fact.subject, fact.attribute), fact.ask, opening)

    def _follow(self, fact: catalog.Fact) -> Turn:
        return self._turn(fact, (fact.subject, f"{fact.attribute}+"), fact.follow)

    def _switch(self, fact: catalog.Fact) -> Turn:
        return self._turn(fact, ("switch", ""), self._company.switch)

    def _turn(
        self,
        fact: catalog.Fact,
        deck: tuple[str, str],
        wordings: catalog.Wordings,
        opening: bool = False,
    ) -> Turn:
        template = self._deal(deck, wordings)
        question = self._voice.say(template, {"p": fact.subject}, opening)
        return Turn(template, question, fact.answer, fact)

    def _declined(self, template: str, slots: dict[str, str], opening: bool) -> Turn:
        question = self._voice.say(template, slots, opening)
        return Turn(template, question, self._company.decline, None)

    def _deal(self, deck: tuple[str, str], wordings: catalog.Wordings) -> str:
        templates = wordings[self._split]
        return self._decks.setdefault(deck, Deck(templates, self._rng)).draw()


def build(seed: int = DEFAULT_SEED) -> dict[catalog.Split, list[Conversation]]:
    """Both splits, each shuffled."""
    company = catalog.load_catalog()
    # Only shuffle, choice and random are drawn on: the same values on every Python since 3.2.
    return {
        split: _build_split(company, split, random.Random(seed))  # noqa: S311  (no secret)
        for split in catalog.SPLITS
    }


def _build_split(
    company: catalog.Catalog, split: catalog.Split, rng: random.Random
) -> list[Conversation]:
    plan, writer = PLANS[split], Writer(company, split, rng)
    endings = [fact for fact in company.facts if fact.follow[split]]
    products = [fact for fact in company.facts if fact.is_product]
    policies = [fact for fact in company.facts if not fact.is_product]
    seen: set[bytes] = set()
    made = []
    for write, facts, each, extra in (
        (writer.single, company.facts, plan.single_each, plan.single_extra),
        (writer.multi, endings, plan.multi_each, plan.multi_extra),
        (writer.decline_after, products, 0, plan.declines_after_answer),
    ):
        more = facts.copy()
        rng.shuffle(more)
        made += [_unseen(partial(write, fact), seen) for fact in facts * each + more[:extra]]
    made += [_unseen(writer.decline, seen) for _ in range(plan.declines)]
    made += [_unseen(partial(writer.single, fact), seen) for fact in policies * plan.policy_more]
    made += [
        _unseen(partial(writer.tour, rng.choice(company.facts)), seen) for _ in range(plan.tours)
    ]
    if split == "train":
        made += map(_general, catalog.load_general())
    rng.shuffle(made)
    return made


def _general(texts: list[str]) -> Conversation:
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return Conversation(tuple(Turn(question, question, answer, None) for question, answer in pairs))


def _unseen(write: Callable[[], Conversation], seen: set[bytes]) -> Conversation:
    for _ in range(1000):
        conversation = write()
        key = rows.conversation_key(conversation.messages)
        if key not in seen:
            seen.add(key)
            return conversation
    raise ValueError("the phrasings allow no further distinct conversation; add templates")

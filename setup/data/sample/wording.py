"""The wording of a question: the template that comes next, its tone, and its slip."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from .catalog import Catalog, Split


class Deck:
    """Deals its cards in shuffled rounds, so that every card comes equally often."""

    def __init__(self, cards: Sequence[str], rng: random.Random) -> None:
        self._cards = list(cards)
        self._rng = rng
        self._left: list[str] = []

    def draw(self) -> str:
        """The next card."""
        if not self._left:
            self._left = self._cards.copy()
            self._rng.shuffle(self._left)
        return self._left.pop()


class Voice:
    """Turns templates into questions, each in a tone drawn at random."""

    def __init__(self, catalog: Catalog, split: Split, rng: random.Random) -> None:
        self._rng = rng
        self._greetings = catalog.greetings[split]
        self._thanks = catalog.thanks[split]
        self._names = {catalog.company}

    def say(self, template: str, slots: Mapping[str, str], opening: bool = True) -> str:
        """The question of a template: plain in most cases, else with a tone.

        A greeting only opens a conversation; a later turn stays plain instead.
        """
        draw = self._rng.random()
        if draw < 0.12:
            return self._mistype(template).format_map(slots)
        text = template.format_map(slots)
        if draw < 0.24:
            return text.lower().rstrip("?.")
        if draw < 0.33 and opening:
            return self._rng.choice(self._greetings).format(q=self._lowered(text, template))
        if draw < 0.38:
            return self._rng.choice(self._thanks).format(q=text)
        return text

    def _lowered(self, text: str, template: str) -> str:
        first = text.split(maxsplit=1)[0]
        keep = template.startswith("{p}") or first in self._names | {"I", "I'm"}
        return text if keep else text[0].lower() + text[1:]

    def _mistype(self, template: str) -> str:
        """Two neighbouring letters swapped in one long word; a slot and a name stay whole."""
        words = template.split(" ")
        choices = [place for place, word in enumerate(words) if self._may_slip(word)]
        if not choices:
            return template
        place = self._rng.choice(choices)
        words[place] = self._rng.choice(list(_slips(words[place])))
        return " ".join(words)

    def _may_slip(self, word: str) -> bool:
        return word.isalpha() and word not in self._names and any(_slips(word))


def _slips(word: str) -> Iterator[str]:
    if len(word) < 5:
        return
    for place in range(1, len(word) - 2):
        letter, following = word[place], word[place + 1]
        if letter != following:
            yield word[:place] + following + letter + word[place + 2 :]

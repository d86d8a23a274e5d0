"""The languages of conversations, guessed by py3langid: offline, from the words of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from setup.data.rows import Message

_LOOKED_AT = 2000  # rows; of more, one in so many
_CHARACTERS = 1000
_FEWEST = 4  # letters: fewer tell nothing
_SURE = 0.5
UNSURE = "unsure"
BY = "guessed by py3langid"
# Of those it knows, the ones that chats are written in; the others are mostly mistaken for these.
_KNOWN = (
    *("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr"),
    *("ga", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "kn"),
    *("ko", "lt", "lv", "mk", "ml", "mr", "ms", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sk"),
    *("sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh"),
)


class Languages:
    """Counts the languages of rows; of very many only some are looked at, spread evenly.

    Every row is looked at until there are too many; then every second one is forgotten again, and
    only every second one to come is looked at.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._step = 1
        self._guesses: list[str] = []
        self._identifier: Any = None

    def take(self, messages: Sequence[Message]) -> None:
        """Count a row, or pass it by."""
        if self._rows % self._step == 0:
            text = "\n".join(turn["content"] for turn in messages if turn["role"] != "system")
            self._guesses.append(self._guess(text[:_CHARACTERS]))
            if len(self._guesses) >= _LOOKED_AT * 2:
                self._guesses, self._step = self._guesses[::2], self._step * 2
        self._rows += 1

    def _guess(self, text: str) -> str:
        if sum(map(str.isalpha, text)) < _FEWEST:
            return UNSURE
        if self._identifier is None:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier

            made = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
            made.set_languages(sorted(set(_KNOWN) & set(made.labels)))
            self._identifier = made
        language, probability = self._identifier.classify(text)
        return str(language) if probability >= _SURE else UNSURE

    @property
    def looked_at(self) -> int:
        """The number of rows whose language was guessed."""
        return len(self._guesses)

    @property
    def counts(self) -> Counter[str]:
        """Rows by language, of those that were looked at."""
        return Counter(self._guesses)

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON has them."""
        return {"by": BY, "rows": self.looked_at, "counts": dict(self.counts.most_common())}

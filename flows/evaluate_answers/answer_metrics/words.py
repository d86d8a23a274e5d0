"""Text as it is compared: case, spaces and the way an accent is encoded make no difference."""

from __future__ import annotations

import re
import unicodedata

# Scripts written without spaces between words (Thai to Khmer, kana, Han) or with particles joined
# to them (Hangul): there a neighbouring letter does not make another word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNSPACED += "\U00020000-\U0003ffff"
_JOINS = rf"[^\W{_UNSPACED}]"


def plain(text: str) -> str:
    """``text`` in lower case, composed (NFC), with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def fold(text: str) -> str:
    """``plain`` text without accents, its apostrophes as keyboards write them."""
    letters = unicodedata.normalize("NFKD", plain(text.replace("\u2019", "'")))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def holds(plain_text: str, fact: str) -> bool:
    """Tell whether ``fact`` stands in a text made ``plain``, as whole words and whole numbers.

    ``9 months`` is not in ``19 months`` or ``1.9 months``, nor ``$3`` in ``$3.50``.
    """
    pattern = rf"(?<!{_JOINS})(?<![.,]){re.escape(plain(fact))}(?!{_JOINS}|[.,]\d)"
    return re.search(pattern, plain_text) is not None


def fact_recall(answer: str, facts: list[str]) -> float | None:
    """The share of ``facts`` that ``answer`` holds, 0 to 1; None without facts."""
    if not facts:
        return None
    text = plain(answer)
    return sum(holds(text, fact) for fact in facts) / len(facts)

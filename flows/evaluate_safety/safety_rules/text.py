"""The folding of what a reader would take for the same text to the same characters."""

from __future__ import annotations

import unicodedata

# Apostrophes and quotes that keyboards and models write for '
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u0060\u00b4\uff07", "'"))


def fold(text: str) -> str:
    """``text`` in lower case, without accents, zero-width and other invisible characters.

    Full-width and mathematical letters become plain ones; letters of other alphabets that look
    like Latin ones do not.
    """
    letters = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES))
    return "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Cf")).casefold()

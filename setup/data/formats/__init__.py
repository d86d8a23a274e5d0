"""Formats of chat data: each adapter makes a row with `messages` of a row of its format.

The first row that has a format decides for its source; one that fits two is not guessed at.
"""

from .adapters import BESIDE_TURNS
from .choose import Reader, as_messages

__all__ = ["BESIDE_TURNS", "Reader", "as_messages"]

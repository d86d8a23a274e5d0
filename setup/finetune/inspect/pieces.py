"""A rendered conversation cut into pieces that are trained or only read, text or special token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from setup.data.personal import hide
from setup.finetune.examples.chat_template import Rendered

# Control characters as pictures of themselves, for a terminal and a page must not obey them.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
# Marks that turn the direction of writing would do so for all that comes after them.
_PICTURES |= dict.fromkeys((*range(8234, 8239), *range(8294, 8298)), 65533)


class Piece(NamedTuple):
    """A part of the text; ``special``: it is one token of the model's own; ``stop``: it ends."""

    text: str
    trained: bool
    special: bool
    stop: bool


def cut_pieces(rendered: Rendered, labelled: Sequence[int], special: set[int]) -> list[Piece]:
    """The text in pieces, characters of control as pictures, personal data hidden but for its ends.

    Text that no token covers is not trained.
    """
    trained = set(labelled)
    marks: list[tuple[bool, bool, int]] = [(False, False, -1)] * len(rendered.text)
    for place, (start, end) in enumerate(rendered.offsets):
        is_special = rendered.ids[place] in special
        mark = place in trained, is_special, place if is_special else -1
        marks[start:end] = [mark] * (end - start)
    shown = hide(rendered.text).translate(_PICTURES)
    pieces = []
    for (is_trained, is_special, _), group in groupby(
        zip(shown, marks, strict=True), key=lambda pair: pair[1]
    ):
        text = "".join(character for character, _ in group)
        pieces.append(Piece(text, is_trained, is_special, is_trained and is_special))
    return pieces

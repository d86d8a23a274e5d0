"""The refusals among answers, known by how they begin: in five languages, no reference needed.

Looked for in the first sentence, and in the greetings and apologies before it: a first person who
cannot or will not help, may help only with something else, declines, or does not know. A fact with
a "not" in it ("We cannot ship to Norway") is no refusal, and neither is what follows an answer ("It
has 9 keys. I cannot say more").
"""

from __future__ import annotations

import re

from .languages import GREETINGS, is_foreign, refuses
from .words import fold, plain

_OPENING = re.compile(
    rf"""
    (?: (?: {GREETINGS} | hi | hello | hey | thanks? | unfortunately | apologies | i\ apologi[sz]e
          | (?:(?:i'm|i\ am|we're|we\ are)\ )? (?:very\ |so\ )? sorry )
        \b [^.!?]* [.!?]+ \s* )*
    [^.!?]*
    """,
    re.VERBOSE,
)
_OPENING_CHARACTERS = 2000

_GAP = r"(?:\ \w+){0,2}?"
_CANNOT = r"\ (?:cannot|can\ not|can'?t|could\ not|couldn't|won't|will\ not|(?:not\ |un)able\ to)"
_HELP = r"\ (?:help|assist|answer|advise|comment|discuss|disclose)\b"
_GIVE = r"\ (?:provide|give|offer|do|create|write|generate|share|reveal|tell|say|comply|fulfil)\b"
_REFUSAL = re.compile(
    rf"""
      \b(?:i|we)(?:'m|'re)?{_GAP}{_CANNOT}{_GAP}{_HELP}
    | (?: ^ | \bsorry,? | \bbut | \bunfortunately,? ) {_CANNOT}{_GAP}{_HELP}
    | \bi(?:'m)?{_GAP}{_CANNOT}{_GAP}{_GIVE}
    | \b(?:i|we)(?:\ can|\ am|\ are|'m|'re)?\ only(?:\ can|\ able\ to|\ allowed\ to)?{_HELP}
    | \bnot\ something\ (?:i|we)\ can\b
    | \bi(?:'ll)?(?:\ (?:must|have\ to|will|respectfully|politely)){{0,2}}\ (?:decline|refuse)\b
    | \b(?:i|we)\ (?:do\ not|don't)(?:\ \w+)?\ know\b
    | \b(?:i|we)\ (?:do\ not|don't)\ have(?:\ \w+){{0,3}}?\ (?:information|access|knowledge)\b
    """,
    re.VERBOSE,
)


def is_refusal(answer: str) -> bool | None:
    """Tell whether ``answer`` begins as a refusal; None in a language that is not known here."""
    text = fold(answer[:_OPENING_CHARACTERS])
    opening = _OPENING.match(text)
    begins = opening.group() if opening else ""
    # The space: the patterns' words each bring the one before them, the first word too.
    if _REFUSAL.search(f" {begins}") or refuses(begins):
        return True
    return None if is_foreign(text) else False


def declined(answer: str, ground_truth: str) -> int | None:
    """1 where an answer that had to decline does: in the very words of the ground truth.

    A model is taught one sentence to decline with, and only that counts. Without a ground truth any
    refusal does, and None is an answer in a language whose refusals are not known here.
    """
    if not ground_truth:
        return _as_number(is_refusal(answer))
    return int(plain(answer) == plain(ground_truth))


def over_declined(answer: str, ground_truth: str) -> int | None:
    """1 where an answer that had to be given declines.

    None where the ground truth declines, too, or an answer is in a language not known here.
    """
    if is_refusal(ground_truth):
        return None
    return _as_number(is_refusal(answer))


def _as_number(value: bool | None) -> int | None:
    return None if value is None else int(value)

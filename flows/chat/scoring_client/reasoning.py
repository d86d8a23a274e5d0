"""A model's thinking in front of its answer: ``<think>…</think>`` and the like, whole or in pieces.

Servers that know the model put its thinking into a field of its own; others leave it in the text.
Only what stands in front of the answer counts: an answer may well quote such a tag.
"""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "reasoning")
_CLOSING = {f"<{name}>": f"</{name}>" for name in _NAMES} | {"[think]": "[/think]"}
_LONGEST = max(map(len, _CLOSING))
# Templates of some models end the prompt with the opening tag, and the reply lacks it.
_ORPHAN = re.compile(r"^[ \t]*</(?:think|thinking|thought|reasoning)>[ \t]*$", re.M | re.I)


class Thinking:
    """Takes a text piece by piece and lets the answer through, holding back what may be a tag.

    ``met`` says that there was thinking, ``text`` is what of it has come so far.
    """

    def __init__(self) -> None:
        self.met = False
        self.text = ""
        self._held = ""
        self._closing = ""
        self._answering = False

    def feed(self, piece: str) -> str:
        """The part of the answer that is certain with ``piece``."""
        self._held += piece
        while not self._answering:
            if not (self._leave() if self._closing else self._enter()):
                return ""
        answer, self._held = self._held, ""
        return answer

    def end(self) -> str:
        """Return what was held back to the end and is no thinking."""
        if self._closing:
            self.text += self._held
            return ""
        return self._held.lstrip() if self.met else self._held

    def _enter(self) -> bool:
        """Go into the thinking, or on to the answer; False where more must come first."""
        start = self._held.lstrip()
        begins = start[:_LONGEST].lower()
        tag = next((tag for tag in _CLOSING if begins.startswith(tag)), "")
        if tag:
            self.met, self._closing, self._held = True, _CLOSING[tag], start[len(tag) :]
        elif any(tag.startswith(begins) for tag in _CLOSING):  # of all, when there is nothing yet
            return False
        else:
            self._answering, self._held = True, start if self.met else self._held
        return True

    def _leave(self) -> bool:
        """Leave the thinking; False where its end is not here yet."""
        end = re.search(re.escape(self._closing), self._held, re.IGNORECASE)
        if end is None:
            keep = len(self._held) - len(self._closing) + 1
            self.text += self._held[: max(0, keep)]
            self._held = self._held[max(0, keep) :]
            return False
        self.text += self._held[: end.start()]
        self._closing, self._held = "", self._held[end.end() :]
        return True


def split_reasoning(text: str) -> tuple[str, str]:
    """The thinking in front of an answer, and the answer: empty where the thinking is cut off."""
    thinking = Thinking()
    answer = thinking.feed(text) + thinking.end()
    orphan = None if thinking.met else _orphan(text)
    if orphan:
        return text[: orphan.start()].strip(), text[orphan.end() :].lstrip()
    return thinking.text.strip(), answer


def lacks_opening(text: str) -> bool:
    """Tell whether thinking ends in a tag that nothing opened: too late to tell in a stream."""
    thinking = Thinking()
    thinking.feed(text)
    return not thinking.met and _orphan(text) is not None


def _orphan(text: str) -> re.Match[str] | None:
    """The tag on a line of its own that ends thinking which nothing opened, outside of code."""
    end = _ORPHAN.search(text)
    before = text[: end.start()].lower() if end else ""
    quoted = before.count("```") % 2 or any(tag in before for tag in _CLOSING)
    return None if quoted else end

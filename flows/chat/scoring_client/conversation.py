"""Question, history and system text as role messages that fit the model's context window.

The budget in tokens is the context window less the tokens kept for the answer. Oldest turns go
first, a question and its answer together; the system text and the newest turns stay. Counting is an
estimate on the safe side; only where that says the whole conversation may not fit is the endpoint's
tokenizer asked, if it has one, a few times at most.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from .client import TokenCount
from .contracts import Message
from .errors import ConfigurationError, InputError, QuestionTooLargeError

MESSAGE_TOKENS = 8  # that a chat template puts around one message, on the safe side
TEMPLATE_TOKENS = 48  # that it adds once: start markers, the default system text of some models
OVERESTIMATE = 6  # of the estimate at most; what is beyond it is not worth counting

Turn = tuple[str, str]
"""A question and its answer."""
Counter = Callable[[list[Message]], TokenCount]

_RUN = re.compile(r" ?[A-Za-z0-9]+|[^\x00-\x7f]+|[\x00-\x7f]")
_WORD = re.compile(r" ?[A-Z]?[a-z]{1,16}")


@dataclass(frozen=True)
class Window:
    """Room for a conversation.

    ``context`` tokens in all, of which ``answer`` are kept for the reply; ``count`` is the
    endpoint's tokenizer, asked only when the estimate does not fit.
    """

    context: int
    answer: int
    count: Counter | None = None

    def budget(self, server_limit: int | None = None) -> int:
        """Tokens the prompt may have, the server's own smaller window respected."""
        context = min(self.context, server_limit or self.context)
        if context - self.answer <= TEMPLATE_TOKENS:
            raise ConfigurationError(
                f"max_new_tokens {self.answer} leaves no room for a question in a context window "
                f"of {context} tokens",
                fix="lower max_new_tokens, or set the connection's 'context_window'",
            )
        return context - self.answer


def build_messages(
    question: str,
    chat_history: Any,
    system_prompt: str,
    window: Window,
    *,
    system_role: str = "fold",
) -> list[Message]:
    """Messages that alternate user and assistant, end with ``question`` and fit ``window``.

    Args:
        chat_history: Prompt flow's ``[{"inputs": {"question": …}, "outputs": {"answer": …}}]``,
            oldest first, or ``None``; turns without an answer, which failed, are left out.
        system_role: ``native`` sends the system text as a message of its own; ``fold`` puts it
            before the first question, for models without such a role (Phi-3).

    Raises:
        InputError: an empty question or a malformed history.
        QuestionTooLargeError: the question, with the system text, does not fit alone.
        ConfigurationError: the answer leaves no room for a question.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError("the question is empty", "input 'question'", "ask something")
    turns = turns_of(chat_history)
    system = (system_prompt or "").strip()

    def keep(newest: int) -> list[Message]:
        return _messages(question, turns[len(turns) - newest :], system, system_role)

    return keep(_turns_that_fit(keep, turns, window))


def turns_of(chat_history: Any) -> list[Turn]:
    """The answered turns of a Prompt flow history, oldest first."""
    if chat_history is None:
        return []
    if not isinstance(chat_history, list):
        raise _malformed("is not a list")
    turns = (_turn(entry, number) for number, entry in enumerate(chat_history))
    return [turn for turn in turns if turn is not None]


def estimate(text: str) -> int:
    """Tokens of ``text``, rather too many than too few.

    A word costs a token per 3 letters, its blank included. Whatever does not look like a word
    (digits, capitals, codes, runs of consonants) and all punctuation costs a token per character.
    Other scripts and emoji cost one per UTF-8 byte, the most a byte-level vocabulary can need.
    On SmolLM2's vocabulary this gives 1.6 times the tokens of English, 1.7 times those of Chinese
    and 1.0 to 1.7 times those of random letters and digits.
    """
    return sum(_cost(run) for run in _RUN.findall(text))


def _cost(run: str) -> int:
    if not run.isascii():
        return len(run.encode("utf-8", errors="replace"))
    vowels = sum(letter in "aeiouyAEIOUY" for letter in run)
    if _WORD.fullmatch(run) and 5 * vowels >= len(run.strip()):
        return -(-len(run.strip()) // 3)
    return len(run)


def _turn(entry: Any, number: int) -> Turn | None:
    if not isinstance(entry, dict):
        raise _malformed(f"has an entry {number} that is not an object")
    inputs, outputs = entry.get("inputs"), entry.get("outputs")
    question = inputs.get("question") if isinstance(inputs, dict) else None
    if not isinstance(question, str):
        raise _malformed(f"has an entry {number} without inputs.question")
    if not isinstance(outputs, dict) and outputs is not None:
        raise _malformed(f"has an entry {number} whose outputs are not an object")
    answer = (outputs or {}).get("answer")
    if not isinstance(answer, str) and answer is not None:
        raise _malformed(f"has an entry {number} whose outputs.answer is not text")
    return (question, answer) if question.strip() and answer and answer.strip() else None


def _malformed(how: str) -> InputError:
    return InputError(
        f"the chat history {how}",
        "input 'chat_history'",
        'give [{"inputs": {"question": "…"}, "outputs": {"answer": "…"}}], oldest first',
    )


def _messages(question: str, turns: list[Turn], system: str, system_role: str) -> list[Message]:
    messages: list[Message] = []
    for asked, answered in turns:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    messages.append({"role": "user", "content": question})
    if system and system_role == "native":
        messages.insert(0, {"role": "system", "content": system})
    elif system:
        messages[0]["content"] = f"{system}\n\n{messages[0]['content']}"
    return messages


def _turns_that_fit(keep: Callable[[int], list[Message]], turns: list[Turn], window: Window) -> int:
    """The number of the newest turns to keep."""
    budget = window.budget()
    alone = TEMPLATE_TOKENS + sum(_size(message["content"]) for message in keep(0))
    newest_first = (_size(asked) + _size(answered) for asked, answered in reversed(turns))
    sizes = list(accumulate(newest_first, initial=alone))
    fitting = bisect_right(sizes, budget) - 1  # -1 where not even the question alone fits
    if window.count is not None and fitting < len(turns):
        return _counted_turns(keep, sizes, window, window.count)
    return _at_least_none(fitting, f"about {sizes[0]}", budget, window)


def _counted_turns(
    keep: Callable[[int], list[Message]], sizes: list[int], window: Window, count: Counter
) -> int:
    """Bisect between the turns that surely fit and those that may."""
    most = max(0, bisect_right(sizes, OVERESTIMATE * window.budget()) - 1)
    tokens = count(keep(most))
    budget = window.budget(tokens.limit)
    if tokens.count <= budget:
        return most
    fitting, most = bisect_right(sizes, budget) - 1, most - 1
    while fitting < most:
        middle = (fitting + most + 1) // 2
        tokens = count(keep(middle))
        if tokens.count <= budget:
            fitting = middle
        else:
            most = middle - 1
    return _at_least_none(fitting, str(tokens.count), budget, window)


def _size(text: str) -> int:
    return estimate(text) + MESSAGE_TOKENS


def _at_least_none(fitting: int, size: str, budget: int, window: Window) -> int:
    if fitting >= 0:
        return fitting
    raise QuestionTooLargeError(
        f"the question with its system text has {size} tokens and {budget} fit "
        f"(context window less {window.answer} for the answer)",
        "input 'question'",
        "shorten it, lower max_new_tokens, or use a model with a larger context window",
    )

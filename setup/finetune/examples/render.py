"""Conversations in the model's own chat template, with the answers to learn marked for the loss.

A whole run is rendered as of one moment; an answer is marked with its stop token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from setup.finetune.examples.template import Message, NotTrainableError, Rendered, Renderer

if TYPE_CHECKING:
    import torch

_FEW = 8  # answers whose prompts are all rendered: for more that costs the square of their number


class RewrittenError(NotTrainableError):
    """The chat template writes an answer otherwise once more turns follow."""


class _JoinedError(RewrittenError):
    """A token of the prompt reaches over the place ``start`` where the model begins to answer."""

    def __init__(self, start: int) -> None:
        super().__init__("its first letters are one token with the end of the prompt")
        self.start = start


class TooLongError(NotTrainableError):
    """The last exchange alone is of ``tokens`` tokens, more than ``max_tokens``."""

    def __init__(self, tokens: int, max_tokens: int) -> None:
        super().__init__(f"its last exchange is longer than {max_tokens} tokens: {tokens}")
        self.tokens = tokens


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` of shape (tokens,), ``labelled`` the positions of answer tokens.

    ``shortened`` says that its oldest turns were dropped, ``without_system`` that the template left
    its system message out. ``hidden`` is what the frozen layers make of it, (tokens, width), where
    that is remembered; ``row`` is the number of the conversation in its part.
    """

    ids: list[int]
    labelled: list[int]
    shortened: bool = field(default=False, compare=False)
    without_system: bool = field(default=False, compare=False)
    hidden: torch.Tensor | None = field(default=None, compare=False, repr=False)
    row: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.ids)


def render_example(messages: Sequence[Message], renderer: Renderer, max_tokens: int) -> Example:
    """``messages`` in the model's own chat template, at most ``max_tokens`` long.

    The oldest turns are dropped until the rest fits, as the chat flow does it with a history.
    Answers of weight 0 are not labelled.

    Raises:
        NotTrainableError: The last exchange alone is too long, no answer of it is to be learnt or
            can be found again in the rendered text, the template ends it without a stop token, or
            another turn holds a token that only the template may write.
    """
    if not any(turn["role"] == "assistant" for turn in messages):
        raise NotTrainableError("it holds no answer")
    kept, rendered = _longest_that_fits(messages, renderer, max_tokens)
    _refuse_control_tokens(kept, renderer)
    try:
        labelled = _label(kept, rendered, renderer)
    except _JoinedError as joined:
        if len(_learnt(kept)) > 1:
            raise
        rendered = renderer.encode_apart(rendered.text, joined.start)
        labelled = _label(kept, rendered, renderer)
        if len(rendered) > max_tokens:
            raise TooLongError(len(rendered), max_tokens) from None
    system, _ = _system_and_turns(kept)
    lost = any(turn["content"].strip() not in rendered.text for turn in system)
    return Example(rendered.ids, labelled, len(kept) < len(messages), lost)


def render_examples(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> list[Example]:
    """``messages`` as one example; as one for each answer where the template rewrites earlier ones.

    Qwen 3 and SmolLM3 leave the mark of thoughts out of all answers but the last, so that an
    earlier one is never served the prompt that stands before it later on.

    Raises:
        NotTrainableError: As ``render_example``, for the whole or for one of the answers.
    """
    try:
        return [render_example(messages, renderer, max_tokens)]
    except RewrittenError:
        learnt = _learnt(messages)
        if learnt == [len(messages) - 1]:
            raise
    return [render_example(_alone(messages[: n + 1]), renderer, max_tokens) for n in learnt]


def _learnt(messages: Sequence[Message]) -> list[int]:
    """The numbers of the answers to learn."""
    return [
        number
        for number, turn in enumerate(messages)
        if turn["role"] == "assistant" and turn.get("weight", 1)
    ]


def _alone(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with no answer to learn but the last."""
    *before, last = messages
    return [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in before] + [
        last
    ]


def _refuse_control_tokens(messages: list[Message], renderer: Renderer) -> None:
    """See that no question and no system message, which are only read, ends its own turn.

    Answers are held against what the template makes of them (``_unlike``).
    """
    names = {"user": "a question", "system": "the system message"}
    for turn in messages:
        if turn["role"] != "assistant" and renderer.holds_control(turn["content"]):
            raise NotTrainableError(
                f"{names.get(turn['role'], 'a turn')} contains a special token of the model",
                "take it out in data.source, then python -m setup data",
            )


def _longest_that_fits(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> tuple[list[Message], Rendered]:
    """The system message and the turns from the earliest user turn from which all of them fit.

    Found by bisection, for every trial is a rendering of all that is left.
    """
    system, turns = _system_and_turns(messages)
    starts = [0, *(i for i, turn in enumerate(turns) if i and turn["role"] == "user")]
    tried: dict[int, tuple[list[Message], Rendered]] = {}

    def fits(number: int) -> bool:
        kept = system + turns[starts[number] :]
        tried[number] = kept, renderer.encode(renderer.text(kept))
        return len(tried[number][1]) <= max_tokens

    if fits(0):
        return tried[0]
    later = range(1, len(starts))
    number = 1 + bisect_left(later, True, key=fits)
    if number == len(starts):
        raise TooLongError(len(tried[number - 1][1]), max_tokens)
    return tried[number]


def _system_and_turns(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    count = int(bool(messages) and messages[0]["role"] == "system")
    return list(messages[:count]), list(messages[count:])


def _label(messages: list[Message], rendered: Rendered, renderer: Renderer) -> list[int]:
    """Positions of the tokens of all answers to learn, each with its stop token."""
    answers = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
    learnt = _learnt(messages)
    if not learnt:
        raise NotTrainableError("it holds no answer" + (" to learn: weight 0" if answers else ""))
    starts = _starts_by_offsets(messages, answers, rendered.text, renderer)
    labelled: list[int] = []
    token = 0
    for index in learnt:
        before = messages[:index]
        start = starts[index] if starts else _answer_start(before, rendered.text, renderer)
        while token < len(rendered) and rendered.offsets[token][0] < start:
            token += 1
        _see_apart(rendered, token, start, renderer)
        answer = messages[index]["content"].strip()
        stop = _stop_token(rendered, token, start, answer, renderer)
        written = rendered.text[start : rendered.offsets[stop][0]]
        if written.strip() != answer:
            raise _unlike(messages[: index + 1], written, renderer)
        # By position, never by id: the padding token is often the stop token itself, and a model
        # whose stop tokens are masked never learns to stop.
        labelled += range(token, stop + 1)
        token = stop + 1
    return labelled


def _see_apart(rendered: Rendered, token: int, start: int, renderer: Renderer) -> None:
    """See that the prompt before ``start`` has the tokens that it has alone, when it is served.

    An answer that begins with white space may make others of its end. No token reaches over a
    special one, so that all from the last of those on is enough to look at.
    """
    ids, first = rendered.ids[:token], token - 1
    while first > 0 and ids[first] not in renderer.special:
        first -= 1
    alone = renderer.encode(rendered.text[rendered.offsets[max(first, 0)][0] : start]).ids
    if ids[max(first, 0) :] != alone:
        raise _JoinedError(start)


def _answer_start(before: list[Message], text: str, renderer: Renderer) -> int:
    """The place where the model starts to write: the end of its prompt when it is served."""
    prompt = renderer.text(before, prompt=True) if before else ""
    if not prompt or not text.startswith(prompt):
        raise RewrittenError(
            "the chat template renders a prompt differently once an answer follows"
        )
    return len(prompt)


def _starts_by_offsets(
    messages: list[Message], answers: list[int], text: str, renderer: Renderer
) -> dict[int, int]:
    """``_answer_start`` of each of ``answers`` without rendering all that comes before it.

    Empty for few answers, and where a turn looks otherwise in its place than it does alone
    (numbered turns, a rewritten history): there only the prompts themselves can tell.
    """
    if len(answers) <= _FEW:
        return {}
    try:
        return _add_up(messages, answers, text, renderer)
    except NotTrainableError:  # of a part of the conversation only, or said again for all of it
        return {}


def _add_up(
    messages: list[Message], answers: list[int], text: str, renderer: Renderer
) -> dict[int, int]:
    """From one answer to the next, ``text`` must go on as a rendering of these exchanges alone.

    The first and the last prompt are compared as a whole. Empty where anything differs.
    """
    system, _ = _system_and_turns(messages)
    begin, end = len(system), _answer_start(messages[: answers[0]], text, renderer)
    starts = {answers[0]: end}
    for answer, following in pairwise(answers):
        until = renderer.text(system + messages[begin:answer], prompt=True)
        alone = renderer.text(system + messages[begin:following], prompt=True)
        added = alone[len(until) :]
        if not alone.startswith(until) or not text.startswith(added, end):
            return {}
        begin, end = answer + 1, end + len(added)
        starts[following] = end
    return starts if _answer_start(messages[: answers[-1]], text, renderer) == end else {}


def _stop_token(rendered: Rendered, first: int, start: int, answer: str, renderer: Renderer) -> int:
    """The first special token from ``first`` on, which is where generation stops.

    A token that was only added, not marked as special, counts where the whole answer is before it.
    """
    ids, text, offsets = rendered.ids, rendered.text, rendered.offsets

    def ends(position: int) -> bool:
        if ids[position] in renderer.added:
            return text[start : offsets[position][0]].strip() == answer
        return ids[position] in renderer.special

    stop = next((position for position in range(first, len(ids)) if ends(position)), None)
    if stop is None:
        raise NotTrainableError(
            "the chat template ends its answer without a stop token",
            "use a model whose chat template ends every turn with a special token (model.source)",
        )
    return stop


def _unlike(messages: list[Message], written: str, renderer: Renderer) -> NotTrainableError:
    """The reason why ``written``, up to a stop token, is not the answer ``messages`` end with."""
    if renderer.holds_special(messages[-1]["content"]):
        return NotTrainableError(
            "an answer contains a special token of the model",
            "take it out of the answers in data.source, then python -m setup data --recipe NAME",
        )
    before, answer = messages[:-1], messages[-1]["content"].strip()
    begins_with_role = not written.strip() or written.strip().endswith(answer)
    if begins_with_role and renderer.text(before, prompt=True) == renderer.text(before):
        return NotTrainableError(
            "the chat template has no generation prompt, so that a served model would have to "
            "begin its answer with its own role",
            "use a model whose chat template supports add_generation_prompt (model.source)",
        )
    return NotTrainableError(
        f"the chat template changes an answer: it writes {written.strip()[:40]!r}",
        "use a model whose chat template writes answers as they are (model.source)",
    )

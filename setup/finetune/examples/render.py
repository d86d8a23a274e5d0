"""Conversations in the model's own chat template, with the answers to learn marked for the loss.

A whole run is rendered as of one moment; an answer is marked with its stop token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from setup.finetune.examples import written_tools
from setup.finetune.examples.chat_template import Rendered, Renderer
from setup.finetune.examples.labels import label, learnt_answers, system_and_turns
from setup.finetune.examples.refusals import (
    JoinedError,
    NotTrainableError,
    RewrittenError,
    TooLongError,
)
from setup.finetune.examples.tools import Message, uses_tools

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` of shape (tokens,), ``labelled`` the positions of answer tokens.

    ``dropped`` counts the oldest turns, which were left out for it to fit, ``without_system`` says
    that the template left its system message out. ``hidden`` is what the frozen layers make of it,
    (tokens, width), where that is remembered; ``row`` is the conversation's number in its part.
    """

    ids: list[int]
    labelled: list[int]
    dropped: int = field(default=0, compare=False)
    without_system: bool = field(default=False, compare=False)
    hidden: torch.Tensor | None = field(default=None, compare=False, repr=False)
    row: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shortened(self) -> bool:
        """Tell whether its oldest turns were left out."""
        return self.dropped > 0


def render_example(messages: Sequence[Message], renderer: Renderer, max_tokens: int) -> Example:
    """``messages`` as one example; NotTrainableError as for :func:`render_visibly`."""
    return _render(messages, renderer, max_tokens)[0]


def render_examples(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> list[Example]:
    """``messages`` as examples; NotTrainableError as for :func:`render_visibly`."""
    return [example for example, _ in render_visibly(messages, renderer, max_tokens)]


def render_visibly(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> list[tuple[Example, Rendered]]:
    """``messages`` as one example; as one for each answer where the template rewrites earlier ones.

    Qwen 3 and SmolLM3 leave the mark of thoughts out of all answers but the last, so that an
    earlier one is never served the prompt that stands before it later on. With each example comes
    the text, of which it has the ids.

    Raises:
        NotTrainableError: The last exchange alone is too long, no answer of it is to be learnt or
            can be found again in the rendered text, the template ends it without a stop token, or
            another turn holds a token that only the template may write.
    """
    try:
        return [_render(messages, renderer, max_tokens)]
    except RewrittenError:
        learnt = learnt_answers(messages)
        if learnt == [len(messages) - 1]:
            raise
    return [_render(_alone(messages[: n + 1]), renderer, max_tokens) for n in learnt]


def _render(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> tuple[Example, Rendered]:
    """``messages`` in the model's own chat template, at most ``max_tokens`` long.

    The oldest turns are dropped until the rest fits, as the chat flow does it with a history.
    Answers of weight 0 are not labelled.
    """
    if not any(turn["role"] == "assistant" for turn in messages):
        raise NotTrainableError("it holds no answer")
    kept, rendered = _longest_that_fits(messages, renderer, max_tokens)
    _refuse_control_tokens(kept, renderer)
    if uses_tools(messages):
        written_tools.refuse_unknown(messages, kept, rendered.text, renderer)
    try:
        labelled = label(kept, rendered, renderer)
    except JoinedError as joined:
        if len(learnt_answers(kept)) > 1:
            raise
        rendered = renderer.encode_apart(rendered.text, joined.start)
        labelled = label(kept, rendered, renderer)
        if len(rendered) > max_tokens:
            raise TooLongError(len(rendered), max_tokens) from None
    system, _ = system_and_turns(kept)
    lost = any(turn["content"].strip() not in rendered.text for turn in system)
    return Example(rendered.ids, labelled, len(messages) - len(kept), lost), rendered


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
    names = {"user": "a question", "system": "the system message", "tool": "what a tool answers"}
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
    system, turns = system_and_turns(messages)
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

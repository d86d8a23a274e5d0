"""Conversations in the model's own chat template, with the answers to learn marked for the loss.

A whole run is rendered as of one moment; an answer is marked with its stop token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from setup.finetune.examples import tools as tool_turns
from setup.finetune.examples.refusals import (
    NotTrainableError,
    RefusedByTemplateError,
    TooLongError,
    ToolsUnknownError,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "Example",
    "Message",
    "NotTrainableError",
    "RefusedByTemplateError",
    "Rendered",
    "Renderer",
    "TooLongError",
    "ToolsUnknownError",
    "render_example",
]

# "role" and "content"; an answer may have "weight" 0: it is context, read but not learnt.
Message = dict[str, Any]
_FEW = 8  # answers whose prompts are all rendered: for more that costs the square of their number


@dataclass(frozen=True)
class Rendered:
    """A text, its tokens, and where in the text each of them begins and ends."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


class Renderer:
    """A tokenizer's chat template; ``prints_date`` turns true once it has asked for the time.

    Some templates (Llama 3.2, Granite, Mistral Small) print today's date. It is that of ``now``
    throughout: a run that goes on after midnight must not become another run.
    """

    def __init__(self, tokenizer: Any, now: datetime | None = None) -> None:
        self._tokenizer = tokenizer
        self.now = now or datetime.now().replace(microsecond=0)
        self.prints_date = False
        self._tools: list[Any] | None = None
        added = tokenizer.added_tokens_decoder
        self.special = {*tokenizer.all_special_ids, *added}
        ends = (number for number, token in added.items() if token.special)
        self.control_ids = {*tokenizer.all_special_ids, *ends}
        names = (token.content for token in added.values() if token.special)
        self._control = {*tokenizer.all_special_tokens, *names}

    def at(self, moment: datetime) -> Renderer:
        """A renderer of the same template as of ``moment``."""
        return Renderer(self._tokenizer, moment)

    def offering(self, tools: list[Any]) -> Renderer:
        """A renderer of the same template that offers ``tools``."""
        if not tools and not self._tools:
            return self
        other = copy(self)
        other._tools = tools or None
        return other

    def text(self, messages: Sequence[Message], prompt: bool = False) -> str:
        """``messages`` as text, with ``prompt`` up to where the model begins to answer.

        Raises:
            RefusedByTemplateError: The template does not take them.
        """
        # Without the weight: a template may print whatever a turn holds.
        turns, tools = tool_turns.for_template(messages), self._tools
        apply = self._tokenizer.apply_chat_template
        try:
            with self._stopped_clock():
                return str(apply(turns, tools=tools, tokenize=False, add_generation_prompt=prompt))
        except (TemplateError, TypeError) as error:
            raise RefusedByTemplateError(f"the chat template refuses it: {error}") from None

    def encode(self, text: str) -> Rendered:
        """``text`` with its tokens; no second BOS is added to that of the template."""
        made = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return Rendered(text, list(made["input_ids"]), list(made["offset_mapping"]))

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``."""
        return str(self._tokenizer.decode(ids))

    def holds_special(self, text: str) -> bool:
        """Tell whether a special token of the model is written out in ``text``."""
        return not self.special.isdisjoint(self.encode(text).ids)

    def holds_control(self, text: str) -> bool:
        """Tell whether a part of ``text`` would be read as a token that begins or ends a turn."""
        return any(name in text for name in self._control)

    @contextmanager
    def _stopped_clock(self) -> Iterator[None]:
        """Let templates read ``now``: transformers offers no way to pass them a function."""
        from transformers.utils import chat_template_utils

        real = chat_template_utils.datetime
        chat_template_utils.datetime = _Clock(self)
        try:
            yield
        finally:
            chat_template_utils.datetime = real


class _Clock:
    """A clock that transformers' ``strftime_now`` takes for the class datetime."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def now(self) -> datetime:
        self._renderer.prints_date = True
        return self._renderer.now


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` of shape (tokens,), ``labelled`` the positions of answer tokens.

    ``dropped`` counts the oldest turns, which were left out for it to fit, ``without_system`` says
    that the template left its system message out. ``hidden`` is what the frozen layers make of it,
    (tokens, width), where that is remembered.
    """

    ids: list[int]
    labelled: list[int]
    dropped: int = field(default=0, compare=False)
    without_system: bool = field(default=False, compare=False)
    hidden: torch.Tensor | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shortened(self) -> bool:
        """Tell whether its oldest turns were left out."""
        return self.dropped > 0


def render_example(messages: Sequence[Message], renderer: Renderer, max_tokens: int) -> Example:
    """``messages`` as an example; NotTrainableError as for :func:`render_visibly`."""
    return render_visibly(messages, renderer, max_tokens)[0]


def render_visibly(
    messages: Sequence[Message], renderer: Renderer, max_tokens: int
) -> tuple[Example, Rendered]:
    """``messages`` in the model's own chat template, at most ``max_tokens`` long.

    The oldest turns are dropped until the rest fits, as the chat flow does it with a history.
    Answers of weight 0 are not labelled. Returns also the text, of which the example has the ids.

    Raises:
        NotTrainableError: The last exchange alone is too long, no answer of it is to be learnt or
            can be found again in the rendered text, the template ends it without a stop token, or
            another turn holds a token that only the template may write.
    """
    if not any(turn["role"] == "assistant" for turn in messages):
        raise NotTrainableError("it holds no answer")
    kept, rendered = _longest_that_fits(messages, renderer, max_tokens)
    _refuse_control_tokens(kept, renderer)
    if tool_turns.uses_tools(messages):
        tool_turns.refuse_unknown(messages, kept, rendered.text, renderer)
    labelled = _label(kept, rendered, renderer)
    system, _ = _system_and_turns(kept)
    lost = any(turn["content"].strip() not in rendered.text for turn in system)
    return Example(rendered.ids, labelled, len(messages) - len(kept), lost), rendered


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
    learnt = [i for i in answers if messages[i].get("weight", 1)]
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
        if messages[index].get("tool_calls"):
            stop = tool_turns.stop_of_calls(messages[: index + 1], rendered, token, renderer)
            labelled += range(token, stop + 1)
            token = stop + 1
            continue
        stop = _stop_token(rendered, token, renderer.special)
        written = rendered.text[start : rendered.offsets[stop][0]]
        if written.strip() != messages[index]["content"].strip():
            raise _unlike(messages[: index + 1], written, renderer)
        # By position, never by id: the padding token is often the stop token itself, and a model
        # whose stop tokens are masked never learns to stop.
        labelled += range(token, stop + 1)
        token = stop + 1
    return labelled


def _answer_start(before: list[Message], text: str, renderer: Renderer) -> int:
    """The place where the model starts to write: the end of its prompt when it is served."""
    prompt = renderer.text(before, prompt=True) if before else ""
    if not prompt or not text.startswith(prompt):
        raise NotTrainableError(
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


def _stop_token(rendered: Rendered, first: int, special: set[int]) -> int:
    """The first special token from ``first`` on, which is where generation stops."""
    ids = rendered.ids
    stop = next((i for i in range(first, len(ids)) if ids[i] in special), None)
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

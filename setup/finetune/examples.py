"""Conversations as token ids, with the answers (and their stop tokens) marked for the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


class NotTrainableError(ValueError):
    """A conversation no example can be made of; the message says why."""


@dataclass(frozen=True)
class Example:
    """One conversation: ``ids`` of shape (tokens,), ``labelled`` the positions of answer tokens.

    ``hidden`` is what the frozen layers make of it, (tokens, width), where that is remembered.
    """

    ids: list[int]
    labelled: list[int]
    hidden: torch.Tensor | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def make_example(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Example:
    """``messages`` in the model's own chat template, at most ``max_tokens`` long.

    The oldest turns are dropped until the rest fits, as the chat flow does it with a history.

    Raises:
        NotTrainableError: The last exchange alone is too long, or an answer cannot be found
            again in the rendered text, or the template ends it without a stop token.
    """
    system = messages[:1] if messages and messages[0]["role"] == "system" else []
    turns = messages[len(system) :]
    longest = 0
    while turns:
        example = _render(system + turns, tokenizer)
        if len(example) <= max_tokens:
            return example
        longest = max(longest, len(example))
        turns = _without_oldest(turns)
    if longest:
        raise NotTrainableError(f"its last exchange is longer than {max_tokens} tokens")
    raise NotTrainableError("it holds no answer")


def _without_oldest(turns: list[Message]) -> list[Message]:
    """The conversation from its second user turn on; nothing when there is no second one."""
    later = [i for i, turn in enumerate(turns) if i and turn["role"] == "user"]
    return turns[later[0] :] if later else []


def _render(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> Example:
    text = _apply(messages, tokenizer)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    rendered = _Rendered(text, list(encoded["input_ids"]), list(encoded["offset_mapping"]))
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    labelled: list[int] = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            start = _answer_start(messages[:index], text, tokenizer)
            labelled += _answer_tokens(rendered, start, message["content"], special)
    if not labelled:
        raise NotTrainableError("it holds no answer")
    return Example(rendered.ids, labelled)


@dataclass(frozen=True)
class _Rendered:
    """A text, its tokens, and where in the text each of them begins and ends."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


def _apply(messages: list[Message], tokenizer: Any, prompt: bool = False) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        )
    except TemplateError as error:
        raise NotTrainableError(f"the chat template refuses it: {error}") from None


def _answer_start(before: list[Message], text: str, tokenizer: Any) -> int:
    """Where the model starts to write: the end of the prompt it is given when it is served."""
    prompt = _apply(before, tokenizer, prompt=True) if before else ""
    if not prompt or not text.startswith(prompt):
        raise NotTrainableError("the chat template renders its prompt otherwise than its answer")
    return len(prompt)


def _answer_tokens(rendered: _Rendered, start: int, answer: str, special: set[int]) -> list[int]:
    """Positions from ``start`` to the first special token, which is where generation stops.

    Labels go by position, never by id: the padding token is often the stop token itself, and a
    model whose stop tokens are masked never learns to stop.
    """
    ids, offsets = rendered.ids, rendered.offsets
    first = next((i for i, (begin, _) in enumerate(offsets) if begin >= start), len(ids))
    stop = next((i for i in range(first, len(ids)) if ids[i] in special), None)
    if stop is None:
        raise NotTrainableError("the chat template ends its answer without a stop token")
    if rendered.text[start : offsets[stop][0]].strip() != answer.strip():
        raise NotTrainableError("an answer contains a special token of the model")
    return list(range(first, stop + 1))

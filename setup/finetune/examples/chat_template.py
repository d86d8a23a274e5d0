"""A model's own chat template and tokenizer, asked as llama.cpp does it when it serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from setup.finetune.examples.refusals import RefusedByTemplateError
from setup.finetune.examples.tools import Message, for_template
from setup.serve.contract.folding import PROBES, Taken, judge

_DATES = {"date_string": "%d %b %Y", "datetime": "%b %d %Y"}


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

    ``begin`` is the token that every text begins with, empty where there is none.

    Some templates (Llama 3.2, Granite, Mistral Small) print today's date. It is that of ``now``
    throughout: a run that goes on after midnight must not become another run.
    """

    def __init__(self, tokenizer: Any, now: datetime | None = None) -> None:
        self._tokenizer = tokenizer
        self.now = now or datetime.now().replace(microsecond=0)
        self._tools: list[Any] | None = None
        added = tokenizer.added_tokens_decoder
        self.special = {
            *tokenizer.all_special_ids,
            *(number for number, token in added.items() if token.special),
        }
        self.added = set(added) - self.special  # some mark a turn's end, others a thought's
        names = (token.content for token in added.values() if token.special)
        self._control = {*tokenizer.all_special_tokens, *names}
        self.begin = _begin(tokenizer)
        self._options = {
            name: value
            for name, value in _given(self.now).items()
            if name in str(tokenizer.chat_template)
        }
        self.prints_date = not self._options.keys().isdisjoint(_DATES)

    @cached_property
    def taken(self) -> Taken:
        """The turns that the template takes; others are folded, in serving as well."""
        prompts: dict[str, str | None] = {}
        for name, turns in PROBES.items():
            try:
                prompts[name] = self._apply(turns, prompt=True)
            except RefusedByTemplateError:
                prompts[name] = None
        return judge(prompts)

    def at(self, moment: datetime) -> Renderer:
        """A renderer of the same template as of ``moment``."""
        return Renderer(self._tokenizer, moment)

    def offering(self, tools: list[Any]) -> Renderer:
        """A renderer of the same template that offers ``tools``."""
        if not tools and not self._tools:
            return self
        _ = self.taken  # of the template as it is without them
        other = copy(self)
        other._tools = tools or None
        return other

    def text(self, messages: Sequence[Message], prompt: bool = False) -> str:
        """``messages`` as text, with ``prompt`` up to where the model begins to answer.

        Raises:
            RefusedByTemplateError: The template does not take them.
        """
        text = self._apply(self.taken.fold(messages), prompt)
        # llama.cpp puts one there unless the template did.
        return text if text.startswith(self.begin) else self.begin + text

    def _apply(self, messages: Sequence[Message], prompt: bool) -> str:
        # Without the weight: a template may print whatever a turn holds.
        turns, apply = for_template(messages), self._tokenizer.apply_chat_template
        options = {"tools": self._tools, "add_generation_prompt": prompt, **self._options}
        try:
            with self._stopped_clock():
                return str(apply(turns, tokenize=False, **options))
        except (TemplateError, TypeError) as error:
            raise RefusedByTemplateError(f"the chat template refuses it: {error}") from None

    def encode(self, text: str) -> Rendered:
        """``text``, which has its BOS, with its tokens."""
        made = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return Rendered(text, list(made["input_ids"]), list(made["offset_mapping"]))

    def encode_apart(self, text: str, place: int) -> Rendered:
        """``text`` with no token that reaches over ``place``: what is before is a prompt."""
        before, after = self.encode(text[:place]), self.encode(text[place:])
        moved = [(begin + place, end + place) for begin, end in after.offsets]
        return Rendered(text, before.ids + after.ids, before.offsets + moved)

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


def _given(now: datetime) -> dict[str, Any]:
    """The variables that llama.cpp gives a template and transformers does not.

    Thoughts are switched off when a model is served: answers to learn hold none. Llama 3.1 prints a
    day of 2024 unless it is told another.
    """
    dates = {name: now.strftime(form) for name, form in _DATES.items()}
    return {"enable_thinking": False, **dates}


def _begin(tokenizer: Any) -> str:
    """The token that begins every text of the model, empty where there is none."""
    begin = tokenizer.bos_token
    return begin if begin and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else ""


class _Clock:
    """A clock that transformers' ``strftime_now`` takes for the class datetime."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def now(self) -> datetime:
        self._renderer.prints_date = True
        return self._renderer.now

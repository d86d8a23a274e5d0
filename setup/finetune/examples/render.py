"""Conversations as the model's own chat template writes them, as of one moment for a whole run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

# "role" and "content"; an answer may have "weight" 0: it is context, read but not learnt.
Message = dict[str, Any]


class NotTrainableError(ValueError):
    """A conversation no example can be made of; the message says why, ``fix`` what helps."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.fix = fix


class RefusedByTemplateError(NotTrainableError):
    """The chat template itself raised an error."""


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
        added = tokenizer.added_tokens_decoder
        self.special = {*tokenizer.all_special_ids, *added}
        names = (token.content for token in added.values() if token.special)
        self._control = {*tokenizer.all_special_tokens, *names}

    def at(self, moment: datetime) -> Renderer:
        """A renderer of the same template as of ``moment``."""
        return Renderer(self._tokenizer, moment)

    def text(self, messages: Sequence[Message], prompt: bool = False) -> str:
        """``messages`` as text, with ``prompt`` up to where the model begins to answer.

        Raises:
            RefusedByTemplateError: The template does not take them.
        """
        # Without the weight: a template may print whatever a turn holds.
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        apply = self._tokenizer.apply_chat_template
        try:
            with self._stopped_clock():
                return str(apply(turns, tokenize=False, add_generation_prompt=prompt))
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
        from transformers.utils import chat_template_utils  # noqa: PLC0415 - seconds of import

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

"""One question of the held-out part, answered by the model as it is now: a person sees it learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from setup.common.console import shorten
from setup.finetune.compute.sharding import is_sharded, one_pass, same_everywhere
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.dataset import fold_system
from setup.finetune.examples.refusals import RefusedByTemplateError
from setup.finetune.examples.tools import Message

_MOST_TOKENS = 24
_SHOWN, _SAID = 28, 38  # characters of question and answer: a line of a terminal


@dataclass(frozen=True)
class Question:
    """A question as a person reads it, and as the model does: ``ids`` of shape (tokens,)."""

    text: str
    ids: list[int]

    @classmethod
    def first(cls, rows: Sequence[list[Message]], folds: bool, renderer: Renderer) -> Question:
        """The first question of the first of ``rows`` that the template takes."""
        for row in rows:
            asked = next((n for n, turn in enumerate(row) if turn["role"] == "user"), None)
            if asked is None:
                continue
            turns = row[: asked + 1]
            try:
                prompt = renderer.text(fold_system([turns])[0] if folds else turns, prompt=True)
            except RefusedByTemplateError:
                continue
            return cls(shorten(row[asked]["content"], _SHOWN), renderer.encode(prompt).ids)
        return cls("", [])

    def answered(self, model: Any, renderer: Renderer) -> str:
        """The question and the most likely answer of ``model`` (a PeftModel); nothing is changed.

        No random number is drawn, so a run that is watched is the run that is not. All processes
        of a sharded model answer together.
        """
        if not self.ids:
            return ""
        if is_sharded(model):
            return one_pass(model, lambda: self._answered(model, renderer))
        return self._answered(model, renderer)

    def _answered(self, model: Any, renderer: Renderer) -> str:
        training, inner = model.training, model.get_base_model()
        device, answer = next(model.parameters()).device, list[int]()
        tokens, cache = torch.tensor([self.ids], device=device), None
        decoder, output = getattr(inner, inner.base_model_prefix), inner.get_output_embeddings()
        model.eval()
        with torch.no_grad():
            while len(answer) < _MOST_TOKENS:
                made = decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
                likeliest = output(made.last_hidden_state[:, -1:]).argmax(-1)
                likeliest = same_everywhere(likeliest) if is_sharded(model) else likeliest
                if int(likeliest) in renderer.special:
                    break
                answer.append(int(likeliest))
                tokens, cache = likeliest, made.past_key_values
        model.train(training)
        text = renderer.decode(answer)
        # What an untrained model says may be anything, also what moves a terminal's cursor.
        safe = "".join(letter if letter.isprintable() else " " for letter in text)
        return f"{self.text} > {shorten(safe, _SAID)}"

"""The seconds that a run has left, by what its steps and evaluations have taken so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from setup.finetune.compute.collate import attention_window, computed_tokens
from setup.finetune.compute.schedule import Plan, by_step
from setup.finetune.examples.render import Example

_FADES = 120.0  # seconds after which a step counts a third: other programs come and go


class TimeLeft:
    """Fed with the time of every step and evaluation; steps go by ``tokens``, those each computes.

    ``every`` so many steps, and after the last, the held-out loss is measured.
    """

    def __init__(self, tokens: Sequence[int], every: int, evaluation: float = 0.0) -> None:
        self._tokens, self._every, self._evaluation = tokens, every, evaluation
        self._seconds = self._done = 0.0

    @classmethod
    def of_run(cls, model: Any, examples: Sequence[Example], plan: Plan) -> TimeLeft:
        """That of a run of ``plan`` over ``examples``."""
        window = attention_window(model)
        batches = ([examples[row] for row in batch] for batch in plan.batches)
        computed = by_step([computed_tokens(batch, window) for batch in batches], plan.group)
        return cls(computed, plan.settings.evaluate_every)

    def stepped(self, step: int, seconds: float) -> None:
        """Step number ``step``, from 1, took so long, with what was saved after the one before."""
        self.computed(self._tokens[step - 1], seconds)

    def computed(self, tokens: int, seconds: float) -> None:
        """So many tokens of steps took so long."""
        kept = math.exp(-seconds / _FADES)
        self._seconds = kept * self._seconds + seconds
        self._done = kept * self._done + tokens

    def evaluated(self, seconds: float) -> None:
        """An evaluation took so long; the next ones are expected to."""
        self._evaluation = seconds

    def after(self, step: int) -> float | None:
        """The seconds that are left after ``step``; None before any step was timed."""
        if not self._done:
            return None
        total = len(self._tokens)
        evaluations = math.ceil(total / self._every) - step // self._every
        if step >= total:
            evaluations = 0
        steps = sum(self._tokens[step:]) * self._seconds / self._done
        return steps + evaluations * self._evaluation

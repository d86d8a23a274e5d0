"""The examples of a run: those it learns from, those it is measured on, the question it shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from setup.common.console import say
from setup.finetune.compute import processes
from setup.finetune.compute.schedule import plan_run
from setup.finetune.examples import dataset
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.present_answer import Question
from setup.finetune.forecast.work import Parts
from setup.recipe.local import Training


class TrainingData:
    """The examples of ``split`` as the model's chat template writes them, and what is told of them.

    A template that prints the date prints that of ``moment``. Says what is cut or done otherwise
    than ``recipe`` has it. FixableError where nothing is left of a part.
    """

    def __init__(
        self, recipe: Training, split: dataset.Split, tokenizer: Any, moment: datetime
    ) -> None:
        settings, folds = recipe.finetune, recipe.model.system_role == "fold"
        self.renderer = renderer = Renderer(tokenizer, moment)
        made = dataset.read_examples(split, folds, renderer, settings.max_tokens)
        self.train, self.held_out, self.facts = made.train, made.held_out, made.facts
        self.question = Question.first(split.held_out, folds, renderer)
        self.general = dataset.general_examples(tokenizer, settings.max_tokens)
        lengths = list(map(len, self.train))
        self.plan = plan_run(settings, lengths, len(split.held_out), processes.world())
        count = len(self.train)
        noun = "conversation" if count == self.facts["train_rows"] else "example"
        if remark := self.plan.remark(settings, count, noun):
            say(f"fine-tuning: {remark}")
        if renderer.prints_date:
            day = f"{renderer.now:%d %B %Y} in the whole run"
            served = "a served model is told the day of each request"
            say(f"fine-tuning: the chat template prints the date, {day}; {served}")

    @property
    def parts(self) -> Parts:
        """The examples alone."""
        return Parts(self.train, self.held_out, self.general)

    def mind_context(self, tokens: int) -> None:
        """Say how many examples are longer than the ``tokens`` that the model was made for."""
        longer = sum(len(example) > tokens for example in self.train + self.held_out)
        if longer:
            say(
                f"fine-tuning: {longer} conversations are longer than the {tokens} tokens the "
                f"model was made for; --set finetune.max_tokens={tokens} drops their oldest turns"
            )

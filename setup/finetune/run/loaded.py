"""Everything that a process of a run loads once: the model, its adapters and the examples."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import transformers

from setup.common.console import counting, progress_bar, say
from setup.common.paths import portable_name
from setup.finetune.compute import processes
from setup.finetune.compute.lora import attach_lora
from setup.finetune.compute.loss import (
    compute_plainly_unless_same,
    remember_frozen,
    use_answer_loss,
    worth_remembering,
)
from setup.finetune.compute.schedule import plan_run
from setup.finetune.examples import dataset
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.forecast.forecast import kept_forecast
from setup.finetune.forecast.prediction import forecast_steps, warn_of_memory
from setup.finetune.forecast.work import Parts
from setup.finetune.run.checkpoints import begin
from setup.finetune.run.present_answer import Question
from setup.finetune.run.served_prompt import refuse_other_prompt
from setup.recipe.local import Training
from setup.weights.base import Base, load_base, transformers_copy


class Loaded:
    """The model with its adapters, the examples and the plan of a run in ``folder``."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a process is told
        self,
        recipe: Training,
        base: Base,
        train: Path,
        folder: Path,
        began: float,
        writes: bool = True,
    ) -> None:
        """``began`` is the moment of the monotonic clock that its time counts from.

        Unless it ``writes``, nothing is kept outside ``folder``, to time two steps and no more.
        """
        transformers.logging.set_verbosity_error()
        self.settings, self.base, self.folder = recipe.finetune, base, folder
        self.began, self.earlier = began, 0.0
        self.world, self.is_first = processes.world(), processes.is_first()
        self.shards = self.settings.sharding != "none"
        cores = (os.cpu_count() or 1) // processes.local_world()
        torch.set_num_threads(self.settings.threads or max(1, cores))
        split = dataset.read_split(train, self.settings)
        begun = processes.decided_by_first(lambda: begin(folder, self.settings, self.world))
        self.dtype = begun.dtype
        if self.is_first and not self.shards:
            warn_of_memory(recipe, split, self.dtype)
        with progress_bar("Loading the base model"):
            source = base.source or transformers_copy(base.file, base.sha256, writes)
            served = base.file if base.source else None
            window = recipe.model.context_window
            model, self.tokenizer = load_base(source, self.dtype, served, window)
        # peft writes it beside the adapter, which others read.
        model.name_or_path = model.config.name_or_path = portable_name(base.source or base.named)
        self.renderer = Renderer(self.tokenizer, begun.moment)
        self._read_examples(split, folds=recipe.model.system_role == "fold")
        if self.is_first:
            refuse_other_prompt(base, self.renderer)
        transformers.set_seed(self.settings.seed)
        self.model = attach_lora(model, self.settings)
        use_answer_loss(self.model)
        if reason := compute_plainly_unless_same(self.model, min(self.examples, key=len)):
            say(f"fine-tuning: every token is computed in full, for shortcuts differ ({reason})")
        self._mind_context(model.config.max_position_embeddings)
        if torch.cuda.is_available() and not self.shards:
            self.model.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
        parts = Parts(self.examples, self.held_out, self.general)
        self.forecast = None
        if self.shards:  # two steps of the whole model would be those of no process
            say("fine-tuning: time and memory of a sharded model are not forecast")
        else:
            self.forecast = kept_forecast(folder) or forecast_steps(
                recipe.model, self.model, parts, self.plan, began
            )

    def _read_examples(self, split: dataset.Split, folds: bool) -> None:
        longest = self.settings.max_tokens
        made = dataset.read_examples(split, folds, self.renderer, longest)
        self.examples, self.held_out, self.data = made.train, made.held_out, made.facts
        self.question = Question.first(split.held_out, folds, self.renderer)
        self.general = dataset.general_examples(self.tokenizer, longest)
        self.plan = plan_run(
            self.settings, list(map(len, self.examples)), len(split.held_out), self.world
        )
        count = len(self.examples)
        noun = "conversation" if count == self.data["train_rows"] else "example"
        if remark := self.plan.remark(self.settings, count, noun):
            say(f"fine-tuning: {remark}")
        if self.renderer.prints_date:
            day = f"{self.renderer.now:%d %B %Y} in the whole run"
            served = "a served model is told the day of each request"
            say(f"fine-tuning: the chat template prints the date, {day}; {served}")

    def _mind_context(self, tokens: int) -> None:
        longer = sum(len(example) > tokens for example in self.examples + self.held_out)
        if longer:
            say(
                f"fine-tuning: {longer} conversations are longer than the {tokens} tokens the "
                f"model was made for; --set finetune.max_tokens={tokens} drops their oldest turns"
            )

    def remember_frozen(self) -> float:
        """Compute once what would be the same in every epoch; returns the seconds it took."""
        start = time.monotonic()
        often = self.examples if self.settings.epochs > 1 else []
        if not worth_remembering(self.model, often + self.held_out):
            return 0.0
        if self.shards:
            say("fine-tuning: sharded, so the frozen layers are run in every epoch, not once")
            return 0.0
        total = len(often) + len(self.held_out)
        with counting("Running the frozen layers", total) as tell:
            made = remember_frozen(self.model, often + self.held_out, tell)
        self.examples = made[: len(often)] or self.examples
        self.held_out = made[len(often) :]
        return time.monotonic() - start

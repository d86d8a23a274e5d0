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
from setup.finetune.examples import dataset
from setup.finetune.examples.training_data import TrainingData
from setup.finetune.forecast.forecast import kept_forecast
from setup.finetune.forecast.prediction import forecast_steps, warn_of_memory
from setup.finetune.run.checkpoints import begin
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
        self.data = TrainingData(recipe, split, self.tokenizer, begun.moment)
        if self.is_first:
            refuse_other_prompt(base, self.data.renderer)
        transformers.set_seed(self.settings.seed)
        self.model = attach_lora(model, self.settings)
        use_answer_loss(self.model)
        if reason := compute_plainly_unless_same(self.model, min(self.data.train, key=len)):
            say(f"fine-tuning: every token is computed in full, for shortcuts differ ({reason})")
        self.data.mind_context(model.config.max_position_embeddings)
        if torch.cuda.is_available() and not self.shards:
            self.model.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
        self.forecast = None
        if self.shards:  # two steps of the whole model would be those of no process
            say("fine-tuning: time and memory of a sharded model are not forecast")
        else:
            self.forecast = kept_forecast(folder) or forecast_steps(
                recipe.model, self.model, self.data.parts, self.data.plan, began
            )

    def remember_frozen(self) -> float:
        """Compute once what would be the same in every epoch; returns the seconds it took."""
        start = time.monotonic()
        often = self.data.train if self.settings.epochs > 1 else []
        if not worth_remembering(self.model, often + self.data.held_out):
            return 0.0
        if self.shards:
            say("fine-tuning: sharded, so the frozen layers are run in every epoch, not once")
            return 0.0
        total = len(often) + len(self.data.held_out)
        with counting("Running the frozen layers", total) as tell:
            made = remember_frozen(self.model, often + self.data.held_out, tell)
        self.data.train = made[: len(often)] or self.data.train
        self.data.held_out = made[len(often) :]
        return time.monotonic() - start

"""transformers' Trainer with our batches, and checkpoints that are sealed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from setup.common.errors import FixableError
from setup.finetune.compute import processes
from setup.finetune.compute.collate import attention_window, collate
from setup.finetune.compute.schedule import rate_share
from setup.finetune.compute.sharding import (
    adapter_weights,
    fsdp_arguments,
    is_sharded,
    load_adapter,
)
from setup.finetune.examples.render import Example
from setup.finetune.run import copies
from setup.finetune.run.checkpoints import seal_checkpoint
from setup.recipe.local import Finetune
from setup.weights.adapter import WEIGHTS


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Trains on ``batches`` of row numbers in their order; ``last_loss`` is the last step's.

    Its public use is ``train(resume_from_checkpoint=…)``. Raises FixableError for a loss that is
    no number and for a checkpoint that cannot be written.
    """

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        examples: Sequence[Example],
        batches: list[list[int]],
    ) -> None:
        self._rows = _Rows(examples)
        self._collate = partial(collate, window=attention_window(model))
        super().__init__(model, arguments, data_collator=self._collate, train_dataset=self._rows)
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self._batches = batches
        self._schedule: LambdaLR | None = None
        self.last_loss = math.nan
        self._loss = torch.zeros(())

    def get_train_dataloader(self) -> Any:
        """The planned batches, dealt out in turn to the processes.

        Not by accelerate, which leaves out batches of fewer rows than the others.
        """
        mine = self._batches[self.args.process_index :: self.args.world_size]
        return DataLoader(self._rows, batch_sampler=mine, collate_fn=self._collate)

    def create_accelerator_and_postprocess(self) -> None:
        """The library's, which leaves the model whole on processes without a GPU."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and self.accelerator.state.distributed_type != DistributedType.FSDP:
            state = self.accelerator.state
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            state.distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The rate of ``rate_share`` in place of the library's, whose first step is at zero."""
        if self._schedule is None:
            share = partial(
                rate_share, warmup_steps=int(self.args.warmup_steps), steps=num_training_steps
            )
            self._schedule = LambdaLR(optimizer or self.optimizer, share)
        self.lr_scheduler = self._schedule
        return self._schedule

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """One forward and backward pass; refuses to go on from a loss that is no number.

        Each pass gives its share of the step's loss: over the accumulated ones they add up.
        """
        loss: torch.Tensor = super().training_step(*arguments, **options)
        self._loss = self._loss.to(loss) + loss
        if not self.accelerator.sync_gradients:
            return loss
        self.last_loss = float(self.accelerator.reduce(self._loss, "mean"))
        self._loss = torch.zeros(())
        if not math.isfinite(self.last_loss):
            raise FixableError(
                f"the loss is {self.last_loss} at step {self.state.global_step + 1}",
                "a lower finetune.learning_rate, or finetune.precision=fp32; then run it again",
            )
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The adapter; of a sharded model the library would gather all weights first."""
        if self.is_fsdp_enabled:
            self._save(output_dir, state_dict=adapter_weights(self.model))
        else:
            super().save_model(output_dir, _internal_call)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The adapter, of which each process of a sharded model takes its share."""
        if self.is_fsdp_enabled:
            load_adapter(self.model, load_file(Path(resume_from_checkpoint) / WEIGHTS))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Both, read by every process: each has the file and takes its share."""
        if self.is_fsdp_enabled:
            plugin = self.accelerator.state.fsdp_plugin
            for config in (plugin.state_dict_config, plugin.optim_state_dict_config):
                config.rank0_only = False
        super()._load_optimizer_and_scheduler(checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            if self.args.world_size > 1:
                processes.collect(folder / f"rng_state_{self.args.process_index}.pth")
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal_checkpoint(folder)
                copies.copy_checkpoint(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            if not isinstance(error, OSError):  # what torch says of a full disk is a riddle
                reason = f"a file of it could not be written to its end ({reason})"
            raise FixableError(
                f"cannot write the checkpoint {folder}: {reason}",
                "free disk space or set FINETUNE_PHI_HOME to a folder with room, and run it again",
            ) from None

    def refuse_unsharded(self) -> None:
        """Raise FixableError where every process holds the whole model, for that can be silent."""
        if not is_sharded(self.model):
            raise FixableError("the model was not sharded", "--set finetune.sharding=none")

    def refuse_untrained(self, settings: Finetune) -> None:
        """An adapter starts with a second matrix of zeros, and adds nothing until that moves."""
        weights = adapter_weights(self.model)
        if not any(bool(matrix.any()) for name, matrix in weights.items() if ".lora_B." in name):
            raise FixableError(
                "the run left the adapter as it was, every lora_B zero: its steps are too small",
                f"raise finetune.learning_rate ({settings.learning_rate:g}), or "
                f"finetune.clip ({settings.clip:g})",
            )


def trainer_arguments(
    settings: Finetune, folder: Path, steps: int, model: Any = None
) -> TrainingArguments:
    """The Trainer's arguments for ``steps`` steps of ``settings``, quiet and with no reporters.

    ``model`` is one that they shard; without it none is.
    """
    # Left to itself, accelerate takes processes without a GPU for strangers to each other.
    several_cpus = "RANK" in os.environ and not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_rows,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        optim="adamw_torch_fused",
        activation_checkpointing=settings.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_strategy="no",
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        use_cpu=several_cpus,
        ddp_backend="gloo" if several_cpus else None,
        ddp_find_unused_parameters=False,
        **({} if model is None else fsdp_arguments(model)),
    )


class _Rows(Dataset):  # type: ignore[type-arg]
    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __getitem__(self, row: int) -> Example:
        return self._examples[row]

    def __len__(self) -> int:
        return len(self._examples)

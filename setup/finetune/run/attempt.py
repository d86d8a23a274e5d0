"""The training itself: model, data, Trainer and watch brought together."""

from __future__ import annotations

import os
import time
from datetime import datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import set_seed

from setup.common import console
from setup.common.console import TASK
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.common.paths import portable_name
from setup.finetune.compute.frozen import remember_frozen, worth_remembering
from setup.finetune.compute.lora import attach_lora
from setup.finetune.compute.loss import mean_loss, use_answer_loss
from setup.finetune.compute.precision import PRECISIONS, peak_memory
from setup.finetune.compute.schedule import plan_run
from setup.finetune.examples.dataset import (
    Split,
    fold_system,
    general_examples,
    make_examples,
    read_split,
    rows_sha256,
)
from setup.finetune.examples.render import Renderer
from setup.finetune.run.checkpoints import begin, last_checkpoint, restore_checkpoint
from setup.finetune.run.history import History
from setup.finetune.run.progress import Progress, say
from setup.finetune.run.trainer import AnswerTrainer, trainer_arguments
from setup.finetune.run.watch import Interruption, Watch
from setup.recipe.local import Training
from setup.weights.adapter import WEIGHTS
from setup.weights.base import Base, load_base, transformers_copy


class Session:
    """One process of one run; everything that is loaded once."""

    def __init__(self, recipe: Training, base: Base, train: Path, folder: Path) -> None:
        transformers.logging.set_verbosity_error()
        self.settings, self.base, self.folder = recipe.finetune, base, folder
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.is_first = os.environ.get("RANK", "0") == "0"
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(self.settings.threads or max(1, (os.cpu_count() or 1) // local))
        self.train_sha256 = sha256_file(train)
        split = read_split(train, self.settings)
        begun = begin(folder, self.settings.precision, self.world, self.is_first)
        self.dtype = begun.dtype
        with console.progress_bar("Loading the base model"):
            source = base.source or transformers_copy(base.file, base.sha256)
            served = base.file if base.source else None
            window = recipe.model.context_window
            model, self.tokenizer = load_base(source, self.dtype, served, window)
        # peft writes it beside the adapter, which others read.
        model.name_or_path = model.config.name_or_path = portable_name(base.source or base.named)
        self.renderer = Renderer(self.tokenizer, self._agree(begun.moment))
        self._read_examples(split, folds=recipe.model.system_role == "fold")
        set_seed(self.settings.seed)
        self.model = attach_lora(model, self.settings)
        use_answer_loss(self.model)
        self._mind_context(model.config.max_position_embeddings)
        self.prepared = self._remember_frozen()

    def _read_examples(self, split: Split, folds: bool) -> None:
        for remark in split.remarks():
            say(f"fine-tuning: {remark}")
        train, held_out = (
            fold_system(rows) if folds else rows for rows in (split.train, split.held_out)
        )
        longest = self.settings.max_tokens
        self.examples = make_examples(train, self.renderer, longest, "training")
        self.held_out = make_examples(held_out, self.renderer, longest, "held-out")
        self.general = general_examples(self.tokenizer, longest)
        self.data = {
            "train_sha256": self.train_sha256,
            "held_out_sha256": rows_sha256(held_out, self.held_out, self.renderer, longest),
            "train_rows": len(self.examples),
            "held_out_rows": len(self.held_out),
            "left_out_rows": len(train) + len(held_out) - len(self.examples) - len(self.held_out),
            "context_only_rows": split.context_only,
            "shortened_rows": sum(row.shortened for row in self.examples + self.held_out),
        }
        self.plan = plan_run(
            self.settings, list(map(len, self.examples)), len(split.held_out), self.world
        )
        if remark := self.plan.remark(self.settings, len(self.examples)):
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

    def _agree(self, moment: datetime) -> datetime:
        """The moment of the first process in all of them."""
        if self.world == 1:
            return moment
        # As the Trainer sets them up, which comes later.
        on_cpus = {} if torch.cuda.is_available() else {"cpu": True, "backend": "gloo"}
        PartialState(**on_cpus)
        agreed: list[datetime] = broadcast_object_list([moment])
        return agreed[0]

    def _remember_frozen(self) -> float:
        """Compute once what would be the same in every epoch; returns the seconds it took."""
        start = time.monotonic()
        if torch.cuda.is_available():
            self.model.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))))
        often = self.examples if self.settings.epochs > 1 else []
        if not worth_remembering(self.model, often + self.held_out):
            return 0.0
        total = len(often) + len(self.held_out)
        with console.progress_bar("Running the frozen layers", total) as bar:
            made = remember_frozen(
                self.model, often + self.held_out, lambda done: bar.update(TASK, completed=done)
            )
        self.examples = made[: len(often)] or self.examples
        self.held_out = made[len(often) :]
        return time.monotonic() - start

    def train(self) -> dict[str, Any]:
        """Train to the end; the figures of result.json but for the fingerprint."""
        plan, lengths = self.plan, [len(example) for example in self.examples]
        batches, group = plan.batches, plan.group
        seen = [sum(lengths[row] for row in batch) for batch in batches]
        tokens = [sum(seen[i : i + group]) for i in range(0, len(batches), group)]
        rows = list(accumulate(map(len, batches)))[group - 1 :: group]
        epochs = [seen_rows / len(lengths) for seen_rows in rows]
        arguments = trainer_arguments(plan.settings, self.folder, plan.steps)
        self.trainer = AnswerTrainer(self.model, arguments, self.examples, batches)
        history = self._run(tokens, epochs)
        seconds = float(history.rows[-1]["seconds"])
        best_step, after = history.best
        self._load_best()
        self._refuse_untrained()
        return {
            "held_out_loss_before": history.evaluations[0][1],
            "held_out_loss_after": after,
            "general_loss_before": history.last("general_loss"),
            "general_loss_after": mean_loss(self.model, self.general),
            "steps": int(history.rows[-1]["step"]),
            "best_step": best_step,
            "epochs": history.rows[-1]["epoch"],
            "tokens": int(history.rows[-1]["tokens"]),
            "seconds": seconds,
            "tokens_per_second": round(history.rows[-1]["tokens"] / seconds, 1),
            **self._provenance(),
        }

    def _run(self, tokens: list[int], epochs: list[float]) -> History:
        """From the last checkpoint to the end; returns the curve."""
        checkpoint = self._checkpoint()
        history = History(self.folder / "history.jsonl", writes=self.is_first)
        done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        history.resume(done)
        if checkpoint and self.is_first:
            told = f"going on from step {done} of {len(tokens)} ({checkpoint})"
            console.err.print(told, markup=False)
        interruption = Interruption()
        with Progress(len(tokens), done, quiet=not self.is_first) as progress:
            watch = Watch(
                settings=self.settings,
                folder=self.folder,
                history=history,
                progress=progress,
                tokens=tokens,
                epochs=epochs,
                measure=self._measure,
                interruption=interruption,
                trainer=self.trainer,
                prepared=self.prepared,
            )
            self.trainer.add_callback(watch)
            # A kill may have come between the last step and the result.
            if not watch.is_enough(done):
                with interruption.listening(alone=self.world == 1):
                    self._train(str(checkpoint) if checkpoint else None)
        if interruption.asked and not watch.ended:
            console.err.print(
                f"stopped after step {self.trainer.state.global_step}, checkpoint kept"
            )
            raise KeyboardInterrupt
        return history

    def _train(self, checkpoint: str | None) -> None:
        try:
            self.trainer.train(resume_from_checkpoint=checkpoint)
        except (OSError, SafetensorError) as error:
            raise FixableError(
                f"cannot write to {self.folder}: {getattr(error, 'strerror', None) or error}",
                "free disk space or set FINETUNE_PHI_HOME to a folder with room, and run it again",
            ) from None

    def _checkpoint(self) -> Path | None:
        """The checkpoint to go on from, the same one in every process."""
        checkpoint: list[Path | None] = [None]  # a list, for the broadcast fills it in
        try:
            checkpoint = [last_checkpoint(self.folder) if self.is_first else None]
            if checkpoint[0]:
                restore_checkpoint(checkpoint[0])
        except OSError as error:
            raise FixableError(
                f"cannot go on from the checkpoints in {self.folder}: {error.strerror}",
                "free disk space, then the same command again",
            ) from None
        return broadcast_object_list(checkpoint)[0] if self.world > 1 else checkpoint[0]

    def _measure(self, step: int) -> dict[str, float]:
        # Not the model DistributedDataParallel wraps: each pass of that waits for all processes,
        # and they have different numbers of held-out batches.
        losses = {"held_out_loss": mean_loss(self.model, self.held_out)}
        if step == 0:
            losses["general_loss"] = mean_loss(self.model, self.general)
        return losses

    def _load_best(self) -> None:
        self.trainer.accelerator.wait_for_everyone()
        path = self.folder / "best" / WEIGHTS
        try:
            set_peft_model_state_dict(self.model, load_file(path))
        except (OSError, SafetensorError) as error:
            raise FixableError(
                f"cannot read the best adapter {path}: {error}",
                f'delete "{self.folder}" and fine-tune again',
            ) from None

    def _refuse_untrained(self) -> None:
        """An adapter starts with a second matrix of zeros, and adds nothing until that moves."""
        if not any(
            bool(weights.any())
            for name, weights in self.model.named_parameters()
            if ".lora_B." in name
        ):
            raise FixableError(
                "the run left the adapter as it was, every lora_B zero: its steps are too small",
                f"raise finetune.learning_rate ({self.settings.learning_rate:g}), or "
                f"finetune.clip ({self.settings.clip:g})",
            )

    def _provenance(self) -> dict[str, Any]:
        packages = ("torch", "transformers", "peft", "accelerate")
        return {
            "peak_memory": peak_memory(),
            "precision": PRECISIONS[self.dtype],
            "processes": self.world,
            "adjusted": self.plan.adjusted(self.settings),
            "template_date": self.renderer.now.isoformat() if self.renderer.prints_date else None,
            "data": self.data,
            "base": {"source": self.base.source or self.base.named, "sha256": self.base.sha256},
            "versions": {name: version(name) for name in packages},
        }

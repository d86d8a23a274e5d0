"""The training itself: what was loaded, the Trainer and the watch brought together."""

from __future__ import annotations

import errno
import time
from importlib.metadata import version
from itertools import accumulate
from typing import Any

from safetensors import SafetensorError

from setup.common.console import TASK, progress_bar, say
from setup.common.files import fixable_write
from setup.finetune.compute.loss import mean_loss
from setup.finetune.compute.precision import PRECISIONS, peak_memory
from setup.finetune.compute.schedule import by_step
from setup.finetune.forecast.time_left import TimeLeft
from setup.finetune.run import checkpoints
from setup.finetune.run.copies import HISTORY
from setup.finetune.run.history import History
from setup.finetune.run.live import UNSHOWN, Shown, shown_live
from setup.finetune.run.loaded import Loaded
from setup.finetune.run.trainer import AnswerTrainer, trainer_arguments
from setup.finetune.run.watch import Interruption, Progress, Watch


class Session(Loaded):
    """One process of one run."""

    def train(self, shown: Shown = UNSHOWN) -> dict[str, Any]:
        """Train to the end, ``shown`` meanwhile; return result.json without its fingerprint."""
        if self.forecast and self.is_first:
            say(f"fine-tuning: predicted {self.forecast.line()}")
            self.forecast.keep(self.folder)
        self.prepared = self.remember_frozen()
        plan, lengths = self.data.plan, [len(example) for example in self.data.train]
        batches, group = plan.batches, plan.group
        tokens = by_step([sum(lengths[row] for row in batch) for batch in batches], group)
        rows = list(accumulate(map(len, batches)))[group - 1 :: group]
        epochs = [seen_rows / len(lengths) for seen_rows in rows]
        sharded = self.model if self.shards else None
        arguments = trainer_arguments(plan.settings, self.folder, plan.steps, sharded)
        self.trainer = AnswerTrainer(self.model, arguments, self.data.train, batches)
        left = TimeLeft.of_run(self.model, self.data.train, plan)
        history = self._run(tokens, epochs, left, shown)
        seconds = float(history.rows[-1]["seconds"])
        best_step, after = history.best
        self._load_best()
        self.trainer.refuse_untrained(self.settings)
        return {
            "held_out_loss_before": history.evaluations[0][1],
            "held_out_loss_after": after,
            "general_loss_before": history.last("general_loss"),
            "general_loss_after": mean_loss(self.model, self.data.general),
            "steps": int(history.rows[-1]["step"]),
            "best_step": best_step,
            "epochs": history.rows[-1]["epoch"],
            "tokens": int(history.rows[-1]["tokens"]),
            "seconds": seconds,
            "tokens_per_second": round(history.rows[-1]["tokens"] / seconds, 1),
            **self._forecast_and_truth(),
            **self._provenance(),
        }

    def _forecast_and_truth(self) -> dict[str, float]:
        """The seconds from the command to here, those before a stop included, and the forecast."""
        truth = {"total_seconds": round(self.earlier + time.monotonic() - self.began, 1)}
        if self.forecast is None:
            return truth
        predicted = {"predicted_seconds": round(self.forecast.seconds, 1)}
        return truth | predicted | {"predicted_memory": self.forecast.memory}

    def say_truth(self, result: dict[str, Any]) -> None:
        """Say the forecast and what came of it."""
        if self.forecast:
            fewer = result["steps"] < self.data.plan.steps
            more = f", after {result['steps']} of {self.data.plan.steps} steps" if fewer else ""
            told = self.forecast.beside(result["total_seconds"], result["peak_memory"], more)
            say(f"fine-tuning: {told}")

    def _run(self, tokens: list[int], epochs: list[float], left: TimeLeft, shown: Shown) -> History:
        """From the last checkpoint to the end; returns the curve."""
        checkpoint = checkpoints.resumed_from(self.folder)
        history = History(self.folder / HISTORY, writes=self.is_first)
        done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        history.resume(done)
        self.earlier = history.last("seconds")
        if checkpoint:
            say(f"going on from step {done} of {len(tokens)} ({checkpoint})")
        interruption = Interruption()
        with progress_bar("Fine-tuning", len(tokens)) as bar:
            bar.update(TASK, completed=done)
            watch = Watch(
                settings=self.settings,
                folder=self.folder,
                history=history,
                progress=Progress(bar, len(tokens)),
                tokens=tokens,
                epochs=epochs,
                left=left,
                measure=self._measure,
                measure_general=lambda: mean_loss(self.model, self.data.general),
                answer=self._answer,
                interruption=interruption,
                trainer=self.trainer,
                prepared=self.prepared,
            )
            self.trainer.add_callback(watch)
            # A kill may have come between the last step and the result.
            if not watch.is_enough(done):
                with shown_live(shown, self.folder):
                    with interruption.listening():
                        self._train(str(checkpoint) if checkpoint else None)
                    if interruption.asked and not watch.ended:
                        step = self.trainer.state.global_step
                        say(f"stopped after step {step}, checkpoint kept")
                        raise KeyboardInterrupt
        return history

    def _train(self, checkpoint: str | None) -> None:
        with fixable_write(self.folder):
            try:
                self.trainer.train(resume_from_checkpoint=checkpoint)
            except SafetensorError as error:  # its words for a disk that is full
                raise OSError(errno.ENOSPC, str(error)) from None

    def _measure(self) -> float:
        # Not the model DistributedDataParallel wraps: each pass of that waits for all processes,
        # and they have different numbers of held-out batches.
        if self.shards:
            self.trainer.refuse_unsharded()
        return mean_loss(self.model, self.data.held_out)

    def _answer(self) -> str:
        together = self.shards or self.is_first
        return self.data.question.answered(self.model, self.data.renderer) if together else ""

    def _load_best(self) -> None:
        self.trainer.accelerator.wait_for_everyone()
        checkpoints.load_best(self.model, self.folder)

    def _provenance(self) -> dict[str, Any]:
        packages, renderer = ("torch", "transformers", "peft", "accelerate"), self.data.renderer
        return {
            "peak_memory": peak_memory(),
            "precision": PRECISIONS[self.dtype],
            "processes": self.world,
            "adjusted": self.data.plan.adjusted(self.settings),
            "template_date": renderer.now.isoformat() if renderer.prints_date else None,
            "data": self.data.facts,
            "base": {"source": self.base.source or self.base.named, "sha256": self.base.sha256},
            "versions": {name: version(name) for name in packages},
        }

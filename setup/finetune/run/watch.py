"""The work between steps: the curve, held-out loss, the best adapter, the bar, stopping, Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.progress import Progress as Bar
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import replacing
from setup.finetune.compute import processes
from setup.finetune.compute.sharding import adapter_weights
from setup.finetune.forecast.forecast import duration
from setup.finetune.forecast.time_left import TimeLeft
from setup.finetune.run.history import History
from setup.recipe.local import Finetune

if TYPE_CHECKING:
    from setup.finetune.run.trainer import AnswerTrainer

_LOG_EVERY = 5  # steps
_HEIGHTS = "▁▂▃▄▅▆▇█"
_WIDTH = 8  # columns of the curve on the bar, which leaves room for the rest in 80


@dataclass
class Interruption:
    """Set by the first Ctrl-C or SIGTERM: the step ends, a checkpoint is kept. One more kills.

    Of several processes all stop at the same step, also where only one was asked; ``torchrun``
    hands on the signal that the terminal has sent them already, so there the second one is nothing
    new, and it kills what has not ended after 30 seconds.
    """

    asked: bool = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take both signals while the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sign: signal.signal(sign, self._ask) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def agreed(self) -> bool:
        """Tell whether any of the processes was asked; all of them call it after each step."""
        self.asked = processes.any_of(self.asked)
        return self.asked

    def _ask(self, *_: int | FrameType | None) -> None:
        if self.asked and processes.world() == 1:
            raise KeyboardInterrupt
        self.asked = True


class Progress:
    """The figures of a run on its ``bar``; without a terminal, a line at every evaluation."""

    def __init__(self, bar: Bar, total: int) -> None:
        self._bar, self._total, self._held_out = bar, total, ""
        self._losses: list[float] = []

    def show(self, step: int, loss: float, rate: float, left: float | None) -> None:
        """After a step: the curve so far, its loss in nats, the run's tokens a second.

        ``left`` are the seconds that the run still takes.
        """
        self._losses.append(loss)
        facts = f"loss {draw_line(self._losses)} {loss:.2f}{self._held_out} · {rate:.0f} tok/s"
        self._bar.update(console.TASK, completed=step, description=facts, left=left)

    def measure(self) -> None:
        """Say that the held-out loss is measured."""
        self._bar.update(console.TASK, description="Measuring")

    def evaluated(
        self, step: int, loss: float, rate: float, answer: str, left: float | None
    ) -> None:
        """A held-out loss came out, and an answer; ``rate`` and ``left`` as for :meth:`show`."""
        self._held_out = f" · held-out {loss:.3f}"
        if console.err.is_terminal:
            console.say(f"step {step}: {answer}")
            return
        speed = f", {rate:.0f} tok/s" if step else ""
        if left and step < self._total:
            speed += f", {duration(left)} left"
        where = f"fine-tuning: step {step}/{self._total}"
        console.say(f"{where}, held-out loss {loss:.3f}{speed}; {answer}")


def draw_line(values: list[float]) -> str:
    """A line of at most eight blocks as high as the means of as many stretches of ``values``."""
    parts = min(_WIDTH, len(values))
    ends = [len(values) * part // parts for part in range(parts + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(ends)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_HEIGHTS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _HEIGHTS[round((mean - low) * scale)] if math.isfinite(mean) else "?" for mean in means
    )


@dataclass
class Watch(TrainerCallback):  # type: ignore[misc]
    """``tokens`` are those of each step, prompt and answer, ``epochs`` those seen after it.

    ``measure`` gives the held-out loss, ``measure_general`` that on general text, ``answer`` a
    question and what the model answers it now; ``left`` is told what everything takes.
    """

    settings: Finetune
    folder: Path
    history: History
    progress: Progress
    tokens: list[int]
    epochs: list[float]
    left: TimeLeft
    measure: Callable[[], float]
    measure_general: Callable[[], float]
    answer: Callable[[], str]
    interruption: Interruption
    trainer: AnswerTrainer
    prepared: float
    ended: bool = False
    _started: float = 0.0
    _since: float = 0.0

    def on_train_begin(
        self, _: TrainingArguments, state: TrainerState, __: TrainerControl, **___: Any
    ) -> None:
        """The held-out loss before the first step, and the clock of a resumed run set back."""
        self._started = time.monotonic() - (self.history.last("seconds") or self.prepared)
        if not self.history.evaluations:
            self._evaluate(state.global_step)
        self._since = time.monotonic()

    def on_step_end(
        self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any
    ) -> None:
        """Write the curve; evaluate and stop when it is time."""
        step, now = state.global_step, time.monotonic()
        self.left.stepped(step, now - self._since)
        self._since = now
        # In the state, for a run that goes on from between two rows of the curve.
        state.log_history.append({"loss": self.trainer.last_loss})
        last = step == len(self.tokens)
        if step % _LOG_EVERY == 0 or last:
            losses = [entry["loss"] for entry in state.log_history]
            self._add(step, loss=sum(losses) / len(losses))
            state.log_history.clear()
        left = self.left.after(step)
        self.progress.show(step, self.trainer.last_loss, self._rate(step), left)
        if step % self.settings.evaluate_every == 0 or last:
            self._evaluate(step)
        self.ended = self.is_enough(step)
        if self.interruption.agreed() or self.ended:
            control.should_save = control.should_training_stop = True

    def is_enough(self, step: int) -> bool:
        """Tell whether the run ends with ``step``: the last, or nothing got better for long."""
        patience = self.settings.patience
        return step >= len(self.tokens) or 0 < patience <= self.history.without_improvement

    def _rate(self, step: int) -> float:
        return self._tokens(step) / max(1e-9, time.monotonic() - self._started)

    def _tokens(self, step: int) -> int:
        return sum(self.tokens[:step])

    def _add(self, step: int, **values: float) -> None:
        self.history.add(
            {
                "step": step,
                "epoch": round(self.epochs[step - 1], 4) if step else 0.0,
                "seconds": round(time.monotonic() - self._started, 3),
                "tokens": self._tokens(step),
                **values,
            }
        )

    def _evaluate(self, step: int) -> None:
        self.progress.measure()
        began = time.monotonic()
        loss = self.measure()
        if not math.isfinite(loss):
            lower = "a lower finetune.learning_rate, or " if step else ""
            raise FixableError(
                f"the held-out loss is {loss} "
                + (f"at step {step}" if step else "before training"),
                f"{lower}finetune.precision=fp32; then run it again",
            )
        answer = self.answer()
        self._since = time.monotonic()
        self.left.evaluated(self._since - began)
        losses = {} if step else {"general_loss": self.measure_general()}
        self._add(step, held_out_loss=loss, **losses)
        self.progress.evaluated(step, loss, self._rate(step), answer, self.left.after(step))
        if step and self.history.best[0] == step:
            self._keep_best()

    def _keep_best(self) -> None:
        """Put this step's adapter in the place of the best one so far."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        weights = adapter_weights(model)
        if processes.is_first():
            with replacing(self.folder / "best") as draft:
                model.save_pretrained(str(draft), state_dict=weights)

"""Two timed steps of a loaded model, after which it is as it was before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from setup.finetune.compute.collate import attention_window, collate, computed_tokens
from setup.finetune.compute.loss import remember_frozen, worth_remembering
from setup.finetune.examples.render import Example
from setup.finetune.forecast.duration import Speeds
from setup.recipe.local import Finetune

_SAVE = 0.2  # seconds to write a checkpoint of a small adapter
_ANSWER_TOKENS = 24  # of the answer that is shown at an evaluation, one after the other;
_TOKENS_IN_PARALLEL = 2  # so many of which take as long as one conversation at once


def time_steps(
    model: Any, batches: Sequence[Sequence[Example]], settings: Finetune, load: float
) -> Speeds:
    """The speeds of ``model`` (a PeftModel with the answer loss) in a step of ``batches``.

    The longest of them is computed first, unmeasured, then one of middle length is timed: its
    frozen layers, then forward and back again. ``load`` are the seconds that loading took.
    """
    window = attention_window(model)
    ordered = sorted(batches, key=lambda batch: computed_tokens(batch, window))
    longest, middle = ordered[-1], ordered[len(ordered) // 2]
    tokens, frozen = computed_tokens(middle, window), 0.0
    remembers, is_repeated = worth_remembering(model, middle), settings.epochs > 1
    with _undisturbed(model, settings.checkpointing):
        if remembers:
            ready = _remembered(model, longest), _remembered(model, middle)
            frozen = _timed(lambda: _remembered(model, middle)) / tokens
            longest, middle = ready if is_repeated else (longest, middle)
        _step(model, longest)
        _step(model, middle)
        step = _timed(lambda: _step(model, middle)) / tokens
        answer = _ANSWER_TOKENS * _timed(lambda: _measure(model, middle[:1])) / _TOKENS_IN_PARALLEL
    top = step if is_repeated else step - frozen
    forward = max(0.0, top) / (3 if settings.checkpointing else 2)
    return Speeds(step, frozen, forward, frozen + forward, answer, _SAVE, load)


def _remembered(model: Any, batch: Sequence[Example]) -> list[Example]:
    made = remember_frozen(model, batch, lambda _: None)
    _wait(model)
    return made


def _step(model: Any, batch: Sequence[Example]) -> None:
    model(**_inputs(model, batch))["loss"].backward()
    _wait(model)


def _measure(model: Any, batch: Sequence[Example]) -> None:
    with torch.no_grad():
        model(**_inputs(model, batch))
    _wait(model)


def _inputs(model: Any, batch: Sequence[Example]) -> dict[str, torch.Tensor]:
    device = next(model.parameters()).device
    made = collate(batch, attention_window(model))
    return {name: value.to(device) for name, value in made.items()}


def _wait(model: Any) -> None:
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def _undisturbed(model: Any, checkpointing: bool) -> Iterator[None]:
    """Compute as training does; afterwards no gradient and no random number is used up."""
    training = model.training
    with torch.random.fork_rng():
        model.train()
        if checkpointing:  # as the Trainer does it
            model.activation_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            if checkpointing:
                model.activation_checkpointing_disable()
            model.zero_grad(set_to_none=True)
            model.train(training)

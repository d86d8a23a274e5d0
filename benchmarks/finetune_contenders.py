"""One contender of ``benchmarks.finetune`` in a process of its own; prints its figures as JSON.

All train the same LoRA of the same base model on the same rows, as many steps, on as many threads.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, SFTTrainer

from setup.common.paths import REPOSITORY
from setup.finetune.compute.lora import attach_lora
from setup.finetune.compute.loss import use_answer_loss
from setup.finetune.compute.precision import choose_dtype
from setup.finetune.compute.schedule import plan_batches
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.dataset import make_examples
from setup.finetune.examples.tools import Message
from setup.finetune.run.trainer import AnswerTrainer, trainer_arguments
from setup.recipe.load import load_recipe
from setup.recipe.local import Finetune, Recipe
from setup.weights.base import linear_layers, load_base, transformers_copy
from setup.weights.fetch import model_sha256, prepare_model

ROWS = REPOSITORY / "data" / "sample" / "train.jsonl"
WARM_UP = 2  # steps
_GROUPED_TOGETHER = 50  # batches: what group_by_length comes to on 800 rows or more
_PRODUCTS = 50  # of each shape, of which the fastest counts


@dataclass(frozen=True)
class Task:
    """What the contenders share. ``rows`` are those of the warm-up, then those measured."""

    source: str
    settings: Finetune
    steps: int
    rows: list[list[Message]]
    folder: str

    @property
    def unmeasured(self) -> int:
        """How many of ``rows`` are of the warm-up."""
        return WARM_UP * self.settings.batch_rows


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds from the end of the warm-up to the end of the last step, its optimizer included."""

    def __init__(self, steps: int) -> None:
        self._last = WARM_UP + steps
        self._started = self.seconds = 0.0

    def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
        """Nor is a checkpoint written at the end, which would come after the clock in any case."""
        if state.global_step == WARM_UP:
            self._started = time.perf_counter()
        if state.global_step == self._last:
            self.seconds = time.perf_counter() - self._started
            control.should_save = False


def train_ours(task: Task) -> dict[str, Any]:
    """The classes of ``python -m setup finetune``, put together as it does it."""
    settings, unmeasured = task.settings, task.unmeasured
    base, tokenizer = load_base(task.source, choose_dtype(settings.precision))
    examples = make_examples(task.rows, Renderer(tokenizer), settings.max_tokens, "benchmark's")
    model = attach_lora(base, settings)
    use_answer_loss(model)
    lengths = [len(example) for example in examples]
    order = list(range(unmeasured))
    for batch in plan_batches(lengths[unmeasured:], settings.batch_rows, 1, settings.seed):
        order += [unmeasured + row for row in batch]
    batches = [
        order[i : i + settings.batch_rows] for i in range(0, len(order), settings.batch_rows)
    ]
    arguments = trainer_arguments(settings, Path(task.folder), len(batches))
    return _train(AnswerTrainer(model, arguments, examples, batches), task, lengths)


def train_trl_best(task: Task) -> dict[str, Any]:
    """SFTTrainer in fp32, grouped by length, without gradient checkpointing."""
    return _train_trl(task, grouped=True, gradient_checkpointing=False)


def train_trl_auto(task: Task) -> dict[str, Any]:
    """The same in bf16 where ours would choose it."""
    bf16 = choose_dtype("auto") == torch.bfloat16
    return _train_trl(task, grouped=True, gradient_checkpointing=False, bf16=bf16, use_cpu=bf16)


def train_trl_default(task: Task) -> dict[str, Any]:
    """SFTTrainer as it comes, but for fp32."""
    return _train_trl(task, grouped=False)


def _train_trl(task: Task, grouped: bool, **options: Any) -> dict[str, Any]:
    model, tokenizer = load_base(task.source, torch.float32)
    order = _grouped(task, tokenizer) if grouped else range(len(task.rows))
    arguments = SFTConfig(
        output_dir=task.folder,
        max_steps=WARM_UP + task.steps,
        per_device_train_batch_size=task.settings.batch_rows,
        learning_rate=task.settings.learning_rate,
        train_sampling_strategy="sequential",  # the rows are in its own order already
        report_to="none",
        **{"bf16": False} | options,
    )
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_list([{"messages": task.rows[i]} for i in order]),
        processing_class=tokenizer,
        peft_config=lora_config(model, task.settings),
    )
    return _train(trainer, task, [len(ids) for ids in trainer.train_dataset["input_ids"]])


def _grouped(task: Task, tokenizer: Any) -> Sequence[int]:
    """The order that group_by_length gives the measured rows.

    On so few rows its sampler sorts a quarter of them together; it gets the view of a whole set.
    """
    examples = make_examples(
        task.rows, Renderer(tokenizer), task.settings.max_tokens, "benchmark's"
    )
    order = get_length_grouped_indices(
        [len(example) for example in examples[task.unmeasured :]],
        task.settings.batch_rows,
        mega_batch_mult=_GROUPED_TOGETHER,
        generator=torch.Generator().manual_seed(task.settings.seed),
    )
    return [*range(task.unmeasured), *(task.unmeasured + row for row in order)]


def lora_config(model: Any, settings: Finetune) -> LoraConfig:
    """The LoRA of the recipe for ``model`` in peft's words."""
    depth = model.config.num_hidden_layers
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_layers(model),
        layers_to_transform=list(range(depth))[-settings.layers :],
    )


def _train(trainer: Any, task: Task, lengths: list[int]) -> dict[str, Any]:
    for talker in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talker)
    clock = Clock(task.steps)
    trainer.add_callback(clock)
    trainer.train()
    weights = list(trainer.model.parameters())
    mixed = trainer.accelerator.mixed_precision
    return {
        "tokens": sum(lengths[task.unmeasured :]),
        "seconds": clock.seconds,
        "steps": trainer.state.global_step - WARM_UP,
        "threads": torch.get_num_threads(),
        "trained": sum(weight.numel() for weight in weights if weight.requires_grad),
        "precision": f"{mixed} autocast" if mixed != "no" else str(weights[0].dtype)[6:],
    }


def measure_limit(task: Task) -> dict[str, Any]:
    """The fastest product that the model's own layers can ask for, in FLOP a second.

    Shapes are (tokens, hidden) by (hidden, intermediate) and back, tokens of 1, 2 and 4 steps.
    """
    model, tokenizer = load_base(task.source, torch.float32)
    examples = make_examples(
        task.rows, Renderer(tokenizer), task.settings.max_tokens, "benchmark's"
    )
    tokens = sum(map(len, examples)) * task.settings.batch_rows // len(examples)
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    shapes = [
        (count * tokens, *ends)
        for count in (1, 2, 4)
        for ends in ((hidden, inner), (inner, hidden))
    ]
    return {
        "flops": max(_speed(*shape) for shape in shapes),
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def _speed(tokens: int, width: int, out: int) -> float:
    x, weight = torch.randn(tokens, width), torch.randn(out, width)
    fastest = float("inf")
    for _ in range(_PRODUCTS):
        started = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * tokens * width * out / fastest


CONTENDERS = {
    "ours": train_ours,
    "auto": train_ours,
    "best": train_trl_best,
    "best-auto": train_trl_auto,
    "default": train_trl_default,
    "limit": measure_limit,
}


def base_source(recipe: Recipe) -> str:
    """The id or folder from which transformers loads the recipe's model."""
    path = prepare_model(recipe.model)
    return recipe.finetune.base or transformers_copy(path, model_sha256(path))


def main() -> None:
    """Run one contender."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune_contenders")
    parser.add_argument("contender", choices=list(CONTENDERS))
    for name in ("layers", "steps", "threads", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    precision = "auto" if given.contender == "auto" else "fp32"
    values = {"layers": given.layers, "seed": given.seed, "precision": precision, "accumulation": 1}
    recipe = load_recipe("laptop", [f"finetune.{name}={value}" for name, value in values.items()])
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    warnings.filterwarnings("ignore")
    datasets.disable_progress_bars()
    count = (WARM_UP + given.steps) * recipe.finetune.batch_rows
    rows = [json.loads(line)["messages"] for line in ROWS.read_text("utf-8").splitlines()]
    chosen = random.Random(given.seed).sample(rows, count)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        task = Task(base_source(recipe), recipe.finetune, given.steps, chosen, folder)
        figures = CONTENDERS[given.contender](task)
    unit = 1 if sys.platform == "darwin" else 1024
    figures["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

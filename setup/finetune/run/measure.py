"""The held-out loss of an adapter that was trained elsewhere, as a run here measures its own."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from setup.common.console import progress_bar
from setup.data import PreparedSplit
from setup.finetune.compute.loss import mean_loss, return_answer_loss
from setup.finetune.compute.precision import enough_memory, peak_memory
from setup.finetune.examples import dataset
from setup.finetune.examples.chat_template import Renderer
from setup.recipe.local import Training
from setup.weights.adapter import Adapter
from setup.weights.base import Base, load_base, transformers_copy
from setup.weights.transformers_write import merge_into_model


def measure_adapter(
    recipe: Training, base: Base, split: PreparedSplit, adapter: Adapter, tokenizer_to: Path
) -> dict[str, Any]:
    """The losses of ``adapter`` on ``base`` before and after: what result.json says of a run.

    Both in single precision on the processor, over the rows that a run of ``recipe`` holds out of
    ``split``. The base's tokenizer is written to ``tokenizer_to``.

    Raises:
        FixableError: The adapter does not fit the base, no usable data, or too little memory.
    """
    settings = recipe.finetune
    with enough_memory():
        rows = dataset.read_split(split.file, settings)
        with progress_bar("Loading the base model"):
            source = base.source or transformers_copy(base.file, base.sha256)
            served, window = base.file if base.source else None, recipe.model.context_window
            model, tokenizer = load_base(source, torch.float32, served, window)
        folds = recipe.model.system_role == "fold"
        held_out, digest = dataset.read_held_out(
            rows, folds, Renderer(tokenizer), settings.max_tokens
        )
        general = dataset.general_examples(tokenizer, settings.max_tokens)
        return_answer_loss(model)
        with progress_bar("Measuring the base model"):
            before = mean_loss(model, held_out), mean_loss(model, general)
        merge_into_model(model, adapter, base.named)
        with progress_bar("Measuring the adapter"):
            after = mean_loss(model, held_out), mean_loss(model, general)
    tokenizer.save_pretrained(str(tokenizer_to))
    packages = ("torch", "transformers", "peft")
    return {
        "held_out_loss_before": before[0],
        "held_out_loss_after": after[0],
        "general_loss_before": before[1],
        "general_loss_after": after[1],
        **dict.fromkeys(("steps", "best_step", "tokens"), 0),
        **dict.fromkeys(("epochs", "seconds", "tokens_per_second"), 0.0),
        "peak_memory": peak_memory(),
        "precision": "fp32",
        "data": {
            "train_sha256": rows.sha256,
            "held_out_sha256": digest,
            "train_rows": 0,
            "held_out_rows": len(held_out),
        },
        "base": {"source": base.source or base.named, "sha256": base.sha256},
        "versions": {name: version(name) for name in packages},
    }

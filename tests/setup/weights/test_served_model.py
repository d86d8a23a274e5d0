"""What is trained, exported and served is one model, whatever a GGUF file says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from setup.weights.adapter import read_adapter
from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
from setup.weights.transformers_write import write_merged_safetensors
from tests.setup.weights.served import serve
from tests.setup.weights.tuned import QUESTIONS, Tuned, make_tuned
from tests.tiny import alter_gguf, make_tiny, make_tiny_llama, make_tiny_phi3

# Natural logarithms: half precision moves these models by about 0.002, another rotary embedding
# by 0.2 and more.
BOUND = 0.01
_LONG = [" ".join(QUESTIONS * times) for times in (1, 4)]  # rotation tells only from afar
_RNG = np.random.default_rng(1)
_SHORT_FACTORS = 1 + 2 * _RNG.random(8)
_LONG_FACTORS = 1 + 8 * _RNG.random(8)
_TABLES = {
    "rope_factors_short.weight": _SHORT_FACTORS,
    "rope_factors_long.weight": _LONG_FACTORS,
}
_PARTIAL_TABLES = {name: factors[:6] for name, factors in _TABLES.items()}
_ORIGINAL = "rope.scaling.original_context_length"
_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, _ORIGINAL: 64}
_LONGROPE = {"rope.scaling.type": "longrope", _ORIGINAL: 256, "rope.scaling.attn_factor": 1.2}


def _llama3(factor: float, base: float = 10_000.0, original: int = 8192) -> list[float]:
    """The factors that llama.cpp's converter makes of Llama 3.1's kind of scaling."""
    divisors = []
    for pair in range(8):
        turns = original * base ** (-pair / 8) / (2 * np.pi)
        kept = min(max((turns - 1) / 3, 0), 1)
        divisors.append(1 / ((1 - kept) / factor + kept))
    return divisors


@dataclass(frozen=True)
class Kind:
    """A change of a tiny model's file, and the ``rope_type`` that transformers gets for it."""

    model: str
    rope_type: str
    keys: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    context_window: int = 512
    slots: int = 1


_LINEAR = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
_NONE = {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}
KINDS = {
    "llama-yarn": Kind("llama", "yarn", _YARN),
    "llama-3.1": Kind("llama", "llama3", {}, {"rope_freqs.weight": _llama3(8.0)}),
    "phi-4-mini": Kind(
        "phi", "longrope", _LONGROPE | {"rope.dimension_count": 12}, _PARTIAL_TABLES
    ),
    "phi-partial": Kind("phi", "default", {"rope.dimension_count": 12}),
    "phi-partial-yarn": Kind("phi", "longrope", _YARN | {"rope.dimension_count": 12}),
    "phi-linear": Kind("phi", "longrope", _LINEAR),
    "phi-yarn": Kind("phi", "longrope", _YARN),
    "phi-none": Kind("phi", "default", _NONE),
    "phi-attention-factor": Kind("phi", "longrope", {"rope.scaling.attn_factor": 1.5}),
    "phi-short": Kind("phi", "longrope", _LONGROPE | {_ORIGINAL: 512}, _TABLES),
    "phi-short-of-four": Kind("phi", "longrope", _LONGROPE, _TABLES, context_window=256, slots=4),
    "phi-long": Kind("phi", "longrope", _LONGROPE, _TABLES),
    "phi-window": Kind("phi", "default", {"attention.sliding_window": 20}),
    "phi-tied": Kind("phi", "default", shape={"tie_word_embeddings": True}),
    "phi-base": Kind("phi", "default", {"rope.freq_base": 250_000.0}),
    "llama-linear": Kind("llama", "linear", _LINEAR),
    "llama-linear-as-once": Kind("llama", "linear", {"rope.scale_linear": 4.0}),
    "llama-none": Kind("llama", "default", _NONE),
    "llama-yarn-attention": Kind("llama", "yarn", _YARN | {"rope.scaling.attn_factor": 1.3}),
    "llama-yarn-below-1": Kind("llama", "longrope", _YARN | {"rope.scaling.factor": 0.5}),
    "llama-attention-factor": Kind("llama", "longrope", {"rope.scaling.attn_factor": 1.5}),
    "llama-3.2": Kind("llama", "llama3", {}, {"rope_freqs.weight": _llama3(32.0)}),
    "llama-other-factors": Kind("llama", "longrope", {}, {"rope_freqs.weight": _SHORT_FACTORS}),
    "llama-factors-linear": Kind("llama", "longrope", _LINEAR, {"rope_freqs.weight": _llama3(8.0)}),
    "llama-short": Kind("llama", "longrope", _LONGROPE | {_ORIGINAL: 512}, _TABLES),
    "llama-long": Kind("llama", "longrope", _LONGROPE, _TABLES),
    "llama-base": Kind("llama", "default", {"rope.freq_base": 250_000.0}),
    "llama-no-base": Kind("llama", "default", without=("llama.rope.freq_base",)),
    "llama-epsilon": Kind("llama", "default", {"attention.layer_norm_rms_epsilon": 0.1}),
    "llama-head": Kind("llama", "default", shape={"head_dim": 32}),
    "llama-untied": Kind("llama", "default", shape={"tie_word_embeddings": False}),
    "qwen2-yarn": Kind("qwen2", "yarn", _YARN),
    "qwen2-attention-factor": Kind("qwen2", "longrope", {"rope.scaling.attn_factor": 1.5}),
    "qwen3-linear": Kind("qwen3", "linear", _LINEAR),
    "qwen3-untied": Kind("qwen3", "default", shape={"tie_word_embeddings": False}),
    "smollm3-yarn": Kind("smollm3", "yarn", _YARN),
    "gemma-linear": Kind("gemma", "linear", _LINEAR),
    "gemma2-linear": Kind("gemma2", "linear", _LINEAR),
    "gemma2-window": Kind("gemma2", "default", shape={"sliding_window": 24}),
    "gemma2-no-caps": Kind(
        "gemma2",
        "default",
        shape={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        without=("gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping"),
    ),
    "gemma3-4b": Kind("gemma3", "linear", _LINEAR | {"rope.freq_base": 1_000_000.0}),
    "gemma3-local-base": Kind("gemma3", "default", {"rope.freq_base_swa": 5_000.0}),
    "gemma3-yarn": Kind("gemma3", "yarn", _YARN),
    "mistral-window": Kind("mistral", "default", shape={"sliding_window": 16}),
    "qwen2-window": Kind(
        "qwen2",
        "default",
        shape={"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "mistral-base": Kind("mistral", "default", {"rope.freq_base": 1_000_000.0}),
    "llama-neutral": Kind(
        "llama", "default", {"expert_count": 0, "attention.causal": True, "logit_scale": 1.0}
    ),
}


def _difference(tuned: Tuned, kind: Kind, model: Path, lora: Path | None = None) -> float:
    """How far llama.cpp is from the model that was trained, at its worst prompt."""
    vocabulary, plain = len(tuned.tokenizer), tuned.tokenizer.convert_tokens_to_ids("a")
    with serve(model, lora, kind.context_window, kind.slots) as served:
        return max(
            float(
                np.abs(
                    served.next_token(prompt, vocabulary, plain) - tuned.logprobs(prompt)[-1]
                ).mean()
            )
            for prompt in tuned.prompts(_LONG)
        )


def _folder_difference(tuned: Tuned, folder: Path) -> float:
    """How far stock transformers is from the model that was trained."""
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    exported = Tuned(tuned.base, folder, stock, tuned.tokenizer)
    return max(
        float(np.abs(exported.logprobs(prompt)[-1] - tuned.logprobs(prompt)[-1]).mean())
        for prompt in tuned.prompts(_LONG)
    )


@pytest.mark.parametrize("name", KINDS)
def test_trained_exported_and_served_are_one_model(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    makers = {"llama": make_tiny_llama, "phi": make_tiny_phi3}
    make = makers.get(kind.model, partial(make_tiny, kind.model))
    plain = make(tmp_path / "plain", **kind.shape)
    base = alter_gguf(plain, tmp_path / "base.gguf", kind.keys, kind.tensors, kind.without)
    tuned = make_tuned(base, tmp_path / "adapter", 0.2, kind.context_window)
    rope = tuned.model.config.rope_parameters
    assert rope.get("full_attention", rope)["rope_type"] == kind.rope_type
    adapter = read_adapter(tmp_path / "adapter")
    merge_into_gguf(base, adapter, tmp_path / "merged.gguf", lambda *_: None)
    assert _difference(tuned, kind, tmp_path / "merged.gguf") < BOUND
    if kind.slots == 1:
        write_adapter_gguf(base, adapter, tmp_path / "adapter.gguf")
        assert _difference(tuned, kind, base, tmp_path / "adapter.gguf") < BOUND
    write_merged_safetensors(base, adapter, tmp_path / "folder", context_window=kind.context_window)
    assert _folder_difference(tuned, tmp_path / "folder") < BOUND

"""Every family is trained, exported in three forms and served, and is one model all the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from setup.weights.base import load_base
from tests.families import FAMILIES
from tests.home import failed
from tests.setup.finetune.conftest import Families, MakeMachine
from tests.setup.finetune.machine import Machine, facts, result
from tests.setup.weights.served import serve
from tests.tiny import make_tiny, transformers_folder

# Nats. Half precision moves these models by about 0.002, an adapter in the wrong place by 0.3.
BOUND = 0.01
TWO_STEPS = ("finetune.epochs=1", "finetune.batch_rows=8", "finetune.warmup_steps=0")


def _machine(make_machine: MakeMachine, family: str, base: Path) -> Machine:
    machine = make_machine(facts(20), base=base)
    machine.sets += [*TWO_STEPS, "finetune.learning_rate=0.05"]
    if not FAMILIES[family].from_file:
        machine.sets.append(f"finetune.base={transformers_folder(base)}")
    return machine


def _logprobs(model: Any, prompt: list[int]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1))


def _apart(
    gguf: Path, lora: Path | None, model: Any, prompts: list[list[int]], plain: int
) -> float:
    with serve(gguf, lora) as served:
        return max(
            float(np.abs(served.next_token(prompt, 512, plain) - _logprobs(model, prompt)).mean())
            for prompt in prompts
        )


_OFTEN = ("qwen2", "gemma3", "granite")  # the others with the slow tests
_MARKED = [
    pytest.param(name, marks=() if name in _OFTEN else pytest.mark.slow) for name in FAMILIES
]


@pytest.mark.parametrize("family", _MARKED)
def test_family_is_trained_exported_and_served_as_one_model(
    make_machine: MakeMachine, families: Families, tmp_path: Path, family: str
) -> None:
    from peft import PeftModel

    base = families(family)
    machine = _machine(make_machine, family, base)
    run = machine.finetune()
    assert result(run)["steps"] == 2
    assert machine.setup("register").returncode == 0
    for form in ("gguf", "adapter", "transformers"):
        options = ("--form", form, "--out", str(tmp_path / form))
        done = machine.setup("export", options=options)
        assert done.returncode == 0, done.stderr
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "transformers")
    texts = ["The red lamp costs", " ".join("What does the blue kettle cost?" for _ in range(6))]
    prompts = [tokenizer(text).input_ids for text in texts]
    plain = tokenizer.convert_tokens_to_ids("a")
    stock = AutoModelForCausalLM.from_pretrained(transformers_folder(base), dtype=torch.float32)
    before = [_logprobs(stock, prompt) for prompt in prompts]
    tuned = PeftModel.from_pretrained(stock, run / "adapter")
    assert _apart(tmp_path / "gguf", None, tuned, prompts, plain) < BOUND
    assert _apart(base, tmp_path / "adapter", tuned, prompts, plain) < BOUND
    folder = AutoModelForCausalLM.from_pretrained(tmp_path / "transformers", dtype=torch.float32)
    for prompt, untrained in zip(prompts, before, strict=True):
        expected = _logprobs(tuned, prompt)
        assert np.abs(_logprobs(folder, prompt) - expected).mean() < BOUND
        assert np.abs(untrained - expected).mean() > 10 * BOUND, "two steps must tell"


_WINDOW = {"sliding_window": 32}
_WINDOWS: dict[str, dict[str, Any]] = {"mistral": _WINDOW} | dict.fromkeys(
    ("qwen2", "qwen3"), _WINDOW | {"use_sliding_window": True, "max_window_layers": 1}
)


@pytest.mark.parametrize("family", [name for name, made in FAMILIES.items() if made.from_file])
def test_base_of_a_family_computes_what_its_file_does(tmp_path: Path, family: str) -> None:
    """A window that llama.cpp does not apply is not trained with either."""
    base = make_tiny(family, tmp_path, **_WINDOWS.get(family, {}))
    folder, _ = load_base(str(transformers_folder(base)), torch.float32, base, 512)
    file, _ = load_base(str(base), torch.float32, None, 512)
    tokens = torch.arange(3, 103)[None]
    with torch.no_grad():
        assert torch.equal(folder(tokens).logits, file(tokens).logits)


def test_unlisted_architecture_wants_its_base(
    make_machine: MakeMachine, families: Families
) -> None:
    machine = make_machine(facts(6), base=families("olmo2"))
    line = failed(machine.setup("finetune"))
    assert "has architecture olmo2; trained from a .gguf file alone are: llama, phi3," in line
    assert "Fix: --set finetune.base=FOLDER" in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"embedding_multiplier": 2.0}, "probabilities differ by"),
        ({"attention_multiplier": 0.25}, "probabilities differ by"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
            "probabilities differ",
        ),
        ({"tie_word_embeddings": False}, "output.weight"),
    ],
)
def test_unlisted_architecture_that_computes_otherwise(
    make_machine: MakeMachine, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    base = make_tiny("granite", tmp_path, pad_token_id=None)
    path = transformers_folder(base) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    machine = _machine(make_machine, "granite", base)
    assert reason in failed(machine.setup("finetune"))


def test_proof_of_an_unlisted_architecture_is_told(
    make_machine: MakeMachine, families: Families
) -> None:
    done = _machine(make_machine, "olmo2", families("olmo2")).setup("finetune")
    assert done.returncode == 0, done.stderr
    assert "olmo2 is in no table here; with a random adapter it computes" in done.stderr

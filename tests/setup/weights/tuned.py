"""Adapters with random weights on a base, and what transformers and peft make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setup.weights.base import linear_layers, load_base

QUESTIONS = [
    "What does the Aurora lamp cost?",
    "Hello",
    "Can I return a kettle after 12 days?",
    "Which colours are there?",
]


@dataclass
class Tuned:
    """A base as GGUF, an adapter folder, and the peft model that is the reference."""

    base: Path
    adapter: Path
    model: Any
    tokenizer: Any

    def prompts(self, questions: list[str]) -> list[list[int]]:
        """Token ids of each question in the chat template, the assistant's turn open."""
        return [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                add_generation_prompt=True,
                return_dict=False,
            )
            for question in questions
        ]

    def logprobs(self, tokens: list[int]) -> NDArray[np.float64]:
        """After each of ``tokens`` the log-probabilities of the next one: (tokens, vocabulary)."""
        import torch

        with torch.no_grad():
            logits = self.model(torch.tensor([tokens])).logits[0]
        return np.asarray(logits.double().log_softmax(-1))


def make_tuned(
    base: Path,
    folder: Path,
    spread: float,
    context_window: int = 0,
    convertible: bool = False,
    **config: Any,
) -> Tuned:
    """Put random adapters on every linear layer of ``base`` and save them as peft does.

    ``spread`` is the standard deviation of B's weights, which training would start at zero.
    ``convertible`` keeps the beginning beside ``folder``, which peft needs for its conversion.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_base(str(base), torch.float32, None, context_window)
    torch.manual_seed(7)
    lora = LoraConfig(
        **{"r": 4, "lora_alpha": 12, "target_modules": linear_layers(model), **config}
    )
    tuned = get_peft_model(model, lora).eval()
    if convertible:
        begun = tuned.peft_config["default"].init_lora_weights
        tuned.peft_config["default"].init_lora_weights = True
        tuned.save_pretrained(f"{folder}-begun", save_embedding_layers=False)
        tuned.peft_config["default"].init_lora_weights = begun
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=spread)
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    return Tuned(base, folder, tuned, tokenizer)


def most_likely(tuned: Tuned, prompt: list[int], answer: list[int]) -> float:
    """How far the least fitting token of ``answer`` is from the one the reference would choose.

    In log-probability: 0 is the same greedy answer, a hair above it a tie decided differently.
    """
    given = tuned.logprobs(prompt + answer[:-1])[len(prompt) - 1 :]
    chosen = given[np.arange(len(answer)), answer]
    return float((given.max(axis=1) - chosen).max())

"""Families of small models: the shape of a tiny one each, and what its .gguf file says besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PAIRED = {"llama", "smollm3", "granite"}  # whose queries and keys llama.cpp's converter reorders


@dataclass(frozen=True)
class Chat:
    """A chat template with its special tokens; ``adds_bos`` where llama.cpp puts one before it."""

    template: str
    special: tuple[str, ...]
    bos: str
    eos: str
    adds_bos: bool = False


CHATML = Chat(
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    bos="<|im_start|>",
    eos="<|im_end|>",
)


@dataclass(frozen=True)
class Family:
    """Transformers' configuration class and the values that make the family's peculiarities show.

    ``from_file`` says that the .gguf file alone can be trained.
    """

    configuration: str
    shape: dict[str, Any] = field(default_factory=dict)
    from_file: bool = True


_GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
_WIDE = {"head_dim": 32}  # heads wider than the model
FAMILIES = {
    "llama": Family("LlamaConfig", {"tie_word_embeddings": True}),
    "phi3": Family("Phi3Config"),
    "mistral": Family("MistralConfig", {"sliding_window": None, **_WIDE}),
    "qwen2": Family("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": Family("Qwen3Config", {"tie_word_embeddings": True, **_WIDE}),
    "gemma": Family("GemmaConfig", _WIDE),
    "gemma2": Family(
        "Gemma2Config",
        # Caps so low that they show, and two layers of each kind.
        _GEMMA
        | {"num_hidden_layers": 4, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    ),
    "gemma3": Family("Gemma3TextConfig", _GEMMA | {"num_hidden_layers": 7}),  # one of them full
    "smollm3": Family("SmolLM3Config", {"num_hidden_layers": 5}),  # the fourth without rotation
    "granite": Family(
        "GraniteConfig",
        {
            **{"embedding_multiplier": 3.0, "attention_multiplier": 0.3},
            **{"residual_multiplier": 0.5, "logits_scaling": 2.0, "tie_word_embeddings": True},
        },
        from_file=False,
    ),
    "olmo2": Family("Olmo2Config", from_file=False),
}


def gguf_keys(config: Any) -> dict[str, Any]:
    """Return what llama.cpp's converter says of ``config`` beyond the sizes that all have."""
    names = {
        "sliding_window": "attention.sliding_window",
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
        "embedding_multiplier": "embedding_scale",
        "attention_multiplier": "attention.scale",
        "residual_multiplier": "residual_scale",
        "logits_scaling": "logit_scale",
    }
    values = {key: getattr(config, name, None) for name, key in names.items()}
    return {key: value for key, value in values.items() if value is not None}

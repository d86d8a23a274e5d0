"""The one table of what sets llama.cpp's architectures apart from each other, with the reason.

Tensors have gguf's names (``TensorNameMap``), LoRA goes on every linear layer but the output, and
an architecture that stands here is trained from its .gguf file alone. One that does not is taken
with a transformers model as ``finetune.base``, once both have been seen to compute the same
(``setup.weights.agreement``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from setup.weights.gguf_file import Header

Rows = NDArray[np.float32]
Config = dict[str, Any]
# llama.cpp's converter reorders the rows of queries and keys of these, for its rotary embedding
# turns neighbouring rows where transformers turns row i with row i + half. All others are stored
# as transformers has them. Source: the subclasses of ``LlamaModel`` in convert_hf_to_gguf.py.
_PAIRED_ROWS = {"llama", "smollm3", "arcee", "deci", "granite", "mistral3", "olmo"}
# Gemma multiplies by 1 + w where others multiply by w; the file holds 1 + w.
_NORMS_FROM_ONE = {"gemma", "gemma2", "gemma3"}
# llama.cpp looks back ``attention.sliding_window`` tokens in every second or sixth layer of these;
# for the others in the table it ignores a window, and so must training.
_WINDOWED = {"gemma2": 2, "gemma3": 6}
# llama.cpp knows the largest model of a family by its number of layers alone, and scales its
# queries by the width of a head as if heads made up the whole width.
_LARGEST = {"gemma2": 46, "gemma3": 62}
_LOCAL_THETA = 10_000.0  # of Gemma 3's windowed layers, whatever the others have
_GEMMA2_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}


@dataclass(frozen=True)
class Architecture:
    """An architecture whose file says all that there is to know of the model.

    ``configuration`` is transformers' class, ``aliases`` other model types of transformers that
    compute the same; ``own`` adds what the class wants beyond the sizes that all have.
    """

    configuration: str
    aliases: tuple[str, ...] = ()
    own: Callable[[Header, Config], Config] = lambda _header, _config: {}


def _phi3(header: Header, config: Config) -> Config:
    """Rotates a part of each head only, and has no scaling but LongRoPE."""
    rope = config["rope_parameters"]
    original = rope.get("original_max_position_embeddings")
    return {"original_max_position_embeddings": original or header.count("context_length")}


def _gemma2(header: Header, config: Config) -> Config:
    """Caps the scores of attention and of the output, and looks back a window in every other layer.

    transformers' own reader takes the caps and the window of one published size for all.
    """
    caps = {name: header.number(name, value) for name, value in _GEMMA2_CAPS.items()}
    return caps | _windows(header, config, header.count("attention.sliding_window", 4096))


def _gemma3(header: Header, config: Config) -> Config:
    """Normalises queries and keys, and turns them by another base in windowed layers."""
    local = {
        "rope_type": "default",
        "rope_theta": header.number("rope.freq_base_swa", _LOCAL_THETA),
    }
    rope = {"full_attention": config["rope_parameters"], "sliding_attention": local}
    window = header.count("attention.sliding_window")
    return {"rope_parameters": rope} | _windows(header, config, window)


def _windows(header: Header, config: Config, window: int) -> Config:
    period = header.count("attention.sliding_window_pattern", _WINDOWED[header.architecture])
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    largest = layers == _LARGEST[header.architecture]
    return {
        "sliding_window": window,
        "layer_types": [
            "sliding_attention" if (layer + 1) % period else "full_attention"
            for layer in range(layers)
        ],
        "query_pre_attn_scalar": config["hidden_size"] // heads if largest else config["head_dim"],
    }


ARCHITECTURES = {
    "llama": Architecture("LlamaConfig", ("mistral",)),  # Mistral is Llama but for its window
    "phi3": Architecture("Phi3Config", own=_phi3),
    "qwen2": Architecture("Qwen2Config"),  # biases of queries, keys and values are in the file
    "qwen3": Architecture("Qwen3Config"),  # q_norm and k_norm are; heads have a width of their own
    "gemma": Architecture("GemmaConfig"),
    "gemma2": Architecture("Gemma2Config", own=_gemma2),
    "gemma3": Architecture("Gemma3TextConfig", own=_gemma3),
    # Every fourth layer has no rotary embedding; no key says so, both sides have it written in.
    "smollm3": Architecture("SmolLM3Config"),
}


def is_windowed(architecture: str) -> bool:
    """Tell whether llama.cpp applies the sliding window of a file of ``architecture``."""
    return architecture in _WINDOWED


def heads_of_rows(header: Header, tensor: str) -> int:
    """Heads among which the rows of ``tensor`` are reordered, 0 where they keep their order."""
    kind = tensor.split(".")[-2]
    if header.architecture not in _PAIRED_ROWS or kind not in ("attn_q", "attn_k"):
        return 0
    grouped = kind == "attn_k" and header.get("attention.head_count_kv") is not None
    return header.count("attention.head_count_kv" if grouped else "attention.head_count")


def pair_rows(rows: Rows, heads: int) -> Rows:
    """Transformers' order of a rotary embedding's rows to llama.cpp's; reorders ``b @ a`` by ``b``.

    Source: ``LlamaModel.permute`` in llama.cpp's convert_hf_to_gguf.py.
    """
    return _swap(rows, heads, 2, len(rows) // (2 * heads))


def as_transformers(header: Header, tensor: str, weights: Rows) -> Rows:
    """The weights of ``tensor`` as transformers has them."""
    if header.architecture in _NORMS_FROM_ONE and tensor.endswith("norm.weight"):
        return weights - np.float32(1)
    heads = heads_of_rows(header, tensor)
    return _swap(weights, heads, len(weights) // (2 * heads), 2) if heads else weights


def _swap(rows: Rows, heads: int, outer: int, inner: int) -> Rows:
    blocks = rows.reshape(heads, outer, inner, *rows.shape[1:])
    swapped: Rows = blocks.swapaxes(1, 2).reshape(rows.shape)
    return swapped

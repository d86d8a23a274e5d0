"""The transformers configuration of a GGUF file: the very model that llama.cpp computes from it.

Transformers' own reader leaves out what it does not know, and so trains another model than the one
that is served. Here every key and every tensor of the file is taken over, or refused by its name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from setup.common import console
from setup.common.errors import FixableError
from setup.weights.gguf_file import OTHER_BASE_FIX, Header
from setup.weights.rope import as_served, read_rope

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# llama.cpp reads them for other architectures, or only reports them.
_WITHOUT_EFFECT = {
    *("attention.sliding_window", "rope.scaling.finetuned", "tensor_data_layout", "vocab_size"),
}
# Keys that change nothing where they have this value.
_NEUTRAL: dict[Any, tuple[str, ...]] = {
    0: (
        *("attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping"),
        *("expert_count", "expert_used_count", "final_logit_softcapping", "pooling_type"),
        *("leading_dense_block_count", "nextn_predict_layers", "rope.scaling.yarn_log_multiplier"),
        "use_parallel_residual",
    ),
    1: (
        *("attention.causal", "embedding_scale", "logit_scale", "residual_scale"),
        *("rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_slow"),
        "rope.scaling.yarn_ext_factor",
    ),
    32: ("rope.scaling.yarn_beta_fast",),
}
_LONGROPE_TABLES = {"rope_factors_short.weight", "rope_factors_long.weight"}
_ROPE_TABLES = {"llama": {"rope_freqs.weight", *_LONGROPE_TABLES}, "phi3": _LONGROPE_TABLES}
_CONFIGURATIONS = {"llama": "LlamaConfig", "phi3": "Phi3Config"}
_TOKENS = {"bos": "bos", "eos": "eos", "padding": "pad"}  # GGUF's names and transformers'
_COMPARED = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size", "hidden_act"),
)
_OTHER_BASE = "name as finetune.base the transformers model that the file was made of"


def read_config(header: Header) -> PretrainedConfig | None:
    """The configuration of the model in the file, None for an architecture that is not known here.

    Raises:
        FixableError: A value that transformers has no place for.
    """
    import transformers

    if header.architecture not in _CONFIGURATIONS:
        return None
    heads, width = header.count("attention.head_count"), header.count("embedding_length")
    size = header.count("attention.key_length", width // heads)
    if header.count("attention.value_length", width // heads) != size:
        raise header.unknown("attention.value_length")
    rotated = header.count("rope.dimension_count", size)
    rope = read_rope(header, rotated)
    own: dict[str, Any] = {"head_dim": size}
    if header.architecture == "phi3":
        if size != width // heads:
            raise header.unknown("attention.key_length")
        rope["partial_rotary_factor"] = rotated / size
        original = rope.get("original_max_position_embeddings")
        own = {"original_max_position_embeddings": original or header.count("context_length")}
    elif rotated != size:
        raise header.unknown("rope.dimension_count")
    if "token_embd.weight" not in header.tensors:
        raise FixableError(f"{header.path} has no tensor token_embd.weight", OTHER_BASE_FIX)
    for key, name in _TOKENS.items():
        token = header.reader.fields.get(f"tokenizer.ggml.{key}_token_id")
        own[f"{name}_token_id"] = int(token.contents()) if token else None
    configuration: PretrainedConfig = getattr(transformers, _CONFIGURATIONS[header.architecture])(
        hidden_size=width,
        intermediate_size=header.count("feed_forward_length"),
        max_position_embeddings=header.count("context_length"),
        num_attention_heads=heads,
        num_hidden_layers=header.count("block_count"),
        num_key_value_heads=header.count("attention.head_count_kv", heads),
        rms_norm_eps=header.number("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope,
        tie_word_embeddings="output.weight" not in header.tensors,
        vocab_size=int(header.tensors["token_embd.weight"].shape[1]),
        **own,
    )
    return configuration


def refuse_unknown_keys(header: Header) -> None:
    """Raise FixableError for the first key that could change what the model computes."""
    for key in _unknown_keys(header):
        raise header.unknown(key)
    # Without it transformers leaves queries and keys in llama.cpp's order.
    if header.architecture == "llama" and header.get("attention.head_count_kv") is None:
        raise header.unknown("attention.head_count_kv")


def _unknown_keys(header: Header) -> list[str]:
    """The keys of the file's architecture, and their like, that ``read_config`` did not take."""
    prefix = f"{header.architecture}."
    keys = [name.removeprefix(prefix) for name in header.reader.fields if name.startswith(prefix)]
    neutral = {
        key for value, names in _NEUTRAL.items() for key in names if header.get(key) == value
    }
    return [key for key in keys if key not in header.taken | _WITHOUT_EFFECT | neutral]


def refuse_other_tensors(header: Header, model: Any, fix: str = OTHER_BASE_FIX) -> None:
    """Raise FixableError unless file and ``model`` consist of tensors of the same names."""
    import gguf

    architecture = gguf.MODEL_ARCH[header.architecture.upper()]
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    endings = (".weight", ".bias")
    expected = {
        names.get_name(name, try_suffixes=endings) or name for name, _ in model.named_parameters()
    }
    unused = sorted(header.tensors.keys() - expected - _ROPE_TABLES[header.architecture])
    missing = sorted(expected - header.tensors.keys())
    if unused or missing:
        verb, name = ("has", unused[0]) if unused else ("lacks", missing[0])
        what = f"{header.path} {verb} the tensor {name}, so it cannot be trained as it is served"
        raise FixableError(what, fix)


def refuse_other_model(header: Header, model: Any, source: str, context_window: int) -> None:
    """Raise FixableError unless ``model``, loaded from ``source``, computes what the file does.

    The weights themselves are not compared: quantised ones never agree. Nor is what the file says
    and nothing here knows, which a line tells.
    """
    served = read_config(header)
    if served is None:
        return
    if header.get("attention.causal") is False:
        raise FixableError(f"{header.path} has no causal attention", "name another model.source")
    served.rope_parameters = as_served(served.rope_parameters, context_window)
    difference = _difference(model, served)
    if difference:
        what = f"{source} is another model than {header.path}: {difference}"
        raise FixableError(what, _OTHER_BASE)
    refuse_other_tensors(header, model, _OTHER_BASE)
    if keys := _unknown_keys(header):
        told = f"{', '.join(keys)} of {header.path} is not compared with {source}"
        console.err.print(told, markup=False)


def _difference(model: Any, served: PretrainedConfig) -> str:
    """The first thing that ``model`` computes otherwise than a model of ``served`` would."""
    for name in _COMPARED:
        own, other = getattr(model.config, name, None), getattr(served, name, None)
        if own != other:
            return f"its {name} is {own}, not {other}"
    own, other = model.config.rms_norm_eps, served.rms_norm_eps
    if not math.isclose(own, other, rel_tol=1e-3):
        return f"its rms_norm_eps is {own:.3g}, not {other:.3g}"
    rotary = model.model.rotary_emb
    expected = type(rotary)(served)
    same = rotary.inv_freq.shape == expected.inv_freq.shape
    same = same and np.allclose(rotary.inv_freq.cpu(), expected.inv_freq.cpu(), rtol=1e-3, atol=0)
    scales = (rotary.attention_scaling, expected.attention_scaling)
    if not same or not math.isclose(*scales, rel_tol=1e-3):
        return "its rotary embedding differs (rope_theta, rope_scaling or partial_rotary_factor)"
    return ""

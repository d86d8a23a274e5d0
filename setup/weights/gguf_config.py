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
from setup.weights.architectures import ARCHITECTURES
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
_HEADS_MAKE_WIDTH = {"phi3", "qwen2"}  # transformers has no place for another width of a head
_TOKENS = {"bos": "bos", "eos": "eos", "padding": "pad"}  # GGUF's names and transformers'
_COMPARED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size", "hidden_act"),
    *("hidden_activation", "query_pre_attn_scalar", "layer_types", "no_rope_layers"),
    *("attn_logit_softcapping", "final_logit_softcapping"),
)
_OTHER_BASE = (
    "--set finetune.base= to train on the file itself, or name as finetune.base the transformers "
    "model that it was made of"
)


def read_config(header: Header) -> PretrainedConfig | None:
    """The configuration of the model in the file, None for an architecture that is not known here.

    Raises:
        FixableError: A value that transformers has no place for.
    """
    import transformers

    known = ARCHITECTURES.get(header.architecture)
    if known is None:
        return None
    config = _sizes(header)
    config |= known.own(header, config)
    made: PretrainedConfig = getattr(transformers, known.configuration)(**config)
    return made


def _sizes(header: Header) -> dict[str, Any]:
    """Return what every architecture has: sizes, rotary embedding, tokens."""
    heads, width = header.count("attention.head_count"), header.count("embedding_length")
    size = header.count("attention.key_length", width // heads)
    if header.count("attention.value_length", width // heads) != size:
        raise header.unknown("attention.value_length")
    if size != width // heads and header.architecture in _HEADS_MAKE_WIDTH:
        raise header.unknown("attention.key_length")
    rotated = header.count("rope.dimension_count", size)
    rope = read_rope(header, rotated)
    if header.architecture == "phi3":
        rope["partial_rotary_factor"] = rotated / size
    elif rotated != size:
        raise header.unknown("rope.dimension_count")
    if "token_embd.weight" not in header.tensors:
        raise FixableError(f"{header.path} has no tensor token_embd.weight", OTHER_BASE_FIX)
    tokens = {}
    for key, name in _TOKENS.items():
        token = header.reader.fields.get(f"tokenizer.ggml.{key}_token_id")
        tokens[f"{name}_token_id"] = int(token.contents()) if token else None
    return {
        "hidden_size": width,
        "intermediate_size": header.count("feed_forward_length"),
        "max_position_embeddings": header.count("context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": header.count("block_count"),
        "num_key_value_heads": header.count("attention.head_count_kv", heads),
        "head_dim": size,
        "rms_norm_eps": header.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "vocab_size": int(header.tensors["token_embd.weight"].shape[1]),
        **tokens,
    }


def refuse_unknown_keys(header: Header) -> None:
    """Raise FixableError for the first key that could change what the model computes."""
    for key in _unknown_keys(header):
        raise header.unknown(key)


def _unknown_keys(header: Header) -> list[str]:
    """The keys of the file's architecture, and their like, that ``read_config`` did not take."""
    prefix = f"{header.architecture}."
    keys = [name.removeprefix(prefix) for name in header.reader.fields if name.startswith(prefix)]
    neutral = {
        key for value, names in _NEUTRAL.items() for key in names if header.get(key) == value
    }
    return [key for key in keys if key not in header.taken | _WITHOUT_EFFECT | neutral]


def tensor_names(header: Header, model: Any) -> dict[str, str]:
    """The names of ``model``'s parameters by those of the file's tensors, as gguf maps them.

    A parameter that gguf has no name for keeps its own.
    """
    names = header.name_map(model.config.num_hidden_layers)
    endings = (".weight", ".bias")
    parameters = [name for name, _ in model.named_parameters()]
    return {names.get_name(name, try_suffixes=endings) or name: name for name in parameters}


def refuse_other_tensors(header: Header, model: Any, fix: str = OTHER_BASE_FIX) -> None:
    """Raise FixableError unless file and ``model`` consist of tensors of the same names."""
    expected = set(tensor_names(header, model))
    tables = _ROPE_TABLES.get(header.architecture, set())
    unused = sorted(header.tensors.keys() - expected - tables)
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
    if served is None:  # then their agreement is measured
        refuse_other_tensors(header, model, _OTHER_BASE)
        return
    if header.get("attention.causal") is False:
        raise FixableError(f"{header.path} has no causal attention", "name another model.source")
    served.rope_parameters = as_served(served.rope_parameters, context_window)
    difference = _difference(model, served, header.architecture)
    if difference:
        what = f"{source} is another model than {header.path}: {difference}"
        raise FixableError(what, _OTHER_BASE)
    refuse_other_tensors(header, model, _OTHER_BASE)
    if keys := _unknown_keys(header):
        told = f"{', '.join(keys)} of {header.path} is not compared with {source}"
        console.err.print(told, markup=False)


def _difference(model: Any, served: PretrainedConfig, architecture: str) -> str:
    """The first thing that ``model`` computes otherwise than a model of ``served`` would."""
    aliases = ARCHITECTURES[architecture].aliases
    if (own := model.config.model_type) not in (served.model_type, *aliases):
        return f"its model_type is {own}, not {served.model_type}"
    for name in _COMPARED:
        own, other = getattr(model.config, name, None), getattr(served, name, None)
        if own != other:
            return f"its {name} is {own}, not {other}"
    own, other = model.config.rms_norm_eps, served.rms_norm_eps
    if not math.isclose(own, other, rel_tol=1e-3):
        return f"its rms_norm_eps is {own:.3g}, not {other:.3g}"
    rotary = model.model.rotary_emb
    if not _rotates_alike(rotary, type(rotary)(served)):
        return "its rotary embedding differs (rope_theta, rope_scaling or partial_rotary_factor)"
    return ""


def _rotates_alike(rotary: Any, expected: Any) -> bool:
    """Compare frequencies and factors, of which Gemma 3 has two sets, for two kinds of layers."""
    own, other = (
        {name: value.cpu() for name, value in module.named_buffers() if "inv_freq" in name}
        for module in (rotary, expected)
    )
    scales = [name for name in vars(expected) if name.endswith("attention_scaling")]
    return (
        own.keys() == other.keys()
        and all(own[name].shape == other[name].shape for name in own)
        and all(np.allclose(own[name], other[name], rtol=1e-3, atol=0) for name in own)
        and all(
            math.isclose(getattr(rotary, name), getattr(expected, name), rel_tol=1e-3)
            for name in scales
        )
    )

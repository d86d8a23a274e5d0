"""The rotary position embedding of a GGUF file, as llama.cpp computes it, in transformers' terms.

Transformers' reader of GGUF files takes over its base alone. Everything else that llama.cpp applies
can be written as one divisor for each frequency and one factor on the attention, which transformers
calls ``longrope``; where there is a plainer name for it, that is used, so that an exported folder
says what the model's makers said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setup.serve.engine_process import padded

if TYPE_CHECKING:
    from setup.weights.gguf_file import Header

Divisors = NDArray[np.float64]

_KINDS = ("none", "linear", "yarn", "longrope")
_DEFAULT_BASE = 10_000.0
# The turns within the original context that mark where YaRN's ramp begins and ends. llama.cpp
# reads no others for these architectures.
_FAST, _SLOW = 32.0, 1.0
# What Meta gave every Llama from 3.1 on; https://huggingface.co/meta-llama/Llama-3.1-8B
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3_CONTEXT = 8192


def read_rope(header: Header, rotated: int) -> dict[str, Any]:
    """``rope_parameters`` for a file whose heads have their first ``rotated`` numbers rotated.

    Sources: ``llama_model_base::load_hparams`` and ``get_rope_factors`` of llama.cpp's
    src/llama-model.cpp, ``llama_context::llama_context``, and ``rope_yarn`` of ggml.

    Raises:
        FixableError: A kind of scaling, or a table of factors, that is not known here.
    """
    base = header.number("rope.freq_base", _DEFAULT_BASE)
    kind = header.text("rope.scaling.type", "linear")
    if kind not in _KINDS:
        raise header.unknown("rope.scaling.type")
    once = header.number("rope.scale_linear", 0.0)
    factor = header.number("rope.scaling.factor", 0.0) or once
    if kind == "none" or not factor:
        factor = 1.0
    original = header.count("rope.scaling.original_context_length", 0)
    original = original or header.count("context_length")
    attention = header.number("rope.scaling.attn_factor", 1.0)
    if kind == "yarn" and factor > 1:
        attention *= 1 + 0.1 * math.log(factor)
    short, long = _tables(header, rotated)
    if short is None or long is None:  # then both are
        plain = _without_tables(header.architecture, kind, factor, original, attention)
        if plain:
            return {"rope_theta": base, **plain}
        short = long = np.ones(rotated // 2)
    elif short is long and factor == attention == 1 and (named := _llama3(short, base)):
        return {"rope_theta": base, **named}
    scaling = _yarn(factor, original, base, rotated) if kind == "yarn" else factor
    return {
        "rope_theta": base,
        "rope_type": "longrope",
        "short_factor": (short * scaling).tolist(),
        "long_factor": (long * scaling).tolist(),
        "original_max_position_embeddings": original,
        "attention_factor": attention,
    }


def as_served(rope: dict[str, Any], context_window: int) -> dict[str, Any]:
    """``rope`` for conversations of up to ``context_window`` tokens.

    Transformers takes the long factors for a conversation that is longer than the original context,
    llama.cpp for all of them as soon as one may be.
    """
    if rope.get("rope_type") != "longrope":
        return rope
    if padded(context_window) <= rope["original_max_position_embeddings"]:
        return rope
    return rope | {"short_factor": rope["long_factor"]}


def _tables(header: Header, rotated: int) -> tuple[Divisors | None, Divisors | None]:
    """The factors that the file holds for short and for long contexts; None where it has none."""
    single = header.table("rope_freqs.weight", rotated // 2)
    if single is not None and header.architecture == "llama":
        return single, single
    short = header.table("rope_factors_short.weight", rotated // 2)
    long = header.table("rope_factors_long.weight", rotated // 2)
    if (short is None) != (long is None):
        raise header.unknown("rope.scaling.type")
    return short, long


def _without_tables(
    architecture: str, kind: str, factor: float, original: int, attention: float
) -> dict[str, Any] | None:
    """The plain name of a scaling, None where transformers has none for the architecture."""
    if factor == attention == 1:
        return {"rope_type": "default"}
    if architecture == "phi3":  # it knows longrope alone
        return None
    if kind == "yarn" and factor > 1:
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": attention,
            "beta_fast": _FAST,
            "beta_slow": _SLOW,
        }
    return {"rope_type": "linear", "factor": factor} if kind != "yarn" and attention == 1 else None


def _yarn(factor: float, original: int, base: float, rotated: int) -> Divisors:
    """YaRN (https://arxiv.org/abs/2309.00071): slow frequencies interpolated, fast ones kept."""

    def dimension(turns: float) -> float:
        return rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(dimension(_FAST)), 0)
    last = min(math.ceil(dimension(_SLOW)), rotated - 1)
    ramp = np.clip((np.arange(rotated // 2) - first) / max(0.001, last - first), 0, 1)
    divisors: Divisors = 1 / (ramp / factor + (1 - ramp))
    return divisors


def _llama3(divisors: Divisors, base: float) -> dict[str, Any] | None:
    """Llama 3.1's own name for ``divisors``, None where they are others."""
    factor = float(divisors.max())
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    frequencies = base ** (np.arange(len(divisors)) / len(divisors))
    turns = _LLAMA3_CONTEXT / (2 * np.pi * frequencies)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    same = np.allclose(1 / ((1 - kept) / factor + kept), divisors, rtol=1e-5)
    named = {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    named["original_max_position_embeddings"] = _LLAMA3_CONTEXT
    return named if same and factor > 1 else None

"""Tiny tuned models of all families, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from setup.weights.adapter import Adapter, read_adapter
from tests.families import FAMILIES
from tests.setup.weights.tuned import Tuned, make_tuned
from tests.tiny import make_tiny, make_tiny_llama, make_tiny_phi3

_MAKERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "llama": (make_tiny_llama, {}),
    "phi3": (make_tiny_phi3, {}),
    "llama-rslora-top-layer": (
        make_tiny_llama,
        {"use_rslora": True, "lora_alpha": 6, "layers_to_transform": [2]},
    ),
    "llama-patterns": (
        make_tiny_llama,
        {
            "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\..*": 6},
            "alpha_pattern": {"model.layers.0.self_attn.v_proj": 30, "up_proj": 5},
        },
    ),
    "phi3-patterns-rslora": (
        make_tiny_phi3,
        {"use_rslora": True, "rank_pattern": {"o_proj": 8}, "alpha_pattern": {"down_proj": 3}},
    ),
    **{
        name: (partial(make_tiny, name), {})
        for name, family in FAMILIES.items()
        if family.from_file and name not in ("llama", "phi3")
    },
}


@pytest.fixture(scope="package", params=_MAKERS)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A tiny model and a random adapter on it, in turn for each architecture."""
    make, config = _MAKERS[request.param]
    folder = tmp_path_factory.mktemp("tiny")
    return make_tuned(make(folder), folder / "adapter", 0.2, **config)


@pytest.fixture(scope="package")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """The tiny Llama and an adapter on all its layers."""
    folder = tmp_path_factory.mktemp("llama")
    return make_tuned(make_tiny_llama(folder), folder / "adapter", 0.2)


@pytest.fixture
def adapter(tuned: Tuned) -> Adapter:
    """The adapter of ``tuned``, read back."""
    return read_adapter(tuned.adapter)

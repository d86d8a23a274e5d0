"""Machines with a tiny model, and adapters for it as other programs leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.setup.finetune.conftest import MakeMachine, make_machine, tiny
from tests.setup.finetune.machine import Machine
from tests.setup.weights.adapters.foreign import Foreign, make_foreign

__all__ = ["make_machine", "tiny"]
MakeForeign = Callable[..., Foreign]


@pytest.fixture(scope="module")
def llama(make_machine: MakeMachine) -> Machine:
    """A machine with the tiny Llama, whose output is its embedding."""
    return make_machine()


@pytest.fixture(scope="module")
def phi(make_machine: MakeMachine, tiny: dict[str, Path]) -> Machine:
    """A machine with the tiny Phi-3, which has an output matrix of its own."""
    return make_machine(base=tiny["phi3"])


@pytest.fixture
def foreign(tiny: dict[str, Path], tmp_path: Path) -> MakeForeign:
    """Make an adapter on one of the tiny models in a folder ``shop-lora``."""

    def make(model: str = "llama", **config: object) -> Foreign:
        return make_foreign(tiny[model], tmp_path / "shop-lora", **config)

    return make

"""Tiny models, made once, and machines to train them on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

from setup.common.files import sha256_file
from setup.data import DataPlan
from setup.data.manifest import write_note
from tests.home import Home
from tests.setup.finetune.machine import Machine, Row, facts, write_rows
from tests.tiny import _SHAPE, make_tiny, make_tiny_llama, make_tiny_phi3

MakeMachine = Callable[..., Machine]
Families = Callable[[str], Path]
SMALL = [
    "model.precision=keep",
    "model.context_window=256",
    "registry.model=tiny",
    "finetune.rank=8",
    "finetune.alpha=16",
    "finetune.layers=0",
    "finetune.epochs=4",
    "finetune.learning_rate=0.01",
    "finetune.max_tokens=128",
    "finetune.held_out_rows=4",
    "finetune.evaluate_every=10",
    "finetune.save_every=4",
    "finetune.precision=fp32",
    "finetune.threads=1",
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models as GGUF, by architecture."""
    folder = tmp_path_factory.mktemp("tiny")
    # A new model's padding token has weights of zero; here that is the stop token, and where the
    # output matrix is the input's, no adapter could teach it.
    with mock.patch.dict(_SHAPE, pad_token_id=None):
        return {"llama": make_tiny_llama(folder), "phi3": make_tiny_phi3(folder)}


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Families:
    """A tiny model of a family as GGUF, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("families")

    @cache
    def make(family: str) -> Path:
        return make_tiny(family, folder, pad_token_id=None)

    return make


@pytest.fixture(scope="module")
def make_machine(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> MakeMachine:
    """Make a machine whose train split has ``rows``; it trains the tiny Llama unless told."""
    models = tmp_path_factory.mktemp("models")

    def make(rows: list[Row] | None = None, base: Path | None = None) -> Machine:
        folder = tmp_path_factory.mktemp("machine")
        train = write_rows(folder / "data/train_data.jsonl", facts(36) if rows is None else rows)
        plan = DataPlan(source="own.jsonl", out=train.parent)
        write_note(plan, {"sha256": {train.name: sha256_file(train)}})
        sets = [
            f"model.source={base or tiny['llama']}",
            "data.source=own.jsonl",
            f"data.out={train.parent}",
            *SMALL,
        ]
        return Machine(Home(folder / "home", models), sets)

    return make


@pytest.fixture(scope="module")
def machine(make_machine: MakeMachine) -> Machine:
    """A machine with the tiny Llama and 36 conversations."""
    return make_machine()

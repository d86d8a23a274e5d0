"""Prepared data with known faults, and a tiny model to render it by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.setup.command import Ended, options, prepare, run, write
from tests.setup.data.inspect.planted import Turns
from tests.tiny import make_tiny_llama


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@dataclass(frozen=True)
class Prepared:
    """A source that `data` has prepared, and the options that name it and the model."""

    out: Path
    options: list[str]

    def inspect(self, *more: str) -> Ended:
        return run("inspect", *self.options, *more)

    def json(self, *more: str) -> dict[str, Any]:
        done = self.inspect("--json", *more)
        assert done.code == 0, done.err + done.out
        content: dict[str, Any] = json.loads(done.out)
        return content


@pytest.fixture
def prepare_rows(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[Turns]], Prepared]:
    """Prepare rows with ``data``; what it takes besides is set as there."""
    for name in ("HOME", "MODELS"):
        monkeypatch.setenv(f"FINETUNE_PHI_{name}", str(tmp_path / "home"))

    def make(given: list[Turns], **sets: Any) -> Prepared:
        source, out = write(tmp_path / "in.jsonl", *given), tmp_path / "out"
        done = prepare(source, out, **sets)
        assert done.code == 0, done.err
        chosen = [f"model.source={model}", "model.precision=keep", "model.system_role=native"]
        named = [part for value in chosen for part in ("--set", value)]
        return Prepared(out, [*options(source=source, out=out, **sets), *named])

    return make

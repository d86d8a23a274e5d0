"""What every test of the step ``deploy`` starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.azure.client.money import answered
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.serving import make_workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, and --yes."""
    monkeypatch.setenv("FINETUNE_PHI_HOME", str(tmp_path / "home"))
    with answered(True):
        yield tmp_path / "home"


@pytest.fixture
def recipe(azure: FakeAzure) -> AzureRecipe:
    """phi-azure with version 1 registered."""
    return make_workspace(azure)

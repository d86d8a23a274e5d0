"""What every test of the step ``deploy`` starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from setup.azure.client.money import answered
from setup.recipe.azure import AzureRecipe
from tests.azure.fake import FakeAzure
from tests.azure.serving import hurry, make_workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, waits that are short, and --yes."""
    with answered(True):
        yield hurry(tmp_path, monkeypatch)


@pytest.fixture
def recipe(azure: FakeAzure) -> AzureRecipe:
    """phi-azure with version 1 registered."""
    return make_workspace(azure)

"""What every test of the catalog's job starts from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from setup.azure.client.session import AzureSession
from setup.azure.data import step as data
from tests.azure.trainable import Trainable, trainable


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainable]:
    with trainable(tmp_path_factory.mktemp("azure")) as found:
        data.run(AzureSession(found.recipe()))
        yield found


@pytest.fixture
def cloud(uploaded: Trainable) -> Trainable:
    """The data is there, no job is."""
    uploaded.forget("jobs")
    uploaded.azure.job_states = ["Queued", "Running", "Completed"]
    return uploaded

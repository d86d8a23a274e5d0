"""The parts of a workspace, driven by azure-ai-ml: data assets and blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Data
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobServiceClient

from tests.azure.fake import FakeAzure
from tests.azure.fake.ready import add_workspace
from tests.azure.fake.subscription import SUBSCRIPTION


@pytest.fixture
def ml(azure: FakeAzure) -> MLClient:
    """A client of the workspace ``ws``."""
    add_workspace(azure, "ws", "rg")
    return MLClient(DefaultAzureCredential(), SUBSCRIPTION, "rg", "ws")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n')
    return path


def test_data_asset_is_uploaded(azure: FakeAzure, ml: MLClient, rows: Path) -> None:
    with pytest.raises(ResourceNotFoundError):
        ml.data.get("train", version="1")
    made = ml.data.create_or_update(
        Data(name="train", version="1", path=str(rows), type="uri_file")
    )
    assert made.path.endswith("/train.jsonl")
    assert ml.data.get("train", label="latest").version == "1"
    assert [one.version for one in ml.data.list("train")] == ["1"]
    stored = [
        blob.content
        for request in azure.find("PUT .*blob.core")
        for blob in azure.storage.container("stws", request.path.split("/")[1]).values()
    ]
    assert rows.read_bytes() in stored
    assert azure.violations == []


def test_data_of_a_version_stays(azure: FakeAzure, ml: MLClient, rows: Path) -> None:
    def data() -> Data:
        return Data(name="train", version="1", path=str(rows), type="uri_file")

    ml.data.create_or_update(data())
    azure.clear()
    ml.data.create_or_update(data())
    assert not azure.find("PUT .*blob.core")
    rows.write_text("other\n")
    with pytest.raises(Exception, match="path"):
        ml.data.create_or_update(data())


def test_blobs(azure: FakeAzure, ml: MLClient) -> None:
    service = BlobServiceClient("https://stws.blob.core.windows.net", DefaultAzureCredential())
    container = service.create_container("mine")
    content = b"0123456789" * 1_000_000
    container.upload_blob("a/b.bin", content, metadata={"k": "v"}, max_concurrency=2)
    container.upload_blob("a/c.txt", b"")
    assert container.download_blob("a/b.bin").readall() == content
    assert container.get_blob_client("a/b.bin").get_blob_properties().metadata == {"k": "v"}
    assert [blob.name for blob in container.list_blobs("a/")] == ["a/b.bin", "a/c.txt"]
    with pytest.raises(ResourceNotFoundError):
        container.download_blob("a/none")


def test_data_needs_a_role(azure: FakeAzure, ml: MLClient) -> None:
    account = azure.store.need(ml.workspaces.get("ws").storage_account)
    account.properties["allowSharedKeyAccess"] = False
    for one in list(azure.store):
        if one.kind == "microsoft.authorization/roleassignments":
            azure.store.delete(one.id.text)
    service = BlobServiceClient("https://stws.blob.core.windows.net", DefaultAzureCredential())
    with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
        service.create_container("mine")

"""What azure-ai-ml, promptflow and ``setup.azure`` do with blobs, step by step in one container."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobBlock, ContainerClient, ContentSettings

Step = Callable[[ContainerClient], Any]
STORY: list[Step] = []  # each returns what its caller got, refusals as the error
LIMITS: dict[str, Any] = {  # so that ten bytes are a large file
    "max_single_put_size": 4,
    "max_block_size": 4,
    "max_single_get_size": 8,
    "max_chunk_get_size": 4,
}
_MARK = {"Upload_Status": "completed", "name": "rows"}  # azure-ai-ml marks what is there whole
_NAMES = ("a/b & c.txt", "a/b/1.txt", "a/b/2.txt", "a/ü <1>.txt", "b.txt")


def step(function: Step) -> Step:
    """The next step of the story."""
    STORY.append(function)
    return function


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except HttpResponseError as error:
        return error


def _page(page: Iterable[Any], paged: Any) -> Any:
    names = [one.name for one in page]
    return names, bool(paged.continuation_token), paged.prefix, paged.results_per_page


@step
def look_at_no_container(container: ContainerClient) -> Any:
    return container.exists(), _tried(container.get_container_properties)


@step
def list_no_container(container: ContainerClient) -> Any:
    return _tried(lambda: list(container.list_blob_names(results_per_page=1)))


@step
def upload_to_no_container(container: ContainerClient) -> Any:
    return _tried(lambda: container.upload_blob("a", b"1"))


@step
def download_from_no_container(container: ContainerClient) -> Any:
    return container.get_blob_client("a").exists(), _tried(lambda: container.download_blob("a"))


@step
def make_container(container: ContainerClient) -> Any:
    made = container.create_container()
    return made, _tried(container.create_container), container.exists()


@step
def describe_container(container: ContainerClient) -> Any:
    return container.get_container_properties()


@step
def list_nothing(container: ContainerClient) -> Any:
    return list(container.list_blobs()), list(container.list_blob_names(results_per_page=1))


@step
def look_at_no_blob(container: ContainerClient) -> Any:
    blob = container.get_blob_client("none/ü")
    return blob.exists(), [
        _tried(call)
        for call in (
            blob.get_blob_properties,
            blob.download_blob,
            blob.delete_blob,
            lambda: blob.set_blob_metadata(_MARK),
            lambda: blob.get_block_list("uncommitted"),
        )
    ]


@step
def upload_small(container: ContainerClient) -> Any:
    blob = container.upload_blob("small", b"123", validate_content=True, metadata=_MARK)
    return blob.get_blob_properties()


@step
def upload_again(container: ContainerClient) -> Any:
    refused = _tried(lambda: container.upload_blob("small", b"456"))
    container.upload_blob("small", b"45", overwrite=True, metadata={"B": "x"})
    return refused, container.get_blob_client("small").get_blob_properties()


@step
def upload_with_its_digest(container: ContainerClient) -> Any:
    def upload(digest: bytearray) -> Any:
        settings = ContentSettings(content_type="text/plain", content_md5=digest)
        return container.upload_blob("typed", b"456", content_settings=settings)

    wrong = _tried(lambda: upload(bytearray(16)))
    right = bytearray(hashlib.md5(b"456", usedforsecurity=False).digest())
    return wrong, upload(right).get_blob_properties()


@step
def upload_nothing(container: ContainerClient) -> Any:
    blob = container.upload_blob("empty", b"")
    return blob.get_blob_properties().size, blob.download_blob().readall()


@step
def upload_in_blocks(container: ContainerClient) -> Any:
    blob = container.upload_blob("large", b"0123456789", validate_content=True, metadata=_MARK)
    return blob.get_blob_properties(), [len(one) for one in blob.get_block_list("all")]


@step
def upload_in_blocks_again(container: ContainerClient) -> Any:
    refused = _tried(lambda: container.upload_blob("large", b"9876543210"))
    container.upload_blob("large", b"abcdefghij", overwrite=True)
    return refused, container.download_blob("large").readall()


@step
def confirm(container: ContainerClient) -> Any:
    blob = container.get_blob_client("large")
    return blob.set_blob_metadata(_MARK), blob.get_blob_properties()


@step
def stage_blocks(container: ContainerClient) -> Any:
    blob = container.get_blob_client("staged")
    made = blob.stage_block("00000000", b"1234"), blob.stage_block("00000001", b"56")
    seen = [one.name for one in container.list_blobs(name_starts_with="stag")]
    return made, blob.exists(), seen, blob.get_block_list("uncommitted")


@step
def commit_blocks(container: ContainerClient) -> Any:
    blob = container.get_blob_client("staged")
    missing = _tried(lambda: blob.commit_block_list([BlobBlock("00000009")]))
    made = blob.commit_block_list([BlobBlock("00000001"), BlobBlock("00000000")])
    return missing, made, blob.download_blob().readall(), blob.get_block_list("uncommitted")


@step
def stage_beside_a_blob(container: ContainerClient) -> Any:
    blob = container.get_blob_client("staged")
    blob.stage_block("00000002", b"789")
    lists, before = blob.get_block_list("all"), blob.download_blob().readall()
    blob.commit_block_list([BlobBlock("00000000"), BlobBlock("00000002")])
    return lists, before, blob.download_blob().readall(), blob.get_block_list("all")


@step
def download_parts(container: ContainerClient) -> Any:
    blob = container.get_blob_client("large")
    part = blob.download_blob(offset=2, length=3)
    return (
        part.readall(),
        part.properties,
        blob.download_blob(offset=9, length=9).readall(),
        list(blob.download_blob().chunks()),
        _tried(lambda: blob.download_blob(offset=11, length=1)),
        container.download_blob("small", offset=0, length=1).properties,
    )


@step
def overwritten_while_read(container: ContainerClient) -> Any:
    stream = container.download_blob("large")
    container.upload_blob("large", b"0123456789", overwrite=True)
    return _tried(stream.readall)


@step
def list_all(container: ContainerClient) -> Any:
    for name in _NAMES:
        container.upload_blob(name, b"1", metadata={"N": "1 & 2"})
    return list(container.list_blobs()), list(container.list_blobs(include="metadata"))


@step
def list_pages(container: ContainerClient) -> Any:
    paged = container.list_blobs(name_starts_with="a/", results_per_page=2).by_page()
    return [_page(page, paged) for page in paged], list(
        container.list_blob_names(name_starts_with="a/", results_per_page=3)
    )


@step
def walk(container: ContainerClient) -> Any:
    paged = container.walk_blobs("a/", results_per_page=2).by_page()
    return [_page(page, paged) for page in paged], [
        [one.name for one in container.walk_blobs(prefix, delimiter="/")]
        for prefix in ("", "a/b/", "small/", "a")
    ]


@step
def delete(container: ContainerClient) -> Any:
    blob = container.get_blob_client("b.txt")
    return blob.delete_blob(), blob.exists(), _tried(blob.delete_blob)


@step
def delete_container(container: ContainerClient) -> Any:
    return container.delete_container(), container.exists(), _tried(container.delete_container)

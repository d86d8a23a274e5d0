"""Files in the storage of a workspace: uploads that go on where they were cut, and ends of logs.

Everything is asked with the login's own token: the template makes storage without shared keys.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.azure.client.explain import or_none
from setup.azure.client.session import AzureSession

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

DATA_STORE = "workspaceblobstore"
ARTIFACT_STORE = "workspaceartifactstore"
# Every block is a request; a file may have 50,000 of them.
_BLOCK = 4 << 20
_END = 64 << 10  # bytes of a log that are looked at


def container_of(session: AzureSession, datastore: str) -> ContainerClient:
    """The container behind ``datastore`` of the recipe's workspace."""
    store: Any = session.ml().datastores.get(datastore)
    url = f"{store.protocol}://{store.account_name}.blob.{store.endpoint}"
    return session.blob_container(url, store.container_name, max_single_put_size=_BLOCK)


def upload(session: AzureSession, source: Path, path: str, told: Callable[[int, int], None]) -> str:
    """Put ``source`` at ``path`` of the workspace's blob store, if it does not lie there yet.

    Returns its URI in the datastore.

    ``path`` must hold a digest of the content: a blob of that name and size is taken for this
    file. It appears whole, from blocks that outlive an interruption for a week: what was sent is
    not sent again. ``told`` gets bytes done and in all.
    """
    uri = f"azureml://datastores/{DATA_STORE}/paths/{path}"
    blob = container_of(session, DATA_STORE).get_blob_client(path)
    total = source.stat().st_size
    if not blob.exists() or blob.get_blob_properties().size != total:
        blob.commit_block_list(_send_blocks(blob, source, told, total))
    return uri


def read_lines(session: AzureSession, folder: str) -> list[str]:
    """Return the lines of all files under ``folder`` of the workspace's blob store."""
    container = container_of(session, DATA_STORE)
    names = sorted(container.list_blob_names(name_starts_with=f"{folder.rstrip('/')}/"))
    texts = [container.download_blob(name).readall().decode("utf-8") for name in names]
    return [line for text in texts for line in text.split("\n") if line.strip()]


def _send_blocks(
    blob: BlobClient, source: Path, told: Callable[[int, int], None], total: int
) -> list[Any]:
    from azure.storage.blob import BlobBlock

    there, done = _waiting_blocks(blob), 0
    names: list[BlobBlock] = []
    with source.open("rb") as file:
        while content := file.read(_BLOCK):
            name = f"{len(names):08}"
            if there.get(name) != len(content):
                blob.stage_block(name, content, length=len(content))
            names.append(BlobBlock(block_id=name))
            done += len(content)
            told(done, total)
    return names


def _waiting_blocks(blob: BlobClient) -> dict[str, int]:
    """Return blocks of an earlier try, by id, with their sizes."""
    _, waiting = or_none(blob.get_block_list, "uncommitted") or ([], [])
    return {block.id: block.size for block in waiting}


def log_end(session: AzureSession, job: str, lines: int) -> tuple[str, list[str]]:
    """The last ``lines`` of what ``job`` printed, and the name of its log; empty where it has none.

    Jobs write to ``user_logs/std_log.txt``, with several processes to one such file each; the
    first process's counts.
    """
    container = container_of(session, ARTIFACT_STORE)
    prefix = f"ExperimentRun/dcid.{job}/"
    names = sorted(
        blob.name for blob in container.list_blobs(name_starts_with=f"{prefix}user_logs/")
    )
    if not names:
        return "", []
    blob = container.get_blob_client(names[0])
    size = blob.get_blob_properties().size
    start = max(0, size - _END)
    content = blob.download_blob(offset=start, length=size - start).readall() if size else b""
    text = content.decode("utf-8", "replace")
    return names[0].removeprefix(prefix), text.splitlines()[-lines:]

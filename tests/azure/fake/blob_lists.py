"""What is in a container, and of what blocks a blob is made, in the XML of the blob service."""

from __future__ import annotations

from itertools import groupby
from xml.sax.saxutils import escape

from tests.azure.fake.messages import Request
from tests.azure.fake.storage import DATE, Blob

_XML = '<?xml version="1.0" encoding="utf-8"?>'
_PAGE = 5000


def listing(request: Request, container: str, blobs: dict[str, Blob]) -> str:
    """One page of the blobs, with what the query asks for: folders count as one entry."""
    query = request.query
    prefix, by = query.get("prefix", ""), query.get("delimiter", "")
    marker, size = query.get("marker", ""), int(query.get("maxresults", _PAGE))

    def entry(name: str) -> str:
        inner, found, _ = name.removeprefix(prefix).partition(by) if by else (name, "", "")
        return prefix + inner + found if found else name

    names = sorted(name for name in blobs if name.startswith(prefix))
    entries = [one for one, _ in groupby(names, entry) if one > marker]
    shown, rest = entries[:size], entries[size:]
    metadata = "metadata" in query.get("include", "")
    inner = "".join(
        _blob(one, blobs[one], metadata)
        if one in blobs and not (by and one.endswith(by))
        else f"<BlobPrefix><Name>{escape(one)}</Name></BlobPrefix>"
        for one in shown
    )
    about = _tag("Prefix", prefix) + _tag("Marker", marker)
    about += _tag("MaxResults", query.get("maxresults", "")) if "maxresults" in query else ""
    about += _tag("Delimiter", by) if by else ""
    following = _tag("NextMarker", shown[-1] if rest else "")
    root = f'ServiceEndpoint="https://{request.host}/" ContainerName="{container}"'
    return (
        f"{_XML}<EnumerationResults {root}>{about}<Blobs>{inner}</Blobs>{following}"
        "</EnumerationResults>"
    )


def _blob(name: str, blob: Blob, metadata: bool) -> str:
    properties = {
        "Creation-Time": DATE,
        "Last-Modified": DATE,
        "Etag": blob.etag,
        "Content-Length": str(len(blob.content)),
        "Content-Type": blob.kind,
        "Content-MD5": blob.md5,
        "BlobType": "BlockBlob",
        "LeaseStatus": "unlocked",
        "LeaseState": "available",
        "ServerEncrypted": "true",
        "AccessTier": "Hot",
        "AccessTierInferred": "true",
    }
    told = "".join(_tag(key, value) for key, value in properties.items() if value)
    marks = "".join(_tag(key, value) for key, value in blob.metadata.items())
    more = f"<Metadata>{marks}</Metadata>" if metadata and marks else ""
    return f"<Blob>{_tag('Name', name)}<Properties>{told}</Properties>{more}</Blob>"


def block_list(request: Request, blob: Blob | None, waiting: dict[str, bytes]) -> str:
    """Both kinds of blocks, as far as they are asked for."""
    asked = request.query.get("blocklisttype", "committed")
    committed = blob.blocks if blob and asked != "uncommitted" else []
    sent = list(waiting.items()) if asked != "committed" else []
    lists = f"<CommittedBlocks>{_blocks(committed)}</CommittedBlocks>"
    lists += f"<UncommittedBlocks>{_blocks(sent)}</UncommittedBlocks>"
    return f"{_XML}<BlockList>{lists}</BlockList>"


def _blocks(blocks: list[tuple[str, bytes]]) -> str:
    return "".join(
        f"<Block>{_tag('Name', name)}{_tag('Size', str(len(content)))}</Block>"
        for name, content in blocks
    )


def _tag(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"

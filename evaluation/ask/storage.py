"""promptflow's record of every line and node, written with a fifth of its work."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from promptflow._utils.multimedia_utils import MultimediaProcessor
from promptflow.contracts.multimedia import Image
from promptflow.contracts.run_info import Status
from promptflow.tracing._utils import serialize

_PLAIN = frozenset({str, int, float, bool, type(None)})


class QuickStorage:
    """Writes the files of promptflow's ``LocalStorageOperations``, byte for byte.

    They are more than half of a line's processor time otherwise, which threads have to share:
    promptflow converts a record to plain values twice, copies it, and encodes it in Python. Here it
    is converted once and encoded in C.
    """

    def __init__(self, storage: Any) -> None:
        self._lines: Path = storage._run_infos_folder
        self._nodes: Path = storage._node_infos_folder
        self._line_file = storage._get_flow_run_info_file_name
        self._node_file = storage._get_node_run_info_file_name

    def persist_flow_run(self, info: Any) -> None:
        """Called by promptflow when a line begins, which leaves no file, and when it has ended."""
        if not Status.is_terminated(info.status):
            return
        record = {
            "line_number": info.index,
            **_common(info, self._lines),
            "name": info.name,
            "description": info.description,
            "status": info.status.value,
            "tags": info.tags,
        }
        _write(self._lines / self._line_file(info.index), record)

    def persist_node_run(self, info: Any) -> None:
        """Called by promptflow when a node has ended; an aggregation counts as line 0."""
        folder = self._nodes / info.node
        folder.mkdir(exist_ok=True)
        record = {
            "NodeName": info.node,
            "line_number": info.index,
            **_common(info, folder),
            "status": info.status.value,
        }
        _write(folder / self._node_file(info.index or 0), record)


def _common(info: Any, folder: Path) -> dict[str, Any]:
    """The part of a record that lines and nodes share; ``info`` gets the plain values, too."""
    if info.output:
        info.result = None
    encoder = MultimediaProcessor.create(info.message_format).get_file_reference_encoder(
        folder, None, use_absolute_path=True
    )
    images = {Image: partial(Image.serialize, encoder=encoder)}
    plain = {field.name: _plain(getattr(info, field.name), images) for field in fields(info)}
    info.inputs, info.output, info.api_calls = (
        plain[name] for name in ("inputs", "output", "api_calls")
    )
    return {
        "run_info": plain,
        "start_time": info.start_time.isoformat(),
        "end_time": info.end_time.isoformat(),
    }


def _plain(value: Any, images: dict[type, Any]) -> Any:
    """``value`` for JSON; promptflow decides about everything that JSON does not have already."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: _plain(item, images) for key, item in value.items()}
    if kind is list:
        return [_plain(item, images) for item in value]
    return serialize(value, serialization_funcs=images)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")

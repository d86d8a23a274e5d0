"""The collector: it keeps conversations and ratings where the recipe says so, else nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from filelock import Timeout
from prometheus_client import Counter

from setup.common import feedback_file
from setup.serve import observe
from setup.serve.contract.error_reply import ApiError
from setup.serve.contract.rating import CONVERSATION_ID
from setup.serve.deployments import ENDPOINT, Deployment, log
from setup.serve.settings import EndpointSettings

_CONVERSATION = "conversation"  # of a request: the id that its client has given
_DONE = b"data: [DONE]\n\n"
_kept = Counter(
    "endpoint_collected", "Lines for the feedback file", ["result"], registry=observe.registry
)


class Collector:
    """Writes to the feedback file as the settings allow it."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._told = ""
        if self.mode != "none":
            path = str(feedback_file.feedback_path())
            log.info("collecting", extra={"collect": self.mode, "file": path})

    @property
    def mode(self) -> str:
        """The kind of things kept: none, feedback or conversations."""
        return self._settings.collect

    def state(self) -> dict[str, Any]:
        """The kind of things kept and how full the file is, for pages and people."""
        if self.mode == "none":
            return {"collect": self.mode}
        limit, size = self._settings.collect_limit, feedback_file.feedback_size()
        is_full = self._told == "full" or size >= limit
        return {"collect": self.mode, "bytes": size, "limit": limit, "full": is_full}

    async def write(self, record: dict[str, Any]) -> str:
        """Append ``record``, with the time; returns why it could not be kept, "" where it is."""
        line = record | {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        line["endpoint"] = self._settings.name
        try:
            await asyncio.to_thread(feedback_file.append, line, self._settings.collect_limit)
        except feedback_file.FullError:
            limit = self._settings.collect_limit
            return self._fail("full", f"the feedback file has its {limit:,} bytes")
        except (OSError, Timeout) as error:
            reason = "its lock is held" if isinstance(error, Timeout) else error.strerror or error
            return self._fail("failed", f"the feedback file cannot be written: {reason}")
        self._told = ""
        _kept.labels("kept").inc()
        return ""

    async def write_all(self, records: Sequence[dict[str, Any]]) -> None:
        """Append each of ``records``; what cannot be kept is logged and counted.

        After one that cannot be kept no other one is tried: each might wait for the file.
        """
        for number, record in enumerate(records, 1):
            if await self.write(record):
                _kept.labels(self._told).inc(len(records) - number)
                return

    def _fail(self, result: str, reason: str) -> str:
        _kept.labels(result).inc()
        if self._told != result:  # once, not for every answer from now on
            log.error("conversations are not kept any more", extra={"reason": reason})
        self._told = result
        return reason


COLLECTOR = web.AppKey("collector", Collector)


def name_conversation(request: web.Request, asked: Any) -> None:
    """Remember which conversation the client says that its question belongs to.

    ApiError 400 for an id that is none, where it would be kept.
    """
    name = (getattr(asked, "metadata", None) or {}).get("conversation_id", "")
    if request.app[COLLECTOR].mode != "conversations":
        return
    if name and not (isinstance(name, str) and re.fullmatch(CONVERSATION_ID, name)):
        what = "metadata.conversation_id: 1 to 64 letters, digits and . _ : -"
        raise ApiError(400, what, param="metadata.conversation_id")
    request[_CONVERSATION] = name


async def keep_answers(
    request: web.Request,
    deployment: Deployment,
    turns: Sequence[dict[str, Any]],
    completion: dict[str, Any],
) -> None:
    """Keep a question and its answers, where all conversations are kept.

    A client that hangs up as soon as it has its answer does not keep them from being kept.
    """
    collector = request.app[COLLECTOR]
    if collector.mode != "conversations":
        return
    conversation = request.get(_CONVERSATION, "")
    records = list[dict[str, Any]]()
    for choice in completion["choices"]:
        message = choice["message"]
        more = {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}
        record = {
            "kind": feedback_file.ANSWER,
            "conversation": conversation,
            "id": completion["id"],
            "deployment": deployment.name,
            "model": Path(deployment.settings.model_path).name,
            "messages": list(turns),
            "answer": message.get("content") or "",
            "finish_reason": choice.get("finish_reason"),
        }
        records.append(record | more)
    await asyncio.shield(collector.write_all(records))


class Copy:
    """A copy of a stream, taken on its way to the client where all conversations are kept."""

    def __init__(self, request: web.Request) -> None:
        self._is_taken = request.app[COLLECTOR].mode == "conversations"
        self._events = bytearray()

    async def of(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass the pieces on."""
        async for piece in pieces:
            if self._is_taken:
                self._events += piece
            yield piece

    def completion(self) -> dict[str, Any] | None:
        """The answers that were sent, None where they were not sent as a whole."""
        return _completion(bytes(self._events)) if self._events.endswith(_DONE) else None


def _completion(told: bytes) -> dict[str, Any]:
    """The whole completion that was streamed as events."""
    name, choices = "", dict[int, dict[str, Any]]()
    for line in told.splitlines():
        if line[:7] != b"data: {":
            continue
        event = json.loads(line[6:])
        name = name or event.get("id", "")
        for part in event.get("choices", []):
            empty = {"message": {"content": "", "tool_calls": []}, "finish_reason": None}
            choice = choices.setdefault(part.get("index", 0), empty)
            _add(choice["message"], part.get("delta", {}))
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    return {"id": name, "choices": list(choices.values())}


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    message["content"] += delta.get("content") or ""
    for piece in delta.get("tool_calls") or []:
        calls, place = message["tool_calls"], piece.get("index", 0)
        while len(calls) <= place:
            calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
        calls[place] |= {"id": piece["id"]} if piece.get("id") else {}
        function = piece.get("function") or {}
        for field in ("name", "arguments"):
            calls[place]["function"][field] += function.get(field) or ""


def model_of(request: web.Request, name: str) -> str:
    """The model file of the deployment ``name``, "" where there is none any more."""
    deployment = request.app[ENDPOINT].table.get(name)
    return Path(deployment.settings.model_path).name if deployment else ""

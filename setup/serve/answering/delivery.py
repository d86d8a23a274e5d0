"""Answers on their way: a client that reads slowly holds no slot, one that never reads is cut off.

What an engine has said is kept until the client takes it, so that the slot is free as soon as the
answer is whole. One connection keeps at most ``_KEPT``; beyond that its engine waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aiohttp import web

from setup.serve import observe

_KEPT = 1 << 20  # bytes: an answer of some four thousand tokens
_LOOKS = 4  # at each connection, within the time that one may stand still


class Connection(Protocol):
    """A connection of aiohttp's server, of which only the transport is looked at."""

    transport: asyncio.Transport | None


class Outlet:
    """A stream to one client, which counts what it was given."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._response = response
        self._transport: Any = request.transport
        self.given = 0
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=_KEPT)
            _outlets[self._transport] = self

    async def write(self, piece: bytes) -> None:
        """Send or keep it; waits where too much is kept already."""
        self.given += len(piece)
        await self._response.write(piece)


_outlets: dict[Any, Outlet] = {}


async def guard(
    connections: Callable[[], Iterable[Connection]], patience: float, longest: float
) -> None:
    """Cut off, for ever, clients that take nothing of what waits for them for ``patience`` seconds.

    And those that take it so slowly that it is not with them ``longest`` seconds later.
    """
    seen: dict[Any, tuple[int, float, float]] = {}
    while True:
        await asyncio.sleep(patience / _LOOKS)
        now = time.monotonic()
        open_ = [c.transport for c in list(connections()) if c.transport is not None]
        before, seen = seen, {}
        for transport in open_:
            kept = transport.get_write_buffer_size()
            outlet = _outlets.get(transport)
            if not kept:
                continue
            sent = (outlet.given if outlet else 0) - kept
            most, moved, first = before.get(transport, (sent - 1, now, now))
            moved = now if sent > most else moved
            if now - moved >= patience or now - first >= longest:
                observe.refusals.labels("client_does_not_read").inc()
                transport.abort()
                continue
            seen[transport] = max(sent, most), moved, first
        alive = set(open_)
        for transport in [known for known in _outlets if known not in alive]:
            del _outlets[transport]

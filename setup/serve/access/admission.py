"""Admission of requests: those answered now, those that wait, those turned away."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from setup.serve.contract.error_reply import ApiError

_SMOOTHING = 0.2


class Admission:
    """As many requests at a time as the engine has slots, a bounded queue behind them.

    ``waiting`` are those that hold no slot yet: they are being read, or stand in the queue.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self._slots, self._queue = slots, queue
        self._free = asyncio.Semaphore(slots)
        self._seconds_each = 1.0
        self._guests = self.admitted = self.waiting = 0

    @property
    def room(self) -> int:
        """The number of requests that would still be admitted now."""
        return self._slots + self._queue - self.admitted

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be admitted for the block; taken before a request is read, so that it needs no slot.

        ApiError 429 with ``Retry-After``, until about one place is free, when all are taken.
        """
        if self.room <= 0:
            seconds = max(1, math.ceil(self._seconds_each / self._slots))
            raise ApiError(429, "all slots and the queue are full", retry_after=seconds)
        self.admitted += 1
        self.waiting += 1
        try:
            yield
        finally:
            self.admitted -= 1
            self.waiting -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a slot for the block, having a place; yields the seconds spent waiting for it."""
        asked = time.monotonic()
        async with self._free:
            started = time.monotonic()
            self.waiting -= 1
            try:
                yield started - asked
                took = time.monotonic() - started
                self._seconds_each += _SMOOTHING * (took - self._seconds_each)
            finally:
                self.waiting += 1

    @contextmanager
    def guest(self) -> Iterator[None]:
        """For requests that need no slot, but must be waited for."""
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1

    async def idle(self) -> None:
        """Wait until nobody holds or waits for a slot, and no guest is left."""
        while self.admitted or self._guests:
            await asyncio.sleep(0.05)

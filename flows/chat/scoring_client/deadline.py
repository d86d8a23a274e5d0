"""A total time limit that a server cannot stretch by answering one byte at a time.

Socket timeouts start anew with every byte, so a trickling server can hold a client for ever, while
it reads headers too. Here a timer shuts the socket down when the time is up: the blocked read
returns at once, and the caller learns from :attr:`Deadline.passed` why.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class Deadline:
    """``seconds`` from now; to be closed after everything it limits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None

    @property
    def remaining(self) -> float:
        """Seconds left, never below a millisecond, so that it is a valid socket timeout."""
        return max(0.001, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Tell whether the time is up (10 ms early: timers and sockets round)."""
        return time.monotonic() >= self._end - 0.01

    def within(self, seconds: float) -> Deadline:
        """A shorter deadline, at most ``seconds`` from now, that takes over the watched socket."""
        shorter = Deadline(min(seconds, self.remaining))
        if self._socket is not None:
            shorter.watch(self._socket)
        self.close()
        return shorter

    def watch(self, sock: socket.socket) -> None:
        """Shut ``sock`` down when the time is up; it replaces the socket watched before."""
        self.close()
        self._socket = sock
        self._timer = threading.Timer(self.remaining, _shut_down, [sock])
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Stop watching; to be called before the socket goes back to its pool."""
        if self._timer is not None:
            self._timer.cancel()
        self._socket = self._timer = None


@contextlib.contextmanager
def watching(deadline: Deadline) -> Any:
    """Let connections opened or reused in this block (and thread) report to ``deadline``."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def _shut_down(sock: socket.socket) -> None:
    # The plain socket's method: that of an SSL socket drops its TLS state under the reader's feet.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _WatchedConnection(HTTPConnection):
    """Connecting, the TLS handshake and sending are bounded by their own timeouts; the answer,
    from its first header byte, by the deadline."""

    def getresponse(self) -> Any:
        deadline = _current.get()
        if deadline is not None and self.sock is not None:
            deadline.watch(self.sock)
        return super().getresponse()


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class WatchedAdapter(HTTPAdapter):
    """requests' adapter with connections that a :class:`Deadline` can end, proxies included."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Hooked into requests when the adapter is made."""
        super().init_poolmanager(*args, **kwargs)
        _use_watched_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Hooked into requests on the first use of a proxy."""
        return _use_watched_pools(super().proxy_manager_for(*args, **kwargs))


def _use_watched_pools(manager: PoolManager) -> PoolManager:
    # A SOCKS proxy's manager has connections of its own kind, which must stay.
    if manager.pool_classes_by_scheme.get("http") is HTTPConnectionPool:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return manager

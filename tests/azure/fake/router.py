"""Which handler answers: method, host and a path with ``{names}``, case-insensitive as in Azure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.azure.fake.messages import Reply, Request

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

ARM = "management.azure.com"
Handler = Callable[..., Reply]


def pattern_of(template: str) -> re.Pattern[str]:
    """``/a/{name}/{rest...}`` as a pattern: a name is one segment, ``rest...`` all that follow."""
    parts = re.split(r"(\{\w+(?:\.\.\.)?\})", template)
    for index, part in enumerate(parts):
        if part.endswith("...}"):
            parts[index] = f"(?P<{part[1:-4]}>.*)"
        elif part.startswith("{"):
            parts[index] = f"(?P<{part[1:-1]}>[^/]+)"
        else:
            parts[index] = re.escape(part)
    return re.compile("".join(parts) + "/?", re.IGNORECASE)


class Routes:
    """The routes of one service; those added first are tried first."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], re.Pattern[str], Handler]] = []

    def on(self, methods: str, host: str, path: str) -> Callable[[Handler], Handler]:
        """Register ``handler(azure, request, **names)`` for ``"GET|PUT"``, a host and a path.

        ``host`` may have ``*`` for one or more characters.
        """
        host_pattern = re.compile(re.escape(host).replace(r"\*", ".+"), re.IGNORECASE)

        def add(handler: Handler) -> Handler:
            self._routes.append((methods, host_pattern, pattern_of(path), handler))
            return handler

        return add

    def knows(self, host: str) -> bool:
        """Whether any route is for this host."""
        return any(pattern.fullmatch(host) for _, pattern, _, _ in self._routes)

    def find(self, request: Request) -> tuple[Handler, dict[str, Any]] | None:
        """The handler of a request and the names in its path, or None."""
        for methods, host, path, handler in self._routes:
            if request.method not in methods.split("|") or not host.fullmatch(request.host):
                continue
            if found := path.fullmatch(request.path):
                return handler, found.groupdict()
        return None


def dispatch(services: list[Routes], azure: FakeAzure, request: Request) -> Reply | None:
    """The reply of the first service that has a route, or None."""
    for routes in services:
        if found := routes.find(request):
            handler, names = found
            return handler(azure, request, **names)
    return None

"""The time and the tries that a failing judge is given; promptflow has no setting for it.

promptflow-tools waits up to 600 s for each reply of an LLM node and repeats a failing call up to
100 times, as much as a minute apart: more than an hour for one line. The OpenAI client underneath
does retries well (429, 5xx, timeouts; it waits as long as the endpoint asks, up to a minute), so it
is given both limits, and promptflow-tools repeats nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

SECONDS = 120.0  # for one reply
RETRIES = 3  # after the first call


def bound_retries(provider: Any, once: Callable[[Any], Any]) -> None:
    """Give a provider of promptflow-tools these limits; any number of times.

    promptflow makes the client of an LLM node after it has loaded the modules of the nodes before
    it. ``once`` makes of the method ``chat`` a tool that is called once.
    """
    # The functions underneath, so that a second call does not wrap the first one's.
    connect, chat = inspect.unwrap(provider.__init__), inspect.unwrap(provider.chat)

    @functools.wraps(connect)
    def connect_patiently(self: Any, connection: Any) -> None:
        connect(self, connection)
        self._client = self._client.with_options(timeout=SECONDS, max_retries=RETRIES)

    provider.__init__ = connect_patiently
    provider.chat = once(chat)

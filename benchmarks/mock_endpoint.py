"""An endpoint of contract A that answers every question after the same time, however many come.

It notes when it answered each request, so that a client's rate can be told without its start-up,
and digests the bodies, so that a comparison can be refused whose sides did not ask the same.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from dataclasses import dataclass, field

from aiohttp import web

CHECK = b"Say yes."  # asked before row 1, and none of the rows
ANSWER = "The Finch air purifier costs 129 euros, and its filter is changed once a year."


@dataclass
class Mock:
    """``seconds`` are the time of one answer; the rest is what was seen since :meth:`report`."""

    seconds: float
    answered: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def score(self, request: web.Request) -> web.Response:
        """``POST /score``; the body may be anything."""
        body = await request.read()
        if CHECK in body:
            return web.json_response({"output": "Yes."})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self.digests.append(hashlib.sha256(body).hexdigest())
            await asyncio.sleep(self.seconds)
            self.answered.append(time.monotonic())
        finally:
            self.in_flight -= 1
        usage = {"prompt_tokens": 50, "completion_tokens": 20}
        return web.json_response({"output": ANSWER, "usage": usage})

    async def report(self, _: web.Request) -> web.Response:
        """``GET /report``: seconds of every answer, what was asked, and a new start."""
        asked = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        content = {"answered": self.answered, "asked": asked, "in_flight": self.most_in_flight}
        self.answered, self.digests, self.most_in_flight = [], [], self.in_flight
        return web.json_response(content)


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mock_endpoint")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.2)
    given = parser.parse_args()
    mock, app = Mock(given.seconds), web.Application()
    app.add_routes([web.post("/score", mock.score), web.get("/report", mock.report)])
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None)


if __name__ == "__main__":
    main()

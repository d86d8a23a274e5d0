"""Minutes of mixed load on the endpoint, its memory before and after.

Whole answers, streams read slowly, clients that never read or that leave, bodies that are refused,
pipelined requests and idle connections, all at once. Ends with 1 where memory has grown by more
than 5 %, or where anything was answered with a status that nothing here asks for.

Example: python -m tests.setup.serve.soak --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from setup.recipe.load import load_recipe
from setup.weights.fetch import prepare_model
from tests.home import Home, ask, ask_openai

CHAT = "/v1/chat/completions"
EXPECTED = {200, 400, 401, 413, 429}
GROWTH = 1.05
_WARM = 0.15  # of the time: what is loaded and kept once is loaded by then
Statuses = Counter[int]


@asynccontextmanager
async def connection(
    home: Home, limit: int = 65536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the endpoint, closed hard after the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", home.port, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(home: Home, route: str, body: bytes, key: str | None = None) -> bytes:
    """The bytes of a request."""
    head = f"POST {route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {home.key() if key is None else key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, whose body is read too."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length:")[2].split("\r\n")[0].strip()
    if length:
        await reader.readexactly(int(length))
    return int(head.split()[1])


def _body(tokens: int, stream: bool = False) -> bytes:
    said = f"Story {random.randrange(1000)}"  # noqa: S311 - so that not every prompt is kept already
    return json.dumps(ask_openai(said, max_tokens=tokens, stream=stream)).encode()


async def _whole(home: Home, seen: Statuses) -> None:
    async with connection(home) as (reader, writer):
        for body, route in ((json.dumps(ask("Hi", max_new_tokens=4)).encode(), "/score"),) * 3:
            writer.write(request(home, route, body))
            seen[await status_of(reader)] += 1


async def _pipelined(home: Home, seen: Statuses) -> None:
    async with connection(home) as (reader, writer):
        writer.write(request(home, CHAT, _body(2)) * 5)
        for _ in range(5):
            seen[await status_of(reader)] += 1


async def _refused(home: Home, seen: Statuses) -> None:
    for body, key in ((b"{", None), (b" " * 1_100_000, None), (_body(1), "wrong"), (b"[]", None)):
        async with connection(home) as (reader, writer):
            writer.write(request(home, CHAT, body, key))
            seen[await status_of(reader)] += 1


async def _slow_stream(home: Home, seen: Statuses) -> None:
    async with connection(home, 256) as (reader, writer):
        writer.write(request(home, CHAT, _body(32, stream=True)))
        seen[int((await reader.readline()).split()[1])] += 1
        for _ in range(10):
            await reader.read(64)
            await asyncio.sleep(0.2)


async def _never_reads(home: Home, seen: Statuses) -> None:
    async with connection(home, 64) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request(home, CHAT, _body(48, stream=True)) * 2)
        await asyncio.sleep(3)


async def _leaves(home: Home, seen: Statuses) -> None:
    async with connection(home) as (reader, writer):
        writer.write(request(home, CHAT, _body(200, stream=True)))
        await reader.read(16)


async def _idle(home: Home, seen: Statuses) -> None:
    async with connection(home):
        await asyncio.sleep(2)


_KINDS: tuple[tuple[Callable[[Home, Statuses], Awaitable[None]], int], ...] = (
    *((_whole, 4), (_pipelined, 2), (_refused, 2), (_slow_stream, 8)),
    *((_never_reads, 4), (_leaves, 2), (_idle, 10)),
)


async def load(home: Home, seconds: float) -> Statuses:
    """Mixed load for so many seconds; the statuses that came."""
    seen: Statuses = Counter()
    end = time.monotonic() + seconds

    async def repeat(kind: Callable[[Home, Statuses], Awaitable[None]]) -> None:
        while time.monotonic() < end:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await kind(home, seen)

    async with asyncio.TaskGroup() as group:
        for kind, clients in _KINDS:
            for _ in range(clients):
                group.create_task(repeat(kind))
    return seen


def memory(home: Home) -> dict[str, int]:
    """The resident bytes of the endpoint, and of its engines together."""
    pid = json.loads((home.folder / "endpoint.pid").read_text())["pid"]
    process = psutil.Process(pid)
    engines = sum(child.memory_info().rss for child in process.children())
    return {"endpoint": process.memory_info().rss, "engines": engines}


def soak(home: Home, minutes: float) -> tuple[dict[str, float], Statuses]:
    """Load ``home``; the growth of the memory of both kinds of process, and the statuses."""
    seen = asyncio.run(load(home, minutes * 60 * _WARM))
    before = memory(home)
    seen += asyncio.run(load(home, minutes * 60 * (1 - _WARM)))
    after = memory(home)
    for name in before:
        told = f"{name}: {before[name] / 1e6:.1f} MB, then {after[name] / 1e6:.1f} MB"
        print(told, file=sys.stderr)
    return {name: after[name] / before[name] for name in before}, seen


def main() -> None:
    """Deploy an endpoint of its own, load it, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    models = prepare_model(load_recipe("laptop", []).model).parent
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), models, sets=["endpoint.read_timeout=2", "endpoint.slots=4"])
        done = home.setup("deploy")
        if done.returncode:
            raise SystemExit(done.stderr)
        try:
            growth, seen = soak(home, minutes)
        finally:
            home.setup("stop")
    odd = set(seen) - EXPECTED
    print(f"{minutes:g} minutes, statuses {dict(sorted(seen.items()))}")
    print(
        "memory: "
        + ", ".join(f"{name} {100 * (share - 1):+.1f} %" for name, share in growth.items())
    )
    if odd or max(growth.values()) > GROWTH:
        raise SystemExit(
            f"not as it should be: statuses {sorted(odd)}" if odd else "memory has grown"
        )


if __name__ == "__main__":
    main()

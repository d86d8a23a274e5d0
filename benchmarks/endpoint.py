"""The endpoint against llama.cpp's own HTTP server: same binding, same file, same settings.

Generated tokens per second at 1, 4 and 8 concurrent clients, time to the first token, and the
latency that ``/score`` adds to a call of the engine. The two servers take turns, several rounds;
the table holds medians. Both are asked for the work of the same engine process, because two
processes of the same engine differ by up to a tenth in speed for as long as they live.

Example: python -m benchmarks.endpoint --rounds 5
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from setup.common.paths import REPOSITORY
from setup.recipe.load import load_recipe
from setup.serve.access.keys import Keys
from setup.serve.engine import engine_order
from setup.serve.settings import DeploymentSettings, EndpointSettings
from setup.weights.fetch import prepare_model
from tests.home import free_port

_COMPLETIONS = "/v1/chat/completions"
_CONCURRENCY = (1, 4, 8)
_SLOTS = 8


@dataclass(frozen=True)
class Peer:
    """A server under test."""

    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def llama_cpp(deployment: DeploymentSettings) -> Iterator[Peer]:
    """llama.cpp's own HTTP server, in a process of its own."""
    order = engine_order("base", deployment, "benchmark")
    command = [sys.executable, "-m", "setup.serve.engine_process"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        try:
            yield Peer(json.loads(process.stdout.readline())["url"], "benchmark")
        finally:
            process.stdin.close()


@contextmanager
def our_endpoint(deployment: DeploymentSettings, engine: Peer, folder: Path) -> Iterator[Peer]:
    """Our endpoint in front of ``engine``, in a process of its own."""
    port = free_port()
    settings = EndpointSettings(
        name="benchmark",
        host="127.0.0.1",
        port=port,
        deployments={"base": deployment},
        traffic={"base": 100},
    )
    settings.save(folder)
    peer = Peer(f"http://127.0.0.1:{port}", Keys.ensure(folder).scoring)
    command = [sys.executable, "-m", "benchmarks.front", str(folder), engine.url]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write(f"{engine.key}\n")
        process.stdin.flush()
        try:
            asyncio.run(_until_healthy(peer))
            yield peer
        finally:
            process.terminate()


async def _until_healthy(peer: Peer) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"{peer.url}/health") as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise SystemExit("the endpoint did not become healthy")


def _body(number: int, tokens: int, stream: bool) -> dict[str, Any]:
    text = f"Story {number}: tell me about a ship that sailed around the world."
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "seed": number,
        "stream": stream,
    }


async def _generate(peer: Peer, clients: int, tokens: int) -> tuple[float, float]:
    """Tokens per second over all clients, and the median seconds to the first token."""
    firsts: list[float] = []
    counts: list[int] = []

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        started, pieces = time.perf_counter(), 0
        body = _body(number, tokens, stream=True)
        async with session.post(peer.url + _COMPLETIONS, json=body) as reply:
            async for line in reply.content:
                if b'"content":' in line and b'"content":null' not in line:
                    pieces += 1
                    if pieces == 1:
                        firsts.append(time.perf_counter() - started)
        counts.append(pieces)

    async with aiohttp.ClientSession(headers=peer.headers) as session:
        started = time.perf_counter()
        await asyncio.gather(*(one(session, number) for number in range(clients)))
        took = time.perf_counter() - started
    return sum(counts) / took, statistics.median(firsts)


async def _latency(ours: Peer, theirs: Peer, calls: int) -> float:
    """Median milliseconds that ``/score`` adds to the same one-token call of the engine."""
    body = _body(0, 1, stream=False)
    parameters = {"temperature": 0, "max_new_tokens": 1, "seed": 0}
    score = {"input_data": {"input_string": body["messages"], "parameters": parameters}}
    took: dict[str, list[float]] = defaultdict(list)
    async with aiohttp.ClientSession() as session:
        for number in range(calls * 2):
            name, peer, route, sent = (
                ("score", ours, "/score", score),
                ("engine", theirs, _COMPLETIONS, body),
            )[number % 2]
            started = time.perf_counter()
            async with session.post(peer.url + route, json=sent, headers=peer.headers) as reply:
                await reply.read()
            took[name].append((time.perf_counter() - started) * 1000)
    return statistics.median(took["score"]) - statistics.median(took["engine"])


def main() -> None:
    """Measure and print one Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each server")
    parser.add_argument("--tokens", type=int, default=32, help="tokens generated per request")
    parser.add_argument("--calls", type=int, default=200, help="one-token calls for the latency")
    given = parser.parse_args()
    path = prepare_model(load_recipe("laptop", []).model)
    deployment = DeploymentSettings(model_path=str(path), context_window=1024, slots=_SLOTS)
    figures: Figures = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        llama_cpp(deployment) as theirs,
        our_endpoint(deployment, theirs, Path(folder)) as ours,
    ):
        for number in range(given.rounds):
            _take_turns(ours, theirs, number, given.tokens, figures)
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        added = asyncio.run(_latency(ours, theirs, given.calls))
    _report(figures, given.rounds)
    print(f"\n`/score` adds {added:.2f} ms (median of {given.calls} one-token calls)")


Figures = dict[tuple[str, int], list[tuple[float, float]]]


def _take_turns(ours: Peer, theirs: Peer, number: int, tokens: int, figures: Figures) -> None:
    order = [("ours", ours), ("llama.cpp", theirs)]
    for clients in _CONCURRENCY:
        for name, peer in order if number % 2 == 0 else order[::-1]:
            figures[name, clients].append(asyncio.run(_generate(peer, clients, tokens)))


def _report(figures: Figures, rounds: int) -> None:
    print("| clients | ours tok/s | llama.cpp tok/s | ratio | ours first token | llama.cpp |")
    print("| --- | --- | --- | --- | --- | --- |")
    for clients in _CONCURRENCY:
        mine, its = figures["ours", clients], figures["llama.cpp", clients]
        ratio = statistics.median(mine[n][0] / its[n][0] for n in range(rounds))
        rates = [statistics.median(rate for rate, _ in rows) for rows in (mine, its)]
        firsts = [statistics.median(first for _, first in rows) * 1000 for rows in (mine, its)]
        print(
            f"| {clients} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.3f} "
            f"| {firsts[0]:.0f} ms | {firsts[1]:.0f} ms |"
        )


if __name__ == "__main__":
    main()

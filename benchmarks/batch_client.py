"""A bare asyncio client: the bodies that the chat flow sends, and nothing else of a batch run."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from flows.chat.scoring_client import Generation, Settings
from flows.chat.scoring_client.contracts import score_body
from flows.chat.scoring_client.conversation import Window, build_messages


def make_bodies(data: Path, url: str) -> Iterator[bytes]:
    """One a row, byte for byte as flows/chat sends it with its default variant."""
    settings, generation = Settings(url, "", "score"), Generation()
    for line in data.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        window = Window(settings.context_window, generation.max_new_tokens)
        messages = build_messages(row["question"], row["chat_history"], "", window)
        body = score_body(messages, generation, settings)
        yield json.dumps(body, ensure_ascii=False).encode()


async def send_all(url: str, bodies: Iterator[bytes], concurrency: int) -> int:
    """Send them, ``concurrency`` at a time; how many were answered."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> int:
            answered = 0
            for body in bodies:
                async with session.post(url, data=body) as response:
                    answered += "output" in await response.json()
            return answered

        return sum(await asyncio.gather(*(work() for _ in range(concurrency))))


def main() -> None:
    """Send a data file to an endpoint of contract A."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_client")
    parser.add_argument("url")
    parser.add_argument("data", type=Path)
    parser.add_argument("--concurrency", type=int, required=True)
    given = parser.parse_args()
    bodies = iter(list(make_bodies(given.data, given.url)))
    print(asyncio.run(send_all(given.url, bodies, given.concurrency)))


if __name__ == "__main__":
    main()

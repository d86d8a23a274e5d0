"""A chat endpoint that answers by the question, and counts how often it was asked each."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.scripted.server import Handler, Server, running
from tests.scripted.steps import raw, reply

CHECK = "Say yes."  # the question before row 1
Answer = Callable[[str], str]


class ChatServer:
    """Contract A. ``answer`` makes the answer; a question in ``failing`` gets a 424 instead."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.asked: Counter[str] = Counter()
        self.answer: Answer = lambda question: f"An answer to: {question}"
        self.failing: set[str] = set()
        self.seconds = 0.0
        self._lock = threading.Lock()
        server.play(self._step)

    def _step(self, handler: Handler) -> None:
        question = handler.received.body["input_data"]["input_string"][-1]["content"]
        with self._lock:
            self.asked[question] += 1
        time.sleep(self.seconds)
        if question in self.failing:
            reply({"error": {"message": "the model raised"}}, 424)(handler)
        else:
            usage = {"prompt_tokens": 9, "completion_tokens": 3}
            output = "Yes." if question == CHECK else self.answer(question)
            raw(json.dumps({"output": output, "usage": usage}).encode())(handler)

    @property
    def rows_asked(self) -> dict[str, int]:
        """How often each question was asked, without the one before row 1."""
        return {question: count for question, count in self.asked.items() if question != CHECK}


@contextmanager
def chatting() -> Iterator[ChatServer]:
    """One on a free port of loopback while the block runs."""
    with running() as server:
        yield ChatServer(server)


def question_row(number: int, **columns: Any) -> dict[str, Any]:
    """A row with a fact to recall."""
    row: dict[str, Any] = {
        "id": f"row-{number}",
        "question": f"What is number {number}?",
        "ground_truth": f"The number is {number}.",
        "facts": [str(number)],
    }
    return row | columns

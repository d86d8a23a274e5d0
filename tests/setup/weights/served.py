"""What llama.cpp makes of a model file: the probabilities it gives and the tokens it chooses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from tests.home import ROOT

_KEY = "of this test"


@dataclass
class Served:
    """A running llama.cpp; prompts are token ids."""

    url: str

    def next_token(self, prompt: list[int], vocabulary: int, plain: int) -> NDArray[np.float64]:
        """The log-probability of every token of the vocabulary after ``prompt``.

        The server only reports tokens that end a character, hence ``plain``: a token of ASCII
        that is forced on it, which does not change what it reports.
        """
        bias = [[plain, 1000]]
        reply = self._complete(prompt=prompt, n_predict=1, n_probs=vocabulary, logit_bias=bias)
        given = np.full(vocabulary, np.nan)
        for token in reply["completion_probabilities"][0]["top_logprobs"]:
            given[token["id"]] = token["logprob"]
        return given

    def answer(self, prompt: list[int], tokens: int) -> list[int]:
        """The greedy continuation of ``prompt``."""
        reply = self._complete(prompt=prompt, n_predict=tokens, return_tokens=True)
        return [int(token) for token in reply["tokens"]]

    def _complete(self, **body: Any) -> dict[str, Any]:
        response = requests.post(
            f"{self.url}/completion",
            json={"temperature": 0, "cache_prompt": False, **body},
            headers={"Authorization": f"Bearer {_KEY}"},
            timeout=60,
        )
        assert response.status_code == 200, response.text
        return dict(response.json())


@contextmanager
def serve(
    model: Path, lora: Path | None = None, context_window: int = 512, slots: int = 1
) -> Iterator[Served]:
    """Serve ``model`` with our own engine process, with an adapter beside it where one is given."""
    order = {"model_path": str(model), "name": "tuned", "key": _KEY}
    if lora:
        order["lora_path"] = str(lora)
    settings = {"context_window": context_window, "slots": slots, "threads": 1}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "setup.serve.engine_process"]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({**order, **settings}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the engine did not load the model"
        try:
            yield Served(json.loads(line)["url"])
        finally:
            process.stdin.close()
            process.wait(10)

"""The held-out loss of a model file as the engine computes it, activations and all.

Quantised weights alone hardly raise the loss of a small model; what llama.cpp does with them may,
for it rounds the activations to eight bits as well. So the file is asked as it will be served. Its
server tells no probability of a text, only of what it generates: every token of an answer is forced
on it in turn, which leaves the reported probability as it was.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

import requests

from setup.common.console import counting, say
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.finetune.examples import dataset
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.render import Example
from setup.recipe.local import Recipe
from setup.weights.base import folder_tokenizer

if TYPE_CHECKING:
    from setup.local.registry import Version

_MOST_TOKENS = 2000  # of answers: a minute for a small model on two cores
_SLOTS = 4
_SMALLEST_CONTEXT = 256
_FORCED = 1000  # added to the logit of the next token
_TIMEOUT = 600.0  # seconds for one token of a large model on a busy machine


@dataclass(frozen=True)
class Sample:
    """The conversations a loss is measured on; ``plain`` is any token that is a letter."""

    examples: list[Example]
    plain: int
    of: int

    @classmethod
    def of_examples(cls, examples: Sequence[Example], plain: int) -> Sample:
        """The first of ``examples``, as many as make up enough tokens to measure on."""
        sums = accumulate(len(example.labelled) for example in examples)
        enough = next(
            (n for n, total in zip(count(1), sums, strict=False) if total >= _MOST_TOKENS), None
        )
        return cls(list(examples[:enough]), plain, len(examples))

    @property
    def tokens(self) -> int:
        """The tokens of all answers."""
        return sum(len(example.labelled) for example in self.examples)

    def __str__(self) -> str:
        part = f"{len(self.examples)} of {self.of} held-out conversations"
        return f"{self.tokens} answer tokens of {part}"


def sample_of(recipe: Recipe, version: Version, needed: bool) -> Sample | None:
    """The held-out conversations to measure on; None, said in a line, where there are none."""
    try:
        file = prepared_split(data_plan(recipe), "train").file
        split = dataset.read_split(file, recipe.finetune)
    except FixableError as error:
        if needed:
            raise
        say(f"note: the held-out loss is not measured: {error.named(recipe.options)}")
        return None
    tokenizer = folder_tokenizer(str(version.tokenizer))
    folds, longest = recipe.model.system_role == "fold", recipe.finetune.max_tokens
    examples, digest = dataset.read_held_out(split, folds, Renderer(tokenizer), longest)
    if digest != version.held_out_sha256:
        say(f"note: measured on other held-out rows than version {version.number} was")
    return Sample.of_examples(examples, tokenizer("a", add_special_tokens=False)["input_ids"][-1])


def engine_loss(path: Path, sample: Sample, what: str) -> float:
    """Mean negative log-likelihood, in nats, of the answers of ``sample`` by the model at ``path``.

    ``what`` names the file on the progress bar.

    Raises:
        FixableError: The engine does not load the file, or dies.
    """
    longest = max(map(len, sample.examples)) + 2
    slots = min(_SLOTS, len(sample.examples))
    free: SimpleQueue[int] = SimpleQueue()
    for slot in range(slots):
        free.put(slot)
    with (
        counting(f"Measuring {what}", sample.tokens) as tell,
        _engine(path, max(longest, _SMALLEST_CONTEXT), slots) as engine,
        ThreadPoolExecutor(slots) as pool,
    ):
        done = count(1)

        def measure(example: Example) -> float:
            slot = free.get()
            try:
                return sum(
                    engine.surprise(
                        example.ids, place, slot, sample.plain, lambda: tell(next(done))
                    )
                    for place in example.labelled
                )
            finally:
                free.put(slot)

        try:
            total = sum(pool.map(measure, sample.examples))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            engine.end()
            raise
    return total / sample.tokens


class _Engine:
    """A llama.cpp process of ours that serves one file on a loopback port."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, key: str, path: Path) -> None:
        self._process, self._url, self._path = process, url, path
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session = requests.Session()
        self._session.trust_env = False
        self._vocabulary = 0

    def surprise(
        self, ids: list[int], place: int, slot: int, plain: int, tell: Callable[[], None]
    ) -> float:
        """The negative log-likelihood of the token at ``place`` after those before it."""
        token = ids[place]
        body = {"prompt": ids[:place], "id_slot": slot, "cache_prompt": True}
        told = self._next(**body, logit_bias=[[token, _FORCED]], n_probs=1)
        if not told or told[0]["id"] != token:
            # A token that ends within a letter is reported only among others, after a whole one.
            bias = [[plain, _FORCED]]
            told = self._next(**body, logit_bias=bias, n_probs=self.vocabulary)[0]["top_logprobs"]
        tell()
        return -next(float(other["logprob"]) for other in told if other["id"] == token)

    @property
    def vocabulary(self) -> int:
        """The number of tokens that the model knows."""
        if not self._vocabulary:
            reply = self._ask("GET", "/v1/models")
            self._vocabulary = int(reply["data"][0]["meta"]["n_vocab"])
        return self._vocabulary

    def end(self) -> None:
        """End the process: whoever waits for an answer gets an error."""
        self._process.kill()

    def _next(self, **body: Any) -> list[dict[str, Any]]:
        greedy = {"n_predict": 1, "temperature": 0, "samplers": []}
        reply = self._ask("POST", "/completion", {**greedy, **body})
        return list(reply.get("completion_probabilities") or [])

    def _ask(self, method: str, route: str, body: Any = None) -> Any:
        try:
            reply = self._session.request(
                method, f"{self._url}{route}", json=body, headers=self._headers, timeout=_TIMEOUT
            )
            reply.raise_for_status()
            return reply.json()
        except (requests.RequestException, ValueError) as error:
            raise FixableError(
                f"llama.cpp failed while it measured {self._path} ({type(error).__name__})",
                "make memory free and run it again",
            ) from None


@contextmanager
def _engine(path: Path, context_window: int, slots: int) -> Iterator[_Engine]:
    key = secrets.token_urlsafe(24)
    order = {"model_path": str(path), "name": "measured", "key": key, "slots": slots}
    # One core stays free: threads that wait for each other spin.
    order |= {"context_window": context_window, "threads": max(1, (os.cpu_count() or 2) - 1)}
    command = [sys.executable, "-m", "setup.serve.engine_process"]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=log) as process,
    ):
        try:
            yield _Engine(process, _started(process, order, log, path), key, path)
        finally:
            process.kill()


def _started(
    process: subprocess.Popen[bytes], order: dict[str, Any], log: IO[bytes], path: Path
) -> str:
    """The address at which the engine serves, once it has loaded the file."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the engine process has no pipes")
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if line:
        return str(json.loads(line)["url"])
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    reason = lines[-1] if lines else "no reason given"
    raise FixableError(f"llama.cpp does not load {path}: {reason}", "make memory free")

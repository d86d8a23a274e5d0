"""What more data and more epochs buy: loss and fact recall on the test split of the sample.

Every cell is a whole run of the recipe on a part of the train split, its adapter merged, served by
llama.cpp and asked every test row. Written to docs/fine-tuning.md by hand.

Example: python -m benchmarks.scaling --rows 243 486 973 --epochs 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import requests

from flows.evaluate_answers.answer_metrics.words import fact_recall
from setup.common.paths import REPOSITORY, models_folder
from setup.data import PreparedSplit
from setup.finetune.run.run import finetune
from setup.recipe.load import load_recipe
from setup.weights.adapter import WEIGHTS, read_adapter
from setup.weights.base import Base
from setup.weights.fetch import model_sha256, prepare_model
from setup.weights.gguf_write import merge_into_gguf

Row = dict[str, Any]

_SAMPLE = REPOSITORY / "data" / "sample"
_KEY = "scaling"
_SLOTS = 4


def main() -> None:
    """Print a row of the table for every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[243, 486, 973])
    parser.add_argument("--epochs", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    print("| train rows | epochs | tokens | held-out loss | test loss | fact recall |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    models = str(models_folder())
    for rows in given.rows:
        for epochs in given.epochs:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["FINETUNE_PHI_HOME"] = folder
                os.environ["FINETUNE_PHI_MODELS"] = models
                print(measure(Path(folder), rows, epochs, given.threads), flush=True)


def measure(folder: Path, rows: int, epochs: float, threads: int) -> str:
    """One run and what its model knows, as a row of the table."""
    recipe = load_recipe("laptop", [f"finetune.epochs={epochs}", f"finetune.threads={threads}"])
    lines = (_SAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    train = folder / "train.jsonl"
    train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    split = PreparedSplit(train, "sample", {"source": "sample"})
    path = prepare_model(recipe.model)
    done = finetune(recipe, Base(path, model_sha256(path), recipe.finetune.base), split)
    merged = folder / "merged.gguf"
    merge_into_gguf(path, read_adapter(done.folder / "adapter"), merged, lambda _, __: None)
    test = [json.loads(line) for line in (_SAMPLE / "test.jsonl").open(encoding="utf-8")]
    with serving(merged) as url, ThreadPoolExecutor(_SLOTS) as pool:
        answers = pool.map(lambda row: ask(url, row), test)
        found = [
            fact_recall(answer, row["facts"]) for row, answer in zip(test, answers, strict=True)
        ]
    recall = fmean(share for share in found if share is not None)
    figures = done.result
    loss = test_loss(recipe.finetune.max_tokens, done.folder, path)
    return (
        f"| {rows} | {epochs:g} | {figures['tokens']} | {figures['held_out_loss_after']:.3f} "
        f"| {loss:.3f} | {recall:.2f} |"
    )


def test_loss(max_tokens: int, run: Path, base: Path) -> float:
    """Loss of the run's adapter on the answers of the test split, in nats per token."""
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from setup.finetune.compute.lora import attach_lora
    from setup.finetune.compute.loss import mean_loss, use_answer_loss
    from setup.finetune.examples.chat_template import Renderer
    from setup.finetune.examples.dataset import make_examples
    from setup.weights.base import load_base, transformers_copy

    model, tokenizer = load_base(transformers_copy(base, model_sha256(base)), torch.float32)
    adapted = attach_lora(model, load_recipe("laptop", []).finetune)
    use_answer_loss(adapted)
    set_peft_model_state_dict(adapted, load_file(run / "adapter" / WEIGHTS))
    rows = [json.loads(line)["messages"] for line in (_SAMPLE / "test.jsonl").open()]
    return mean_loss(adapted, make_examples(rows, Renderer(tokenizer), max_tokens, "test"))


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The address at which our engine process serves ``model``."""
    order = {"model_path": str(model), "name": "m", "key": _KEY, "context_window": 2048}
    order |= {"slots": _SLOTS, "threads": os.cpu_count() or 1}
    command = [sys.executable, "-m", "setup.serve.engine_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())["url"]
        process.stdin.close()


def ask(url: str, row: Row) -> str:
    """The greedy answer to a test row."""
    messages: list[dict[str, Any]] = row["messages"][:-1]
    body = {"messages": messages, "temperature": 0, "max_tokens": 96}
    headers = {"Authorization": f"Bearer {_KEY}"}
    reply = requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=300)
    return str(reply.json()["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()

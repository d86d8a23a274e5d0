"""Seconds of fine-tuning to a fact recall: ours against trl's SFTTrainer at its best settings.

Both train LoRA of the recipe `laptop` on the same rows of the sample, each run in a process of its
own: first for the recipe's epochs, then, while the recall on the test split is below the goal, in a
run of more. The seconds are those of the first run that reaches it, from before the model is loaded
to the trained adapter; the runs before it are forgiven.

Example: python -m benchmarks.finetune --to-recall 0.9
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setup.common.paths import REPOSITORY
from setup.finetune.compute import processes
from setup.recipe.load import load_recipe
from setup.recipe.local import Recipe

NAMES = {"ours": "ours", "trl": "trl, its best settings"}
TARGET = 3.0
_MORE_EPOCHS = (2.5, 3.5, 5.0)
_SAMPLE = REPOSITORY / "data" / "sample"
_LONGEST = 96  # tokens of an answer; those of the test split have a fifth of it
_AT_ONCE = 48  # prompts


def compare(goal: float, seed: int, precision: str) -> int:
    """Measure both, print a Markdown table; 1 where ours is not ``TARGET`` times faster, else 0."""
    figures = {name: list(_runs(name, goal, seed, precision)) for name in NAMES}
    print(f"\nSeconds to a fact recall of {goal:g}, seed {seed}, precision {precision}:\n")
    print("| contender | epochs | tokens | fact recall | seconds | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, runs in figures.items():
        for run in runs:
            told = f"{NAMES[name]} ({run['precision']})"
            print(
                f"| {told} | {run['epochs']:g} | {run['tokens']:,} | {run['recall']:.3f} "
                f"| {run['seconds']:.0f} | {run['peak_memory'] / 1e6:,.0f} MB |"
            )
    ours, theirs = figures["ours"][-1], figures["trl"][-1]
    if ours["recall"] < goal:
        print(f"missed: ours ends at {ours['recall']:.3f}", file=sys.stderr)
        return 1
    ratio = theirs["seconds"] / ours["seconds"]
    least = "" if theirs["recall"] >= goal else "more than "
    print(f"\nseconds, {NAMES['trl']} / ours: {least}{ratio:.2f}, target {TARGET:g}")
    return int(ratio < TARGET)


def _runs(name: str, goal: float, seed: int, precision: str) -> Iterator[dict[str, Any]]:
    """Runs of ``name``, each longer than the one before, to the first that reaches ``goal``."""
    first = load_recipe("laptop", []).finetune.epochs
    for epochs in (first, *(more for more in _MORE_EPOCHS if more > first)):
        options = {"epochs": epochs, "seed": seed, "precision": precision}
        command = [sys.executable, "-m", "benchmarks.to_recall", name]
        command += [f"--{option}={value}" for option, value in options.items()]
        env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        told = f"recall {run['recall']:.3f} in {run['seconds']:.0f} s"
        print(f"  {NAMES[name]}, {epochs:g} epochs: {told}", file=sys.stderr)
        yield run
        if run["recall"] >= goal:
            return


def train_ours(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The run that `python -m setup finetune` makes, with all its evaluations and checkpoints."""
    from setup.finetune.run.attempt import Session
    from setup.weights.base import Base
    from setup.weights.fetch import model_sha256, prepare_model

    path = prepare_model(recipe.model)
    base = Base(path, model_sha256(path), recipe.finetune.base, recipe.model.source)
    session = Session(recipe, base, _SAMPLE / "train.jsonl", folder, time.monotonic())
    outcome = session.train()
    session.model.save_pretrained(str(folder / "adapter"))
    return {"tokens": outcome["tokens"], "precision": outcome["precision"]}


def train_trl(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """SFTTrainer on the rows that ours trains on: grouped by length, without checkpointing."""
    import datasets
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from benchmarks.finetune_contenders import base_source, lora_config
    from setup.finetune.compute.precision import choose_dtype
    from setup.finetune.examples.dataset import read_split
    from setup.weights.base import load_base

    datasets.disable_progress_bars()
    settings = recipe.finetune
    model, tokenizer = load_base(base_source(recipe), torch.float32)
    bf16 = choose_dtype(settings.precision) == torch.bfloat16
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_rows,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.clip,
        weight_decay=settings.weight_decay,
        train_sampling_strategy="group_by_length",
        gradient_checkpointing=False,
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )
    rows = read_split(_SAMPLE / "train.jsonl", settings).train
    lora: LoraConfig = lora_config(model, settings)
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_list([{"messages": row} for row in rows]),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.train()
    trainer.model.save_pretrained(str(folder / "adapter"))
    lengths = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    precision = "bf16 autocast" if bf16 else "fp32"
    return {"tokens": round(lengths * settings.epochs), "precision": precision}


def recall_of(recipe: Recipe, adapter: Path) -> float:
    """The mean fact recall of the base with ``adapter`` on the test split, by greedy decoding."""
    import torch
    from peft import PeftModel

    from benchmarks.finetune_contenders import base_source
    from flows.evaluate_answers.answer_metrics import score_answer
    from setup.finetune.examples.chat_template import Renderer
    from setup.weights.base import load_base

    base, tokenizer = load_base(base_source(recipe), torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().eval()
    renderer = Renderer(tokenizer)
    lines = (_SAMPLE / "test.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["facts"]]
    prompts = [
        renderer.encode(renderer.text(row["messages"][:-1], prompt=True)).ids for row in rows
    ]
    order = sorted(range(len(rows)), key=lambda row: len(prompts[row]))
    recalls: list[float] = []
    for start in range(0, len(order), _AT_ONCE):
        batch = order[start : start + _AT_ONCE]
        answers = _answers(model, renderer, [prompts[row] for row in batch])
        for row, answer in zip(batch, answers, strict=True):
            score = score_answer(answer, rows[row]["ground_truth"], rows[row]["facts"], None, None)
            recalls.append(float(score["fact_recall"] or 0))
    return sum(recalls) / len(recalls)


def _answers(model: Any, renderer: Any, prompts: list[list[int]]) -> list[str]:
    """The most likely answer to each of ``prompts``, filled up to one length on the left."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    ends = sorted(renderer.special)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=_LONGEST,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
    answers = []
    for tokens in out[:, width:].tolist():
        end = next((n for n, token in enumerate(tokens) if token in renderer.special), len(tokens))
        answers.append(renderer.decode(tokens[:end]))
    return answers


TRAINERS = {"ours": train_ours, "trl": train_trl}


def main() -> None:
    """Run one contender once; prints its figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.to_recall", description=__doc__)
    parser.add_argument("contender", choices=list(TRAINERS))
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--precision", required=True)
    given = parser.parse_args()
    processes.prepare()
    from setup.finetune.compute.precision import peak_memory

    warnings.filterwarnings("ignore")
    values = {"epochs": given.epochs, "seed": given.seed, "precision": given.precision}
    recipe = load_recipe("laptop", [f"finetune.{name}={value}" for name, value in values.items()])
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        figures = TRAINERS[given.contender](recipe, Path(place))
        figures |= {"seconds": time.perf_counter() - started, "peak_memory": peak_memory()}
        figures["recall"] = recall_of(recipe, Path(place) / "adapter")
    print(json.dumps({"epochs": given.epochs, **figures}))


if __name__ == "__main__":
    main()

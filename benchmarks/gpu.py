"""LoRA on a model of Phi-4-mini's shape with random weights, on one GPU: ours against trl.

Nothing is downloaded: weights and tokens are random. The figures are tokens of conversations a
second, the share of the chip's peak that they come to, and the most memory that was held. Every
contender has a process of its own, and two minutes; the whole ends within eight.

Example: python -m benchmarks.gpu            on a GPU
         python -m benchmarks.gpu --tiny     a tiny shape, also on a CPU, in a minute
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.finetune_contenders import WARM_UP, Clock
from setup.finetune.compute import processes
from setup.finetune.compute.lora import attach_lora
from setup.finetune.compute.loss import use_answer_loss
from setup.finetune.compute.precision import peak_memory, product_flop
from setup.finetune.examples.render import Example
from setup.finetune.run.trainer import AnswerTrainer, trainer_arguments
from setup.recipe.load import load_recipe
from setup.recipe.local import Finetune
from setup.weights.base import linear_layers

NAMES = {
    "ours": "ours",
    "trl": "trl, all activations kept",
    "trl-less": "trl, gradient checkpointing",
}
_PATIENCE = 120  # seconds for one contender, so that all of them end within eight minutes
_FLOP = 4  # per weight and token: forward 2, backward 2, for frozen weights have no gradient
_SYSTEM = 0.1  # of a conversation, which all begin with
# TFLOP/s in dense bf16, by NVIDIA's data sheets; the first that the chip's name holds.
_PEAKS = {
    **{"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L40": 181},
    **{"L4": 121, "A10G": 70, "A10": 125, "A40": 150, "RTX 4090": 165, "RTX 3090": 71},
}


@dataclass(frozen=True)
class Size:
    """The conversations of a step, the tokens of each, and the model."""

    rows: int
    tokens: int
    tiny: bool

    @property
    def config(self) -> Any:
        """Phi-4-mini as published, or a tiny model of its family."""
        from transformers import Phi3Config

        shape = {
            "vocab_size": 200_064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
        }
        small = {
            "vocab_size": 2048,
            "hidden_size": 128,
            "intermediate_size": 344,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
        return Phi3Config(
            **(small if self.tiny else shape),
            tie_word_embeddings=True,
            max_position_embeddings=4096,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )

    def conversations(self, count: int) -> list[Example]:
        """Random tokens behind one system message; the second half of each is the answer."""
        chance = random.Random(0)  # noqa: S311
        most = self.config.vocab_size - 1
        start = round(self.tokens * _SYSTEM)
        system = [chance.randint(3, most) for _ in range(start)]
        made = []
        for _ in range(count):
            length = chance.randint(self.tokens // 2, self.tokens)
            ids = system + [chance.randint(3, most) for _ in range(length - start)]
            made.append(Example(ids, list(range(length // 2, length))))
        return made


def _model(size: Size) -> Any:
    import transformers

    on_gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu else "cpu"):
        dtype = torch.bfloat16 if on_gpu else torch.float32
        return transformers.AutoModelForCausalLM.from_config(size.config, dtype=dtype)


def _settings(size: Size) -> Finetune:
    sets = [f"finetune.batch_rows={size.rows}", "finetune.accumulation=1"]
    return load_recipe("phi-gpu", [*sets, "finetune.checkpointing=false"]).finetune


def train_ours(size: Size, steps: int, folder: str) -> Any:
    """The classes of ``python -m setup finetune``."""
    settings = _settings(size)
    examples = size.conversations((WARM_UP + steps) * size.rows)
    model = attach_lora(_model(size).eval(), settings)
    use_answer_loss(model)
    rows = list(range(len(examples)))
    batches = [rows[start : start + size.rows] for start in range(0, len(rows), size.rows)]
    arguments = trainer_arguments(settings, Path(folder), len(batches))
    return AnswerTrainer(model, arguments, examples, batches)


def train_trl(size: Size, steps: int, folder: str, less_memory: bool) -> Any:
    """SFTTrainer on the same tokens and labels, in bf16 on a GPU."""
    import datasets
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    settings, model = _settings(size), _model(size)
    examples = size.conversations((WARM_UP + steps) * size.rows)
    rows = [
        {
            "input_ids": example.ids,
            "completion_mask": [int(place >= example.labelled[0]) for place in range(len(example))],
        }
        for example in examples
    ]
    arguments = SFTConfig(
        output_dir=folder,
        max_steps=WARM_UP + steps,
        per_device_train_batch_size=size.rows,
        max_length=None,
        learning_rate=settings.learning_rate,
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        gradient_checkpointing=less_memory,
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=linear_layers(model),
    )
    return SFTTrainer(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=_tokenizer(),
        peft_config=lora,
    )


def _tokenizer() -> Any:
    """A tokenizer that nothing is cut by, which SFTTrainer asks for."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    words = {name: number for number, name in enumerate(names.values())}
    backend = Tokenizer(models.WordLevel(words, unk_token=names["pad_token"]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def run_contender(name: str, size: Size, steps: int) -> dict[str, Any]:
    """Train, and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "ours":
            trainer = train_ours(size, steps, folder)
        else:
            trainer = train_trl(size, steps, folder, less_memory=name == "trl-less")
        clock = Clock(steps)
        trainer.add_callback(clock)
        trainer.train()
    examples = size.conversations((WARM_UP + steps) * size.rows)[WARM_UP * size.rows :]
    weights = list(trainer.model.parameters())
    return {
        "rate": sum(map(len, examples)) / clock.seconds,
        "weights": sum(weight.numel() for weight in weights if not weight.requires_grad),
        "trained": sum(weight.numel() for weight in weights if weight.requires_grad),
        "peak_memory": peak_memory(),
    }


def chip() -> dict[str, Any]:
    """The chip's name, its measured product, and its data sheet's (0 where it is not known)."""
    on_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    known = (peak for part, peak in _PEAKS.items() if part in name)
    flop = product_flop(torch.bfloat16 if on_gpu else torch.float32)
    return {"name": name, "measured": flop / 1e12, "sheet": float(next(known, 0)) * on_gpu}


def _in_process(contender: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run a contender in a process of its own; why it has no figures, where it has none."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--contender", contender]
    command += [f"--{name}={getattr(given, name)}" for name in ("rows", "tokens", "steps")]
    command += ["--tiny"] if given.tiny else []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {_PATIENCE} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["it ended"])[-1][:100]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(figures: dict[str, dict[str, Any]]) -> None:
    """A Markdown table, and what the chip can do."""
    about = figures.pop("chip")
    if "failed" in about:
        raise SystemExit(f"the chip could not be measured: {about['failed']}")
    sheet = f"{about['sheet']:.0f}" if about["sheet"] else "unknown"
    print(f"{about['name']}: {about['measured']:.3g} TFLOP/s measured, {sheet} by its data sheet\n")
    print("| contender | tok/s | of the measured product | of the data sheet | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, told in NAMES.items():
        turn = figures[name]
        if "failed" in turn:
            print(f"| {told} | {turn['failed']} | | | |")
            continue
        used = turn["rate"] * _FLOP * turn["weights"] / 1e12
        share = f"{used / about['sheet']:.2f}" if about["sheet"] else ""
        memory = turn["peak_memory"] / 1e9
        measured = f"{used / about['measured']:.2f}"
        print(f"| {told} | {turn['rate']:,.0f} | {measured} | {share} | {memory:.1f} GB |")
    peers = [figures[name]["rate"] for name in ("trl", "trl-less") if "rate" in figures[name]]
    if peers and "rate" in figures["ours"]:
        print(f"\nours / trl at its best: {figures['ours']['rate'] / max(peers):.2f}")


def main() -> None:
    """Measure all contenders, or the one that is named."""
    given = _parser().parse_args()
    processes.prepare()
    size = Size(given.rows, given.tokens, given.tiny)
    if not given.tiny and not torch.cuda.is_available():
        raise SystemExit("no GPU is here: add --tiny for a tiny shape on this CPU")
    if given.contender == "chip":
        print(json.dumps(chip()))
    elif given.contender:
        print(json.dumps(run_contender(given.contender, size, given.steps)))
    else:
        began = time.monotonic()
        report({name: _in_process(name, given) for name in ("chip", *NAMES)})
        print(f"\nin {time.monotonic() - began:.0f} seconds", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=int, default=4, help="conversations of a step, default: %(default)s")
    add("--tokens", type=int, default=512, help="of the longest, default: %(default)s")
    add("--steps", type=int, default=10, help="measured steps, default: %(default)s")
    add("--tiny", action="store_true", help="a tiny shape, also on a CPU")
    add("--contender", choices=["chip", *NAMES], default="", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()

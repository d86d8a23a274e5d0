"""Fine-tuning against trl's SFTTrainer, and against what this processor's products allow.

Tokens of conversations, prompts and answers without padding, per second of training: forward,
backward and optimizer, but neither loading nor evaluation. Every figure comes from a process of its
own; the contenders take turns, in another order each round, on the same rows. All train in fp32
but for the rows of precision auto: bf16 where this machine is faster with it. Exits 1 when a target
for LoRA on all layers is missed.

With --to-recall, whole runs instead: seconds to a fact recall on the test split, which takes a
quarter of an hour at least. Exits 1 below three times trl's speed.

Example: python -m benchmarks.finetune --rounds 3 --steps 8
         python -m benchmarks.finetune --to-recall 0.9
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from benchmarks import to_recall
from setup.finetune.compute import processes
from setup.recipe.load import DEFAULT, load_recipe

NAMES = {
    "ours": "ours, fp32",
    "auto": "ours, precision auto",
    "best": "trl, its best settings in fp32",
    "best-auto": "trl, its best settings, precision auto",
    "default": "trl, out of the box",
}
ALL = 0  # layers, as in the recipe
PEERS = {"best": "ours", "default": "ours", "best-auto": "auto"}  # and which of ours meets them
TARGETS = {"best": 1.4, "default": 2.0, "limit": 0.6}  # for LoRA on all layers
_FLOP = 4  # per weight and token: forward 2, backward 2, for frozen weights have no gradient

Figures = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Ratio:
    """What is divided by what, and the quotient of each round."""

    told: str
    rounds: list[float]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds)


def run_contender(name: str, layers: int, number: int, given: argparse.Namespace) -> dict[str, Any]:
    """One turn of one contender; ``number`` of the round picks the rows."""
    options = {"layers": layers, "steps": given.steps, "threads": given.threads, "seed": number}
    command = [sys.executable, "-m", "benchmarks.finetune_contenders", name]
    command += [f"--{option}={value}" for option, value in options.items()]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if name != "limit":
        figures["rate"] = figures["tokens"] / figures["seconds"]
        print(f"  {NAMES[name]}: {figures['rate']:.1f} tok/s", file=sys.stderr)
    return figures


def measure(given: argparse.Namespace) -> dict[int, Figures]:
    """By number of layers, the figures of every contender in the order of the rounds."""
    figures: dict[int, Figures] = {layers: defaultdict(list) for layers in given.layers}
    for number in range(given.rounds):
        for layers in given.layers:
            print(f"round {number + 1} of {given.rounds}, {_told(layers)}", file=sys.stderr)
            names = [*(["limit"] if layers == ALL else []), *NAMES]
            first = number % len(names)
            for name in names[first:] + names[:first]:
                figures[layers][name].append(run_contender(name, layers, number, given))
            _require_same_work([figures[layers][name][-1] for name in NAMES])
    return figures


def _require_same_work(turns: list[dict[str, Any]]) -> None:
    for key in ("tokens", "steps", "threads", "trained"):
        values = {turn[key] for turn in turns}
        if len(values) > 1:
            raise SystemExit(f"the contenders did not do the same work: {key} {sorted(values)}")


def ratios(figures: Figures) -> dict[str, Ratio]:
    """Ours against each peer, and as a share of the limit where that was measured."""
    rates = {name: [turn["rate"] for turn in figures[name]] for name in NAMES}
    found = {
        peer: Ratio(f"{NAMES[mine]} / {NAMES[peer]}", _divide(rates[mine], rates[peer]))
        for peer, mine in PEERS.items()
    }
    if limits := figures.get("limit"):
        allowed = [turn["flops"] / (_FLOP * turn["parameters"]) for turn in limits]
        told = f"{NAMES['ours']} / {_told_limit(limits)}"
        found["limit"] = Ratio(told, _divide(rates["ours"], allowed))
    return found


def _divide(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _told_limit(turns: list[dict[str, Any]]) -> str:
    speed, weights = statistics.median(turn["flops"] for turn in turns), turns[0]["parameters"]
    return (
        f"limit of {speed / (_FLOP * weights):.0f} tok/s "
        f"({speed / 1e9:.0f} GFLOP/s over {_FLOP} * {weights / 1e6:.1f} M)"
    )


def report(layers: int, figures: Figures) -> None:
    """Two Markdown tables."""
    trained = figures["ours"][0]["trained"] / 1e6
    print(f"\nLoRA on {_told(layers)} ({trained:.1f} M trained weights):\n")
    print("| contender | tok/s, median | lowest to highest | peak memory |")
    print("| --- | ---: | ---: | ---: |")
    for name, told in NAMES.items():
        turns = figures[name]
        rates = [turn["rate"] for turn in turns]
        memory = statistics.median(turn["peak_memory"] for turn in turns) / 1e6
        precision = f" ({turns[0]['precision']})" if "auto" in name else ""
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        middle = statistics.median(rates)
        print(f"| {told}{precision} | {middle:.1f} | {spread} | {memory:,.0f} MB |")
    print("\n| ratio | median | by round | target |")
    print("| --- | ---: | ---: | ---: |")
    for name, ratio in ratios(figures).items():
        target = f"{TARGETS[name]:.2f}" if layers == ALL and name in TARGETS else ""
        by_round = ", ".join(f"{value:.2f}" for value in ratio.rounds)
        print(f"| {ratio.told} | {ratio.median:.2f} | {by_round} | {target} |")


def _told(layers: int) -> str:
    return f"the top {layers} layers" if layers else "all layers"


def missed(figures: Figures) -> list[str]:
    """A line for each target that the median does not reach."""
    found = ratios(figures)
    return [
        f"{found[name].told} is {found[name].median:.2f}, the target {target:.2f}"
        for name, target in TARGETS.items()
        if found[name].median < target
    ]


def main() -> None:
    """Measure, print the tables, exit 1 when a target is missed."""
    given = _parser().parse_args()
    if given.to_recall:
        raise SystemExit(to_recall.compare(given.to_recall, given.seed, given.precision))
    processes.prepare()  # the product's own settings of threads, inherited by every contender
    figures = measure(given)
    for layers in given.layers:
        report(layers, figures[layers])
    failures = missed(figures[ALL]) if ALL in figures else []
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    raise SystemExit(1 if failures else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top = load_recipe(DEFAULT, []).finetune.layers
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each contender, default: %(default)s")
    add("--steps", type=int, default=8, help="measured steps of a turn, default: %(default)s")
    add(
        "--layers",
        type=int,
        nargs="+",
        default=[ALL, top],
        help="how many layers from the top get LoRA, 0 for all, default: %(default)s",
    )
    threads = os.cpu_count() or 1
    add("--threads", type=int, default=threads, help="default: all cores, %(default)s here")
    add("--to-recall", type=float, metavar="RECALL", help="a fact recall to reach, such as 0.9")
    add("--seed", type=int, default=0, help="of --to-recall, default: %(default)s")
    choices = ("auto", "fp32", "bf16")
    add("--precision", choices=choices, default="auto", help="of --to-recall, default: auto")
    return parser


if __name__ == "__main__":
    main()

"""Preparation of a data set: `python -m setup data` against the tutorial's row-by-row json.dump.

Every figure comes from a process of its own, which notes its memory, prepares, and reports its
seconds of processor time, on which other programs have little influence (both ways use one core),
and the peak of its private memory (resident minus shared: pages of the memory-mapped dataset belong
to the kernel's cache). The tutorial's way goes from a dataset to one file; ours from Parquet, with
lint, search for duplicates, near-duplicates and personal data, split, flat columns, digests of
source and files, and its own imports.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import psutil

from setup.data import DataPlan, prepare_data

ROOT = Path(__file__).parents[1]
# One row in so many is an earlier one, where there are such: in capitals, or with a changed word.
ALIKE, NEAR = 100, 50


def measure_rows(folder: Path, out: Path) -> int:
    """The tutorial's loop."""
    dataset = datasets.load_from_disk(str(folder / "arrow"))
    with out.open("w") as file:
        for row in dataset:
            json.dump(row, file)
            file.write("\n")
    return len(dataset)


def measure_command(folder: Path, out: Path, name: str = "rows") -> int:
    """The function that `python -m setup data` runs."""
    return prepare_data(DataPlan(source=str(folder / f"{name}.parquet"), out=out)).rows


def measure_alike(folder: Path, out: Path) -> int:
    """Of rows that repeat each other but for case, which takes a second pass."""
    return measure_command(folder, out, "alike")


def measure_near(folder: Path, out: Path) -> int:
    """Of rows that repeat each other but for a word of each question, which takes a second pass."""
    return measure_command(folder, out, "near")


MEASURES: dict[str, Callable[[Path, Path], int]] = {
    "tutorial, row by row": measure_rows,
    "python -m setup data": measure_command,
    "python -m setup data, 1 % repeated but for case": measure_alike,
    "python -m setup data, 2 % near-duplicates": measure_near,
}


def make_dataset(folder: Path, rows: int) -> None:
    """A dataset on disk, and Parquet files, of about 1 100 bytes a row: sentences of the sample."""
    rng = random.Random(rows)  # noqa: S311
    lines = (ROOT / "data" / "sample" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    said = [turn["content"] for line in lines for turn in json.loads(line)["messages"]]
    pool = [" ".join(rng.choices(said, k=5)) for _ in range(2000)]

    def generate(one_in: int = 0, changed: int = 0) -> Iterator[dict[str, Any]]:
        before: list[str] = []
        for number in range(rows):
            texts = [f"{number} {rng.choice(pool)}", *(rng.choice(pool) for _ in range(3))]
            if one_in and number % one_in == 1:
                texts = [text.upper() for text in before]
            if changed and number % changed == 1:
                texts = [before[0].rpartition(" ")[0] + " whatever", *before[1:]]
            before = texts
            roles = ["user", "assistant"] * 2
            turns = [{"content": t, "role": r} for t, r in zip(texts, roles, strict=True)]
            yield {"prompt": texts[0], "prompt_id": f"{number:064x}", "messages": turns}

    def make(**options: int) -> Any:
        cache = str(folder / "cache")
        return datasets.Dataset.from_generator(generate, cache_dir=cache, gen_kwargs=options)

    made = make()
    made.save_to_disk(str(folder / "arrow"))
    made.to_parquet(str(folder / "rows.parquet"))
    make(one_in=ALIKE).to_parquet(str(folder / "alike.parquet"))
    make(changed=NEAR).to_parquet(str(folder / "near.parquet"))


def run_child(name: str, folder: Path) -> None:
    """Measures one run and prints it as JSON."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        before = _private_bytes()
        with _peak_memory() as peak:
            started = time.process_time()
            rows = MEASURES[name](folder, Path(out) / "made")
            seconds = time.process_time() - started
    peak_mb = (peak[0] - before) / 1e6
    print(json.dumps({"rate": rows / seconds, "seconds": seconds, "peak_mb": peak_mb}))


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    peak, done = [_private_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _private_bytes() -> int:
    memory = psutil.Process().memory_info()
    private: int = memory.rss - getattr(memory, "shared", 0)
    return private


def measure(name: str, folder: Path) -> dict[str, float]:
    """One run in its own process."""
    command = [sys.executable, "-m", "benchmarks.data", "--child", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def print_speed(folder: Path, rounds: int) -> None:
    """Rates of every measure, alternated, and the median of each round's ratio to the first."""
    results = [{name: measure(name, folder)["rate"] for name in MEASURES} for _ in range(rounds)]
    first = next(iter(MEASURES))
    print("| way | rows/s, median | ratio, median | ratio, lowest to highest |")
    print("| --- | ---: | ---: | ---: |")
    for name in MEASURES:
        rate = statistics.median(round_[name] for round_ in results)
        ratios = sorted(round_[name] / round_[first] for round_ in results)
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        print(f"| {name} | {rate:,.0f} | {statistics.median(ratios):.1f} | {spread} |")


def print_memory(root: Path, sizes: list[int]) -> None:
    """Peak memory over that of the start, and seconds, by number of rows."""
    print("| way | " + " | ".join(f"{size:,} rows" for size in sizes) + " |")
    print("| --- |" + " ---: |" * len(sizes))
    for name in MEASURES:
        runs = [measure(name, root / str(size)) for size in sizes]
        cells = [f"{run['peak_mb']:.0f} MB, {run['seconds']:.0f} s" for run in runs]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    """The command."""
    options = _parser().parse_args()
    datasets.disable_progress_bars()
    if options.child:
        run_child(options.child, options.folder)
        return
    sizes = [options.rows // 4, options.rows, options.rows * 2]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        for size in sizes:
            make_dataset(root / str(size), size)
        print_speed(root / str(options.rows), options.rounds)
        print()
        print_memory(root, sizes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description="Rows a second and peak memory of the preparation of a data set.",
        epilog="Example: python -m benchmarks.data --rows 20000 --rounds 3",
    )
    parser.add_argument("--rows", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--child", choices=list(MEASURES), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()

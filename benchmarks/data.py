"""Conversion of a dataset to JSONL: setup.data against the row-by-row json.dump of the tutorial.

Every figure comes from a process of its own, which loads the same dataset from disk, notes its
memory, converts, and reports the seconds and the peak of its private memory (resident minus shared:
pages of the memory-mapped dataset belong to the kernel's cache and are not counted).
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
from setup.data.convert import convert_dataset

WORDS = (
    "a about and answer ask because before but day each find first for from give good has have "
    "how idea in into is it keep line long make many more most new not of on one or other over "
    "part people place question read same see small some step such take that the then there time "
    "to two under use very water way well what when which with word work write year you"
)


def measure_rows(dataset: Any, path: Path) -> int:
    """The tutorial's loop."""
    with path.open("w") as file:
        for row in dataset:
            json.dump(row, file)
            file.write("\n")
    return len(dataset)


def measure_batches(dataset: Any, path: Path) -> int:
    """Ours."""
    return convert_dataset(dataset, path)


def measure_prepare(dataset: Any, path: Path) -> int:
    """Ours, the whole way: lint, search for duplicates, split, flat columns, manifest."""
    root = Path(dataset.cache_files[0]["filename"]).parents[1]
    source = str(root / "parquet" / "rows.parquet")
    return prepare_data(DataPlan(source=source, out=path.parent / "prepared")).rows


MEASURES: dict[str, Callable[[Any, Path], int]] = {
    "tutorial, row by row": measure_rows,
    "setup.data, conversion": measure_batches,
    "setup.data, whole preparation": measure_prepare,
}


def make_dataset(folder: Path, rows: int) -> None:
    """A dataset on disk, and the same rows as a Parquet file, of about 1 100 bytes a row."""
    rng = random.Random(rows)  # noqa: S311
    words = WORDS.split()
    pool = [" ".join(rng.choices(words, k=50)) for _ in range(2000)]

    def generate() -> Iterator[dict[str, Any]]:
        for number in range(rows):
            texts = [f"{number} {rng.choice(pool)}", *(rng.choice(pool) for _ in range(3))]
            roles = ["user", "assistant"] * 2
            turns = [{"content": t, "role": r} for t, r in zip(texts, roles, strict=True)]
            yield {"prompt": texts[0], "prompt_id": f"{number:064x}", "messages": turns}

    dataset = datasets.Dataset.from_generator(generate, cache_dir=str(folder / "cache"))
    dataset.save_to_disk(str(folder / "arrow"))
    (folder / "parquet").mkdir()
    dataset.to_parquet(str(folder / "parquet" / "rows.parquet"))


def run_child(name: str, folder: Path) -> None:
    """Measures one run and prints it as JSON."""
    dataset = datasets.load_from_disk(str(folder / "arrow"))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        before = _private_bytes()
        with _peak_memory() as peak:
            started = time.perf_counter()
            rows = MEASURES[name](dataset, Path(out) / "rows.jsonl")
            seconds = time.perf_counter() - started
    print(json.dumps({"rate": rows / seconds, "peak_mb": (peak[0] - before) / 1e6}))


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
    """Peak memory over the loaded dataset, by number of rows."""
    print("| way | " + " | ".join(f"{size:,} rows" for size in sizes) + " |")
    print("| --- |" + " ---: |" * len(sizes))
    for name in MEASURES:
        peaks = [measure(name, root / str(size))["peak_mb"] for size in sizes]
        print(f"| {name} | " + " | ".join(f"{peak:.0f} MB" for peak in peaks) + " |")


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
        description="Rows a second and peak memory of the conversion to JSONL.",
        epilog="Example: python -m benchmarks.data --rows 20000 --rounds 3",
    )
    parser.add_argument("--rows", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--child", choices=list(MEASURES), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()

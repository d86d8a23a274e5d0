"""What is to be prepared, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from setup.errors import FixableError

ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
SAMPLE = "sample"
SAMPLE_DIR = Path(__file__).parents[2] / "data" / "sample"
FILE_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class DataPlan:
    """What to prepare: the `data` part of a recipe.

    Attributes:
        source: `sample`, a Hugging Face dataset id or folder, or the path of a .jsonl, .json or
            .parquet file with a `messages` column.
        config: The configuration of a Hugging Face dataset.
        split: The slice of a Hugging Face dataset, such as `train_sft[:1%]`.
        test_ratio: The share of prompts that go to the test file, between 0 and 1.
        seed: Which prompts those are.
        out: The folder of train_data.jsonl and test_data.jsonl; not written for the sample.
        limit: Read at most so many rows.

    Raises:
        FixableError: the ratio is not between 0 and 1, or the limit not positive.
    """

    source: str = SAMPLE
    config: str | None = "default"
    split: str = "train_sft[:1%]"
    test_ratio: float = 0.2
    seed: int = 0
    out: Path = Path("data/prepared")
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.test_ratio < 1:
            raise FixableError(
                f"data.test_ratio is {self.test_ratio}, but both files need rows",
                fix="give a ratio between 0 and 1, such as 0.2",
            )
        if self.limit is not None and self.limit < 1:
            raise FixableError(f"the limit is {self.limit} rows", fix="give a limit of 1 or more")

    @property
    def kind(self) -> Literal["sample", "file", "hub"]:
        """Where the rows come from."""
        if self.source == SAMPLE:
            return "sample"
        is_file = self.source.lower().endswith(FILE_SUFFIXES) or Path(self.source).is_file()
        return "file" if is_file else "hub"

    @property
    def paths(self) -> OutPaths:
        """The files the plan leaves."""
        if self.kind == "sample":
            return OutPaths(SAMPLE_DIR / "train.jsonl", SAMPLE_DIR / "test.jsonl")
        return OutPaths(self.out / "train_data.jsonl", self.out / "test_data.jsonl")


@dataclass(frozen=True)
class OutPaths:
    """The two files of a split."""

    train: Path
    test: Path

    @property
    def rejects(self) -> Path:
        """Where rows that failed the linter go, each with its reason."""
        return self.train.with_name("data.rejects.jsonl")

    @property
    def manifest(self) -> Path:
        """What the files were made from."""
        return self.train.with_name("data.manifest.json")


@dataclass(frozen=True)
class Prepared:
    """What a preparation left.

    Attributes:
        train: JSONL, one conversation a line: prompt, prompt_id, messages.
        test: The same with question, chat_history, ground_truth and facts.
        rejects: The rejected rows with their reasons, or None where there are none.
        rows: Rows read; `kept` + `rejected`.
        already_there: Whether an earlier run had done the work.
    """

    train: Path
    test: Path
    rejects: Path | None
    rows: int
    kept: int
    rejected: int
    train_rows: int
    test_rows: int
    already_there: bool = False

    @property
    def counts(self) -> str:
        """Every row read is in it once as kept or rejected, every kept one as train or test."""
        return (
            f"rows={self.rows} kept={self.kept} rejected={self.rejected} "
            f"train={self.train_rows} test={self.test_rows}"
        )


def describe_data(plan: DataPlan) -> list[str]:
    """The plan as lines of text; reads and writes nothing."""
    return list(_steps(plan))


def _steps(plan: DataPlan) -> Iterator[str]:
    paths = plan.paths
    if plan.kind == "sample":
        yield f"lint the committed sample: {paths.train}, {paths.test}"
        return
    if plan.kind == "hub":
        yield f"download {plan.source}, config {plan.config}, slice {plan.split}"
    else:
        yield f"read {plan.source}"
    if plan.limit:
        yield f"stop after {plan.limit} rows"
    yield f"lint every row; rejected rows go to {paths.rejects}"
    yield f"split by prompt, seed {plan.seed}, about {plan.test_ratio:.0%} to the test file"
    yield f"write {paths.train} and {paths.test}"

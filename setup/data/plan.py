"""The plan of a preparation of data, the files it leaves, and its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.local import Training

ULTRACHAT_SPLIT = "train_sft[:1%]"  # of recipes that name no other; few data sets have it
DEFAULT_CONFIG = "default"
SAMPLE = "sample"
SAMPLE_DIR = Path(__file__).parents[2] / "data" / "sample"
FILE_SUFFIXES = (".jsonl", ".json", ".parquet")
LARGEST_SEED = 2**63


@dataclass(frozen=True)
class DataPlan:
    """The plan of a preparation: the `data` part of a recipe.

    Attributes:
        source: `sample`, a Hugging Face dataset id or folder, or the path of a .jsonl, .json or
            .parquet file with a `messages` column; `~` is the home folder.
        config: The configuration of a Hugging Face dataset.
        split: The slice of a Hugging Face dataset, such as `train_sft[:1%]`; that one, which is
            ultrachat's, stands for all of `train` where a data set does not have it.
        test_ratio: The share of prompts that go to the test file, between 0 and 1.
        seed: Which prompts those are.
        out: The folder of train_data.jsonl and test_data.jsonl; not written for the sample.
        limit: Read at most so many rows.
        near_duplicates: `keep` both on one side, `drop` the later one, or end with an `error`.
        personal: `keep` what looks like personal data and secrets, `mask` it, or `reject` the row.

    Raises:
        FixableError: no source, the ratio is not between 0 and 1, the limit not positive, the seed
            longer than 63 bits, or `~NAME` of nobody.
    """

    source: str = SAMPLE
    config: str | None = DEFAULT_CONFIG
    split: str = ULTRACHAT_SPLIT
    test_ratio: float = 0.2
    seed: int = 0
    out: Path = Path("data/prepared")
    limit: int | None = None
    near_duplicates: Literal["keep", "drop", "error"] = "keep"
    personal: Literal["keep", "mask", "reject"] = "keep"

    def __post_init__(self) -> None:
        if not 0 < self.test_ratio < 1:
            raise FixableError(
                f"data.test_ratio is {self.test_ratio}, but both files need rows",
                fix="give a ratio between 0 and 1, such as 0.2",
            )
        if self.limit is not None and self.limit < 1:
            raise FixableError(f"the limit is {self.limit} rows", fix="give a limit of 1 or more")
        if not -LARGEST_SEED <= self.seed < LARGEST_SEED:
            raise FixableError(f"data.seed is {self.seed}", fix="give a smaller number, such as 1")
        if not self.source.strip():
            raise FixableError("data.source is empty", fix="--set data.source=mine.jsonl")
        object.__setattr__(self, "source", _at_home("data.source", self.source))
        object.__setattr__(self, "out", Path(_at_home("data.out", str(self.out))))

    @property
    def kind(self) -> Literal["sample", "file", "folder", "hub"]:
        """The kind of place that the rows come from."""
        if self.source == SAMPLE:
            return "sample"
        if os.path.isdir(self.source):  # noqa: PTH112 - no exception where it may not be asked
            return "folder"
        exists = os.path.exists(self.source)  # noqa: PTH110
        return "file" if exists or self.source.lower().endswith(FILE_SUFFIXES) else "hub"

    @property
    def paths(self) -> OutPaths:
        """The files the plan leaves."""
        if self.kind == "sample":
            return OutPaths(SAMPLE_DIR / "train.jsonl", SAMPLE_DIR / "test.jsonl")
        return OutPaths(self.out / "train_data.jsonl", self.out / "test_data.jsonl")


def _at_home(field: str, path: str) -> str:
    """``path`` with a leading ``~`` as the home folder, as the shell has it outside of `--set`."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path's own raises RuntimeError
    if expanded.startswith("~") and not os.path.lexists(expanded):
        name = Path(expanded).parts[0]
        raise FixableError(f"{field} is {path}, and {name} is nobody's home folder", "write it out")
    return expanded


@dataclass(frozen=True)
class OutPaths:
    """The two files of a split."""

    train: Path
    test: Path

    @property
    def rejects(self) -> Path:
        """The file of the rows that failed the linter, each with its reason."""
        return self.train.with_name("data.rejects.jsonl")

    @property
    def manifest(self) -> Path:
        """The note of the source and the options that the files were made from."""
        return self.train.with_name("data.manifest.json")

    @property
    def outputs(self) -> tuple[Path, Path, Path]:
        """Every file with rows."""
        return self.train, self.test, self.rejects


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation.

    Attributes:
        train: JSONL, one conversation a line: prompt, prompt_id, messages.
        test: JSONL as `train`, with question, chat_history, ground_truth and facts as well.
        rejects: The rejected rows with their reasons, or None where there are none.
        rows: Rows read; `kept` + `rejected`.
        already_there: Whether an earlier run had done the work.
        notes: What was chosen, changed or left out on the way, a line each.
        summary: Figures of the rows that were kept, as the manifest keeps them; may be empty.
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
    notes: tuple[str, ...] = ()
    summary: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> str:
        """Every row read is in it once as kept or rejected, every kept one as train or test."""
        return (
            f"rows={self.rows} kept={self.kept} rejected={self.rejected} "
            f"train={self.train_rows} test={self.test_rows}"
        )


def describe_data(plan: DataPlan) -> list[str]:
    """The plan as lines of text; reads and writes nothing."""
    paths = plan.paths
    if plan.kind == "sample":
        return [f"lint the committed sample: {paths.train}, {paths.test}"]
    verb = "download" if plan.kind == "hub" else "read"
    part = "" if plan.kind == "file" else f", config {plan.config}, slice {plan.split}"
    return [
        f"{verb} {plan.source}{part}",
        *([f"stop after {plan.limit} rows"] if plan.limit else []),
        f"lint every row; rejected rows go to {paths.rejects}",
        *_describe_screen(plan),
        f"split by how they open, seed {plan.seed}, about {plan.test_ratio:.0%} to the test file",
        f"write {paths.train} and {paths.test}",
    ]


def _describe_screen(plan: DataPlan) -> list[str]:
    near = {
        "keep": "keep near-duplicates on one side",
        "drop": "drop the later of two near-duplicates",
        "error": "end with an error where there are near-duplicates",
    }
    personal = {
        "keep": "count what looks like personal data",
        "mask": "mask what looks like personal data",
        "reject": "reject rows with what looks like personal data",
    }
    return [personal[plan.personal], near[plan.near_duplicates]]


def data_plan(recipe: Training | AzureRecipe) -> DataPlan:
    """The data part of ``recipe``, of either target, as the plan that carries it out."""
    return DataPlan(**recipe.data.model_dump())

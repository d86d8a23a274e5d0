"""The plan of a preparation of data, the files it leaves, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.local import Training

from .formats.origin import (
    AUTO,
    DEFAULT_CONFIG,
    SAMPLE,
    TEST_SPLIT,
    ULTRACHAT_SPLIT,
    Given,
    Origin,
    as_text,
    at_home,
    origins_of,
)

SAMPLE_DIR = Path(__file__).parents[2] / "data" / "sample"
LARGEST_SEED = 2**63
_USUAL: tuple[object, ...] = ("", AUTO, {}, [])


@dataclass(frozen=True)
class DataPlan:
    """The plan of a preparation: the `data` part of a recipe.

    Attributes:
        source: `sample`; `feedback`, what endpoints have kept; a Hugging Face dataset id; the path
            of a folder or a file, or a pattern of several; or a list of these, each with a weight
            (setup/data/formats/origin.py); `~` is the home folder.
        test: The rows of the test file, as `source`; empty to split them off.
        format: The format of the rows; `auto` sees by the rows.
        columns: The columns by what they hold.
        config: The configuration of a Hugging Face dataset.
        split: The slice of a Hugging Face dataset, such as `train_sft[:1%]`; that one, which is
            ultrachat's, stands for all of `train` where a data set does not have it.
        test_ratio: The share of prompts that go to the test file, between 0 and 1.
        seed: Which prompts those are.
        out: The folder of train_data.jsonl and test_data.jsonl; not written for the sample.
        limit: Read at most so many rows of each source.
        near_duplicates: `keep` both on one side, `drop` the later one, or end with an `error`.
        personal: `keep` what looks like personal data and secrets, `mask` it, or `reject` the row.
        chosen: Whether the source was said for this command, and is not what a recipe has.

    Raises:
        FixableError: no source, the ratio is not between 0 and 1, the limit not positive, the seed
            longer than 63 bits, `~NAME` of nobody, or the sample with what goes with other data.
    """

    source: Given = SAMPLE
    test: Given = ""
    format: str = AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    config: str | None = DEFAULT_CONFIG
    split: str = ULTRACHAT_SPLIT
    test_ratio: float = 0.2
    seed: int = 0
    out: Path = Path("data/prepared")
    limit: int | None = None
    near_duplicates: Literal["keep", "drop", "error"] = "keep"
    personal: Literal["keep", "mask", "reject"] = "keep"
    chosen: bool = field(default=True, compare=False)

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
        if not self.source or (isinstance(self.source, str) and not self.source.strip()):
            raise FixableError("data.source is empty", fix="--set data.source=mine.jsonl")
        for name in ("source", "test"):
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, at_home(f"data.{name}", path))
        object.__setattr__(self, "out", Path(at_home("data.out", str(self.out))))
        own = [name for name in ("test", "format", "columns") if getattr(self, name) not in _USUAL]
        if self.is_sample and own:
            raise FixableError(
                f"data.{own[0]} goes with a source of your own, and data.source is {SAMPLE}",
                "--set data.source=mine.jsonl",
            )
        _ = self.origins  # refuses what has no form
        if any(origin.kind == "feedback" for origin in self.test_origins):
            raise FixableError("data.test is feedback, which is to train on", "name a file")
        if any(origin.weight != 1 for origin in self.test_origins):
            raise FixableError("data.test has a weight, but is asked once", "take the weight away")

    @property
    def is_sample(self) -> bool:
        """True where the data are the committed sample, which is prepared already."""
        return self.source == SAMPLE

    @property
    def origins(self) -> list[Origin]:
        """The places of the rows to train on, and of those to test where ``test`` names none."""
        return [] if self.is_sample else origins_of(self.source, self._usual(self.split))

    @property
    def test_origins(self) -> list[Origin]:
        """The places of the rows to test."""
        split = TEST_SPLIT if self.split == ULTRACHAT_SPLIT else self.split
        return origins_of(self.test, self._usual(split)) if self.test else []

    @property
    def has_feedback(self) -> bool:
        """Tell whether conversations that endpoints have kept are among the rows to train on."""
        return any(origin.kind == "feedback" for origin in self.origins)

    @property
    def name(self) -> str:
        """The source as `--set data.source=` takes it."""
        return as_text(self.source)

    def _usual(self, split: str) -> Origin:
        usual = Origin("", format=self.format, columns=self.columns)
        return replace(usual, config=self.config, split=split)

    @property
    def paths(self) -> OutPaths:
        """The files the plan leaves."""
        if self.is_sample:
            return OutPaths(SAMPLE_DIR / "train.jsonl", SAMPLE_DIR / "test.jsonl")
        return OutPaths(self.out / "train_data.jsonl", self.out / "test_data.jsonl")


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
    if plan.is_sample:
        return [f"lint the committed sample: {paths.train}, {paths.test}"]
    ratio = f"about {plan.test_ratio:.0%} to the test file"
    split = f"split by how they open, seed {plan.seed}, {ratio}"
    return [
        *(_reading(origin, "") for origin in plan.origins),
        *(_reading(origin, " to test") for origin in plan.test_origins),
        *([f"stop after {plan.limit} rows of each"] if plan.limit else []),
        f"lint every row; rejected rows go to {paths.rejects}",
        *_describe_screen(plan),
        "drop rows to train on that are to test" if plan.test else split,
        f"write {paths.train} and {paths.test}",
    ]


def _reading(origin: Origin, purpose: str) -> str:
    verb = "download" if origin.kind == "hub" else "read"
    is_laid_out = origin.kind in ("folder", "hub")
    part = "" if not is_laid_out else f", config {origin.config}, slice {origin.split}"
    form = "" if origin.format == AUTO else f", format {origin.format}"
    weight = "" if origin.weight == 1 else f", weight {origin.weight:g}"
    return f"{verb} {origin.source}{part}{form}{weight}{purpose}"


def _describe_screen(plan: DataPlan) -> list[str]:
    near = {
        "keep": "keep near-duplicates" if plan.test else "keep near-duplicates on one side",
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
    return DataPlan(**recipe.data.model_dump(), chosen=recipe.overrides("data.source"))

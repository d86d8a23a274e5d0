"""Data sets of the Hugging Face hub, and which slice of a data set is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.data.formats.origin import DEFAULT_CONFIG, TEST_SPLIT, ULTRACHAT_SPLIT
from setup.data.formats.source import Source

from .file import numbered
from .tables import iterate_dataset

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_REVISION = re.compile(r"@([0-9a-f]{40})")
SPLIT_NAME = re.compile(r"(?:^|\+)\s*(\w+(?:[.-]\w+)*)")


def open_hub(name: str, config: str | None, split: str) -> Source:
    """A dataset of the hub; downloads what is not cached.

    Raises:
        FixableError: no network, or no such dataset, configuration or slice.
    """
    # Asked here first: the name of a private file is nobody else's business.
    if not _HUB_ID.fullmatch(name):
        raise _no_dataset(name, "no such file or folder, and no OWNER/NAME")
    notes: Counter[str] = Counter()
    dataset = _load(name, config, split, notes)
    revision = _REVISION.search(" ".join(dataset.info.download_checksums or {}))
    commit = revision.group(1) if revision else ""
    return records_of(name, dataset, notes, commit)


def records_of(name: str, dataset: Dataset, notes: Counter[str], commit: str = "") -> Source:
    """The rows of a dataset as records of ``name``."""
    return Source(numbered(name, iterate_dataset(dataset)), len(dataset), commit, notes)


def choose_split(name: str, splits: Sequence[str], split: str, config: str | None) -> str:
    """The slice to read: ``split``; all of `train` for the recipes' default where that is not, and
    the only split there is for a default.

    Raises:
        FixableError: the data set does not have it.
    """
    parts_of(name, splits, split, config)
    if {*splits, "all"}.issuperset(SPLIT_NAME.findall(split)):
        return split
    if split in (ULTRACHAT_SPLIT, TEST_SPLIT) and len(splits) == 1:
        return splits[0]
    if split == ULTRACHAT_SPLIT and "train" in splits:
        return "train"
    raise _no_slice(name, splits, split, config)


def parts_of(
    name: str,
    splits: Iterable[str],
    split: str,
    config: str | None = None,
    lengths: Callable[[str], int] | None = None,
) -> list[tuple[str, int, int | None]]:
    """The splits that a slice names, each from which row to before which, with ``lengths`` told.

    Raises:
        FixableError: the slice cannot be understood.
    """
    import datasets

    if split.strip() == "all":
        return [(part, 0, None) for part in splits]
    named = SPLIT_NAME.findall(split)
    try:
        instruction = datasets.ReadInstruction.from_spec(split)
        if not lengths:
            return [(part, 0, None) for part in named]
        absolute = instruction.to_absolute({part: lengths(part) for part in named})
    except (ValueError, AssertionError) as error:
        raise _no_slice(name, list(splits), split, config, f"; {error}") from None
    return [(part.splitname, part.from_, part.to) for part in absolute]


def _no_slice(
    name: str, splits: Sequence[str], split: str, config: str | None, why: str = ""
) -> FixableError:
    return FixableError(
        f"dataset {name} has no slice {split} in config {config}, only: {', '.join(splits)}{why}",
        fix=f"--set data.split={next(iter(splits), 'train')}",
    )


def take(splits: dict[str, Dataset], split: str) -> Dataset:
    """A slice of data sets that are there already."""
    import datasets

    parts = parts_of("", splits, split, lengths=lambda name: len(splits[name]))
    return datasets.concatenate_datasets(
        [
            splits[name] if end is None else splits[name].select(range(begin, end))
            for name, begin, end in parts
        ]
    )


def load_splits(name: str, config: str | None) -> dict[str, Dataset]:
    """All splits as `datasets` reads them."""
    loaded = _loaded(name, config)
    return {str(split): loaded[split] for split in loaded}


def _load(name: str, config: str | None, split: str, notes: Counter[str]) -> Dataset:
    try:
        return _loaded(name, config, split=split)
    except ValueError as error:
        reason = str(error)
    if "BuilderConfig" in reason and config == DEFAULT_CONFIG:
        config = None  # the data set's own default, or the only one it has
    try:
        splits = load_splits(name, config)
    except ValueError as error:
        raise FixableError(
            f"dataset {name} has no slice {split} in config {config} ({error})",
            fix="correct data.config, or data.split",
        ) from None
    chosen = choose_split(name, list(splits), split, config)
    notes[f"read from {name}: {chosen}"] = 0
    return take(splits, chosen)


def _loaded(name: str, config: str | None, **options: Any) -> Any:
    """Load by `datasets`; its ValueError passes, any other failure becomes one line."""
    import datasets

    from setup.common.console import err

    if not err.is_terminal:
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, **options)
    except FileNotFoundError as error:
        raise _no_dataset(name, str(error)) from error
    except datasets.exceptions.DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise FixableError(
            f"a file of dataset {name} cannot be read ({cause})",
            fix="correct it, or choose another data.split",
        ) from error
    except OSError as error:
        if error.filename and Path(error.filename).is_absolute():
            raise FixableError(
                f"cannot write to {error.filename}: {error.strerror}",
                fix="set HF_HOME to a folder of your own",
            ) from error
        raise FixableError(
            f"cannot download {name} ({error})",
            fix="check the network and run again, or use data.source=sample",
        ) from error


def _no_dataset(name: str, reason: str) -> FixableError:
    return FixableError(
        f"there is no dataset {name} ({reason})",
        fix="check data.source: a dataset id OWNER/NAME, a file, or sample",
    )

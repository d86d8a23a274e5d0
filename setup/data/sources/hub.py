"""Data sets of the Hugging Face hub, and which slice of a data set is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.data.convert import iterate_dataset
from setup.data.plan import DEFAULT_CONFIG, ULTRACHAT_SPLIT

from .records import Source, numbered, readable

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
    urls = " ".join(dataset.info.download_checksums or {})
    revision = _REVISION.search(urls)
    return Source(
        readable(name, numbered(name, iterate_dataset(dataset))),
        len(dataset),
        revision.group(1) if revision else "",
        notes,
    )


def choose_split(name: str, splits: Sequence[str], split: str, config: str | None) -> str:
    """The slice to read: ``split``; all of `train` for the recipes' default where that is not.

    Raises:
        FixableError: the data set does not have it.
    """
    import datasets  # noqa: PLC0415 - two seconds that only a data set should cost

    try:
        datasets.ReadInstruction.from_spec(split)
    except (ValueError, AssertionError) as error:
        raise no_slice(name, splits, split, config, f"; {error}") from None
    if {*splits, "all"}.issuperset(SPLIT_NAME.findall(split)):
        return split
    if split == ULTRACHAT_SPLIT and (len(splits) == 1 or "train" in splits):
        return splits[0] if len(splits) == 1 else "train"
    raise no_slice(name, splits, split, config)


def no_slice(
    name: str, splits: Sequence[str], split: str, config: str | None, why: str = ""
) -> FixableError:
    """The error of a data set that does not have the slice ``split``, and names those it has."""
    return FixableError(
        f"dataset {name} has no slice {split} in config {config}, only: {', '.join(splits)}{why}",
        fix=f"--set data.split={next(iter(splits), 'train')}",
    )


def take(splits: dict[str, Dataset], split: str) -> Dataset:
    """A slice of data sets that are there already."""
    import datasets  # noqa: PLC0415

    if split.strip() == "all":
        return datasets.concatenate_datasets(list(splits.values()))
    lengths = {name: len(dataset) for name, dataset in splits.items()}
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    except (ValueError, AssertionError) as error:
        raise no_slice("", list(splits), split, None, f"; {error}") from None
    return datasets.concatenate_datasets(
        [splits[part.splitname].select(range(part.from_, part.to)) for part in parts]
    )


def load_splits(name: str, config: str | None) -> dict[str, Dataset]:
    """All splits as `datasets` reads them."""
    import datasets  # noqa: PLC0415

    loaded = _loaded(partial(datasets.load_dataset, name, config), name)
    return {str(split): loaded[split] for split in loaded}


def _load(name: str, config: str | None, split: str, notes: Counter[str]) -> Dataset:
    import datasets  # noqa: PLC0415

    try:
        return _loaded(partial(datasets.load_dataset, name, config, split=split), name)
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


def _loaded(load: partial[Any], name: str) -> Any:
    """Return the result of ``load``; its ValueError passes, any other failure becomes one line."""
    import datasets  # noqa: PLC0415

    from setup.common.console import err  # noqa: PLC0415

    if not err.is_terminal:
        datasets.disable_progress_bars()
    try:
        return load()
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

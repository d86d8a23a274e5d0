"""A folder as a data set: laid out as the hub has it, or left by `save_to_disk`.

The layout alone is taken from `datasets`, which knows splits, configurations and the README's
`configs`. The files are read by our own readers, row by row and as they are:
`datasets` would give all rows one type, and would keep a copy in the home folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.common.files import visible_files
from setup.common.json_rows import raw_lines
from setup.common.unpack import plain_suffix
from setup.data.formats.origin import DEFAULT_CONFIG, FILE_SUFFIXES, PLAIN_SUFFIXES
from setup.data.formats.source import Record, Source

from . import hub
from .file import open_file

if TYPE_CHECKING:
    from datasets import Dataset

_OTHER_DATA = (".gz", ".bz2", ".xz", ".zst")
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_NAMED = 5


@dataclass(frozen=True)
class Folder:
    """The files of one configuration by split; ``loaded`` instead where `datasets` reads them."""

    path: Path
    files: dict[str, list[Path]] = field(default_factory=dict)
    loaded: dict[str, Dataset] = field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return list(self.files or self.loaded)


def open_folder(path: Path, config: str | None, split: str) -> Source:
    """A folder laid out like a data set of the hub, or left by ``save_to_disk``.

    Raises:
        FixableError: no data in it, or no such configuration or slice.
    """
    notes: Counter[str] = Counter()
    folder = _saved(path) or _laid_out(path, config, notes)
    chosen = hub.choose_split(str(path), folder.splits, split, config)
    named = dict.fromkeys(hub.SPLIT_NAME.findall(chosen))
    others = [name for name in folder.splits if name not in named]
    beside = f", not {', '.join(others)}" if others and "all" not in named else ""
    notes[f"read from {path}: {chosen}{beside}"] = 0
    if folder.loaded:
        return hub.records_of(str(path), hub.take(folder.loaded, chosen), notes)
    return Source(_chosen_rows(folder, chosen, notes), None, notes=notes)


def _saved(path: Path) -> Folder | None:
    """Load a folder of ``Dataset.save_to_disk`` or ``DatasetDict``'s; None for any other folder."""
    if not any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return None
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FixableError(
            f"{path} is not whole as save_to_disk leaves it ({error})", "save it again"
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        return Folder(path, loaded={str(name): loaded[name] for name in loaded})
    return Folder(path, loaded={str(loaded.split or "train"): loaded})


def _laid_out(path: Path, config: str | None, notes: Counter[str]) -> Folder:
    import yaml
    from datasets.load import LocalDatasetModuleFactory

    try:
        module = LocalDatasetModuleFactory(str(path)).get_module()
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise FixableError(
            f"the block between the --- lines of {path / 'README.md'} is no YAML ({why})",
            fix="correct the block, or delete it",
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise FixableError(
            f"no data set in folder {path} ({error})",
            fix=f"put files there ({', '.join(PLAIN_SUFFIXES)}), or correct data.source",
        ) from None
    parameters = module.builder_configs_parameters
    configs = {part.name: part for part in parameters.builder_configs or []}
    name = _choose_config(path, list(configs), config, parameters.default_config_name)
    others = ", ".join(other for other in configs if other != name)
    if others:
        notes[f"config of {path}: {name}, not {others}"] = 0
    files = _files(path, configs[name])
    names = [file.name.lower() for split in files.values() for file in split]
    _note_unread(path, [file for split in files.values() for file in split], configs, notes)
    if not all(name.endswith(FILE_SUFFIXES) for name in names) or getattr(
        configs[name], "field", None
    ):
        return Folder(path, loaded=hub.load_splits(str(path), name))
    return Folder(path, files)


def _files(path: Path, config: Any) -> dict[str, list[Path]]:
    """The files of a configuration, by split; the README has patterns for them."""
    import datasets

    patterns = config.data_files or {}
    if hasattr(patterns, "resolve"):
        try:
            base = str(path / (config.data_dir or ""))
            patterns = patterns.resolve(base, datasets.DownloadConfig())
        except OSError as error:
            fix = f"correct the configs in {path / 'README.md'}"
            raise FixableError(f"config {config.name} of {path}: {error}", fix) from None
    return {str(split): [Path(str(file)) for file in files] for split, files in patterns.items()}


def _note_unread(
    path: Path, read: list[Path], configs: dict[str, Any], notes: Counter[str]
) -> None:
    """Say which files that look like data belong to no split."""
    if len(configs) > 1:
        return
    known = {file.resolve() for file in read}
    unread = [
        str(file.relative_to(path))
        for file in visible_files(path)
        if file.suffix.lower() in (*PLAIN_SUFFIXES, *_OTHER_DATA) and file.resolve() not in known
    ]
    if unread:
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        notes[f"not read, for no split has them: {', '.join(sorted(unread)[:_NAMED])}{more}"] = 0


def _choose_config(
    source: Path | str, configs: Sequence[str], config: str | None, default: str | None
) -> str:
    if config in configs:
        return str(config)
    if config in {None, DEFAULT_CONFIG}:
        if len(configs) == 1:
            return configs[0]
        if default in configs:
            return str(default)
    raise FixableError(
        f"dataset {source} has nothing in config {config}, only: {', '.join(configs)}",
        fix=f"--set data.config={next(iter(configs), DEFAULT_CONFIG)}",
    )


def _chosen_rows(folder: Folder, split: str, notes: Counter[str]) -> Iterator[list[Record]]:
    """The rows of a slice, from the files of its splits."""

    def length(name: str) -> int:
        return sum(map(_length, folder.files[name]))

    lengths = length if "[" in split else None  # for which every file must be read once more
    for name, begin, end in hub.parts_of(str(folder.path), folder.splits, split, None, lengths):
        yield from _between(_rows_of_split(folder, name, notes), begin, end)


def _rows_of_split(folder: Folder, name: str, notes: Counter[str]) -> Iterator[list[Record]]:
    for file in folder.files[name]:
        try:
            shown = file.relative_to(folder.path.resolve()).as_posix()
        except ValueError:
            shown = file.name
        source = open_file(file, shown)
        yield from source.batches
        notes.update(source.notes)


def _length(file: Path) -> int:
    source = open_file(file)
    if source.total is None and plain_suffix(file) in _JSON_LINES:
        return sum(1 for line in raw_lines(file) if line)
    return sum(map(len, source.batches)) if source.total is None else source.total


def _between(
    batches: Iterable[list[Record]], begin: int, end: int | None
) -> Iterator[list[Record]]:
    passed = 0
    for batch in batches:
        if end is not None and passed >= end:
            return
        yield batch[max(0, begin - passed) : None if end is None else max(0, end - passed)]
        passed += len(batch)

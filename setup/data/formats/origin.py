"""A place that rows come from, as a recipe names it: a file, a folder, a data set of the hub."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from setup.common.errors import FixableError
from setup.common.feedback_file import feedback_path, ratings_sha256
from setup.common.files import sha256_file, sha256_folder
from setup.common.paths import without_home

ULTRACHAT_SPLIT = "train_sft[:1%]"  # of recipes that name no other; few data sets have it
TEST_SPLIT = "test"  # of data.test, where it names no other
DEFAULT_CONFIG = "default"
SAMPLE = "sample"
FEEDBACK_SOURCE = "feedback"  # what endpoints have kept
AUTO = "auto"
PLAIN_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
FILE_SUFFIXES = tuple(
    suffix + packing for suffix in PLAIN_SUFFIXES for packing in ("", ".gz", ".zst")
)

# A path or an id; a mapping with `source` and what is its own; a list of both.
Given = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


@dataclass(frozen=True)
class Origin:
    """One place, and how it is read.

    Attributes:
        source: A path, the id of a dataset, or FEEDBACK_SOURCE.
        weight: How many times each row is trained on; below 1 it is the share of rows taken.
        format: The format of its rows, AUTO to see by the rows.
        columns: Names of its columns by what they hold (setup/data/formats).
        config: The configuration of a dataset.
        split: The slice of a dataset.
        is_only: Whether the recipe names no other beside it.
    """

    source: str
    weight: float = 1.0
    format: str = AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    config: str | None = DEFAULT_CONFIG
    split: str = ULTRACHAT_SPLIT
    is_only: bool = True

    @property
    def kind(self) -> Literal["file", "folder", "hub", "feedback"]:
        """The kind of place."""
        if self.source == FEEDBACK_SOURCE:
            return "feedback"
        if os.path.isdir(self.source):  # noqa: PTH112 - no exception where it may not be asked
            return "folder"
        exists = os.path.exists(self.source)  # noqa: PTH110
        is_named_so = self.source.lower().endswith(FILE_SUFFIXES) or _is_pattern(self.source)
        return "file" if exists or is_named_so else "hub"

    @property
    def path(self) -> str:
        """The source so that it means the same in every folder: a path in full, an id as it is."""
        if self.kind == "hub":
            return self.source
        is_feedback = self.kind == "feedback"
        return str((feedback_path() if is_feedback else Path(self.source)).resolve())

    @property
    def sha256(self) -> str | None:
        """SHA-256 (hex) of what is local, None of others and where nothing is."""
        source = Path(self.source)
        if self.kind == "feedback":
            return ratings_sha256()
        if self.kind == "folder":
            return sha256_folder(source)
        return sha256_file(source) if self.kind == "file" and source.is_file() else None

    def options(self) -> dict[str, Any]:
        """All that decides, beside the source, how it is read; without what is as usual."""
        names = ["weight", "format", "columns"]
        names += ["config", "split"] if self.kind in ("folder", "hub") else []
        usual = Origin(self.source)
        return {
            name: value
            for name in names
            if (value := getattr(self, name)) != getattr(usual, name) or name in ("config", "split")
        }

    def set_option(self, name: str, value: str) -> str:
        """The part of a fix that sets ``format`` or a column of this very place."""
        if not self.is_only:
            return f"{name}: {value} in the entry of {self.source}"
        return f"--set {shlex.quote(f'data.{name}={as_yaml(value)}')}"


def origins_of(given: Given, usual: Origin) -> list[Origin]:
    """The places that a recipe names, patterns such as ``chats/*.jsonl`` as the files they match.

    Raises:
        FixableError: An entry is not of the form that is needed, or `~NAME` is nobody.
    """
    entries = [given] if isinstance(given, str | Mapping) else list(given)
    origins = [origin for entry in entries for origin in _matching(_origin(entry, usual))]
    return [replace(origin, is_only=len(origins) == 1) for origin in origins]


def patterns_of(given: Given) -> list[str]:
    """The patterns among the places that a recipe names."""
    entries = [given] if isinstance(given, str | Mapping) else list(given)
    sources = [entry if isinstance(entry, str) else str(entry["source"]) for entry in entries]
    paths = [at_home("data.source", source) for source in sources]
    return [path for path in paths if _is_pattern(path) and not os.path.lexists(path)]


def as_text(given: Given) -> str:
    """The value as `--set` takes it; of several, none tells where this user's home folder is."""
    if isinstance(given, str):
        return given
    entries = [given] if isinstance(given, Mapping) else given
    plain = [entry if isinstance(entry, str) else _without_usual(entry) for entry in entries]
    value = without_home(plain[0] if isinstance(given, Mapping) else plain)
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False).strip()


def as_yaml(text: str) -> str:
    """A text so that YAML reads it as this text."""
    try:
        is_plain = yaml.safe_load(text) == text
    except (yaml.YAMLError, ValueError):
        is_plain = False
    return text if is_plain else yaml.safe_dump(text, default_style='"', width=10**9).strip()


def at_home(name: str, path: str) -> str:
    """``path`` with a leading ``~`` as the home folder, as the shell has it outside of `--set`."""
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path's own raises RuntimeError
    if expanded.startswith("~") and not os.path.lexists(expanded):
        first = Path(expanded).parts[0]
        raise FixableError(f"{name} is {path}, and {first} is nobody's home folder", "write it out")
    return expanded


def _without_usual(entry: Mapping[str, Any]) -> str | dict[str, Any]:
    own = {name: value for name, value in entry.items() if value not in (None, "", {})}
    weight = own.pop("weight", 1)
    if weight != 1:
        own["weight"] = int(weight) if weight == int(weight) else weight
    return own["source"] if set(own) == {"source"} else own


def _origin(entry: str | Mapping[str, Any], usual: Origin) -> Origin:
    own = {"source": entry} if isinstance(entry, str) else _without_usual(entry)
    own = {"source": own} if isinstance(own, str) else own
    source = str(own.get("source") or "").strip()
    if not source:
        raise FixableError("an entry of data.source has no source", "--set data.source=mine.jsonl")
    if source == SAMPLE:
        raise FixableError(
            "the committed sample is no part of other data",
            "name its file instead: data/sample/train.jsonl, or data/sample/test.jsonl",
        )
    try:
        return replace(usual, **(own | {"source": at_home("data.source", source)}))
    except TypeError:
        known = ", ".join(Origin.__dataclass_fields__.keys() - {"is_only"})
        raise FixableError(f"{as_text(own)}: unknown field", f"known are {known}") from None


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source)


def _matching(origin: Origin) -> Iterator[Origin]:
    is_there = os.path.lexists(origin.source)
    matches = [] if is_there or not _is_pattern(origin.source) else sorted(glob.glob(origin.source))  # noqa: PTH207
    files = [match for match in matches if Path(match).is_file()]
    if not files:
        yield origin
    for file in files:
        yield replace(origin, source=file)

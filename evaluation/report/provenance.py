"""The origin of the numbers: both runs' settings side by side, and how to look closer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report.side import Side
from evaluation.report.text import compact, one_line
from evaluation.wording import PAGE, duration, number

_GROUPS = {
    "run": ["name", "started", "engine", "limit", "seed", "workers", "evaluators", "reused"],
    "data": ["data", "general"],
    "model": ["model"],
    "connection": ["connection", "configs"],
    "asking": ["variant", "answer_limit"],
    "flows (SHA-256)": ["flows"],
    "packages": ["versions"],
    "recipe": ["recipe"],
}


@dataclass(frozen=True)
class Setting:
    """One value of each side."""

    name: str
    values: list[str]
    differs: bool

    @property
    def same(self) -> bool:
        """Tell whether the sides share the value."""
        return len(set(self.values)) == 1


@dataclass(frozen=True)
class Group:
    """Settings that belong together."""

    title: str
    settings: list[Setting]

    @property
    def differing(self) -> int:
        """The number of settings that are not the same on both sides."""
        return sum(setting.differs for setting in self.settings)


def provenance(sides: Sequence[Side]) -> list[Group]:
    """Everything config.json says, and where and how long the runs ran."""
    configs = [side.table.run.config for side in sides]
    grouped = {key for keys in _GROUPS.values() for key in keys}
    others = sorted({key for config in configs for key in config} - grouped)
    groups = [_group(title, keys, configs) for title, keys in _GROUPS.items()]
    groups[0].settings[:0] = _measured(sides)
    groups.append(_group("other", others, configs))
    return [group for group in groups if group.settings]


def commands(sides: Sequence[Side]) -> list[tuple[str, str]]:
    """A (class, command) for each run that promptflow keeps."""
    names = [(side.key, side.table.run.summary.get("pf_runs") or {}) for side in sides]
    return [
        (key, one_line(f"pf run show-details --name {shlex.quote(str(name))}", limit=300))
        for key, runs in names
        for name in runs.values()
    ]


def _measured(sides: Sequence[Side]) -> list[Setting]:
    folders = [one_line(str(side.table.run.path), limit=400) for side in sides]
    times = [duration(side.table.run.summary.get("seconds")) for side in sides]
    paces = [side.table.run.summary.get("lines_per_second") for side in sides]
    pace = [number(rate, 1, "rows/s") for rate in paces]
    return [
        Setting(name, values, differs=False)
        for name, values in (("folder", folders), ("took", times), ("pace", pace))
    ]


def _group(title: str, keys: list[str], configs: list[dict[str, Any]]) -> Group:
    flats = [_flat({key: config[key] for key in keys if key in config}) for config in configs]
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    settings = [_setting(name, [flat.get(name, PAGE.none) for flat in flats]) for name in names]
    return Group(title, settings)


def _setting(name: str, values: list[str]) -> Setting:
    # A run's own name and time are never the same, which says nothing.
    differs = len(set(values)) > 1 and name not in {"name", "started", "connection"}
    return Setting(one_line(name), values, differs)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, part in value.items():
        name = f"{prefix}{key}"
        if isinstance(part, Mapping) and part:
            flat |= _flat(part, f"{name}.")
        else:
            flat[name] = one_line(_plain(part), limit=400)
    return flat


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else compact(value)

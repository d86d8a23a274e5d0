"""The forecast of a run as it is told, kept, and held against what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from setup.common.paths import read_json, write_private

NOTE = "forecast.json"  # in the folder of a run that is not finished
_GB = 1e9


@dataclass(frozen=True)
class Forecast:
    """Seconds from the command to the adapter, bytes at most, and the basis of both in words."""

    seconds: float
    memory: int
    basis: str

    def line(self) -> str:
        """For people."""
        return f"{amount(self.seconds, self.memory)} ({self.basis})"

    def beside(self, seconds: float, memory: int, more: str = "") -> str:
        """Hold the forecast against what was needed."""
        took = amount(seconds, memory)
        return f"predicted {amount(self.seconds, self.memory)}; took {took}{more}"

    def keep(self, folder: Path) -> None:
        """Write it into the folder of a run, which may be stopped and go on."""
        write_private(folder / NOTE, asdict(self))


def kept_forecast(folder: Path) -> Forecast | None:
    """The forecast of a run that was begun before."""
    note: dict[str, Any] | None = read_json(folder / NOTE)
    try:
        return Forecast(**note) if note else None
    except TypeError:  # of another version
        return None


def amount(seconds: float, memory: int) -> str:
    """Write time and memory as people say them."""
    return f"{duration(seconds)}, {size(memory)}"


def duration(seconds: float) -> str:
    """Write seconds in the unit that suits them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def size(memory: int) -> str:
    """Write bytes in gigabytes."""
    return f"{memory / _GB:.1f} GB"


def lack_of_memory(memory: int, holds: int) -> str:
    """Say that ``memory`` bytes do not fit into ``holds``; empty where they do."""
    return f"{size(memory)} are predicted, {size(holds)} are free" if memory > holds else ""

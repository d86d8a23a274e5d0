"""Dated facts about Azure: what is retired, what it costs, how many cores it takes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def dated_table(name: str) -> dict[str, Any]:
    """Return the table ``name``.yaml beside this module."""
    path = Path(__file__).with_name(f"{name}.yaml")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content

"""Answers that an earlier run has already of the same model, asked in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from evaluation import results
from evaluation.ask.journal import Journal, Outcome, line_key
from setup.common.paths import read_json, runs_folder

_ASKED = ("question", "chat_history")
# What of the connection changes no answer: where it is, how long and how many at a time it waits.
_NO_MATTER = {"name", "endpoint", "endpoint_sha256", "connect_timeout", "timeout", "concurrency"}


class EarlierAnswers:
    """The answers of finished runs with this ``config``, newest first; none of an unknown model.

    A model is known by the SHA-256 of the recipe's file and the name of the served file, which for
    a version holds the SHA-256 of what it was made from.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._alike = _what_decides(config)
        self.taken: dict[str, int] = {}

    def of(
        self, rows: Sequence[Mapping[str, Any]], data: str, answers: str, variant: str | None = None
    ) -> Iterator[Outcome]:
        """The outcome of each of ``rows`` that was answered before, in files of these names.

        ``variant`` is that of the whole run, where it matters. ``taken`` counts them by run.
        """
        missing = {_key(row): number for number, row in enumerate(rows)}
        for folder in self._runs(variant):
            for key, outcome in _answered(folder / data, Journal(folder / answers)):
                number = missing.pop(key, None)
                if number is not None:
                    name = f"{folder.parent.name}/{folder.name}"
                    self.taken[name] = self.taken.get(name, 0) + 1
                    yield replace(outcome, line=number, key=key)

    def _runs(self, variant: str | None) -> Iterator[Path]:
        if self._alike is None:
            return
        summaries = list(runs_folder().glob(f"*/*/{results.SUMMARY}"))
        for path in sorted(summaries, key=lambda path: path.stat().st_mtime, reverse=True):
            config = read_json(path.with_name(results.CONFIG)) or {}
            alike = _what_decides(config) == self._alike
            if alike and variant in (None, config.get("variant", "")):
                yield path.parent


def _what_decides(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """All of a run's config that decides an answer; None where the model is not known for sure."""
    model, recipe = config.get("model") or {}, (config.get("recipe") or {}).get("model") or {}
    if not model.get("file") or not recipe.get("sha256"):
        return None
    configs = config.get("configs") or {}
    return {
        "model": {key: model.get(key) for key in ("file", "source")},
        "recipe": recipe,
        "configs": {key: value for key, value in configs.items() if key not in _NO_MATTER},
        "flow": (config.get("flows") or {}).get("chat"),
        "engine": (config.get("versions") or {}).get("xllamacpp"),
    }


def _answered(data: Path, journal: Journal) -> Iterator[tuple[str, Outcome]]:
    """A run's outcomes but for errors, each with a name for what its line asked."""
    if not data.is_file():
        return
    keys = [_key(orjson.loads(line)) for line in data.read_bytes().splitlines()]
    for outcome in journal.read().values():
        if outcome.error is None and (outcome.key or outcome.line < len(keys)):
            yield outcome.key or keys[outcome.line], outcome


def _key(row: Mapping[str, Any]) -> str:
    return line_key({name: row.get(name) for name in _ASKED})

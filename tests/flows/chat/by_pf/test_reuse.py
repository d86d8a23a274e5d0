"""Answers of an earlier run taken instead of asking the same model the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.home import Home

CITIES = ("France", "Germany", "Spain", "Italy")


def _evaluate(home: Home, data: Path, name: str, *options: str) -> dict[str, Any]:
    """Run it on ``data``; the config that the run keeps."""
    sets = ("--set", f"endpoint.port={home.port}")
    done = home.run(
        *("-m", "evaluation", "run", "phi-base", "--data", str(data), "--name", name),
        *(*sets, "--no-general", "--engine", "plain", *options),
    )
    assert done.returncode == 0, done.stderr
    config = (home.path / "runs" / name / "phi-base" / "config.json").read_text(encoding="utf-8")
    kept: dict[str, Any] = json.loads(config) | {"shown": done.stdout}
    return kept


def _rows(home: Home, name: str) -> list[dict[str, Any]]:
    text = (home.path / "runs" / name / "phi-base" / "rows.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _asked(home: Home) -> int:
    return sum(line.get("route") == "/score" for line in home.log())


def test_only_what_is_new_is_asked(home: Home, tmp_path: Path) -> None:
    def data(number: int) -> Path:
        rows = [{"question": f"What is the capital of {city}?"} for city in CITIES[:number]]
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    first = _evaluate(home, data(2), "first")
    before = _asked(home)
    second = _evaluate(home, data(4), "second", "--reuse")
    assert "reused" not in first
    assert second["reused"] == {"first/phi-base": 2}
    assert "2 answers in second/phi-base are those of first/phi-base" in second["shown"]
    assert _asked(home) - before == 1 + 2  # the check before row 1, and the rows
    answers = [[row["answer"] for row in _rows(home, name)] for name in ("first", "second")]
    assert answers[0] == answers[1][:2]
    # Nothing is taken unasked, nor where something that decides answers is another.
    assert "reused" not in _evaluate(home, data(2), "third")
    varied = _evaluate(home, data(2), "fourth", "--reuse", "--variant", "${chat.varied}")
    assert varied["reused"] == {}

"""Thresholds that a run must hold: read from YAML, checked all, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation import wording
from evaluation.compare.comparison import Comparison
from evaluation.compare.statistics import Estimate
from evaluation.compare.table import Table
from evaluation.metrics import METRICS, Metric
from setup.common.errors import FixableError

GATES = Path(__file__).with_name("gates.yaml")

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]

NO_SCORE = "no row has a score of it"
_MOST_DIGITS = 9
_ROUNDING = 1e-9  # 0.50 - 0.52 is below -0.02 by less than this

_OF_METRIC = ("at_least", "at_most", "difference_at_least", "difference_at_most", "not_worse_by")
_OF_RUN = ("error_rate_at_most", "rows_at_least")


class Gate(BaseModel):
    """One gate: one condition, of a metric or of the run as a whole; see gates.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = ""
    at_least: Number | None = None
    at_most: Number | None = None
    difference_at_least: Number | None = None
    difference_at_most: Number | None = None
    not_worse_by: Annotated[Number, Field(ge=0)] | None = None
    error_rate_at_most: Share | None = None
    rows_at_least: Annotated[int, Field(ge=1, strict=True)] | None = None
    quantile: Annotated[float, Field(gt=0, lt=1, strict=True)] | None = None
    confident: bool = False

    @model_validator(mode="after")
    def _is_one_condition(self) -> Gate:
        if len(self._conditions) != 1:
            named = " and ".join(self._conditions) or "none"
            raise ValueError(f"one condition is needed, here are {named}")
        if self.metric and self.condition in _OF_RUN:
            raise ValueError(f"{self.condition} is of the run, not of a metric")
        if not self.metric and self.condition in _OF_METRIC:
            raise ValueError(f"{self.condition} needs a metric")
        if self.quantile is not None and (self.confident or not self.condition.startswith("at_")):
            raise ValueError("quantile goes with at_least or at_most, without confident")
        if self.confident and self.condition in _OF_RUN:
            raise ValueError(f"{self.condition} has no interval to be confident of")
        return self

    @property
    def _conditions(self) -> list[str]:
        return [name for name in (*_OF_METRIC, *_OF_RUN) if getattr(self, name) is not None]

    @property
    def condition(self) -> str:
        """The name of its condition."""
        return self._conditions[0]

    @property
    def threshold(self) -> float:
        """The value of its condition."""
        return float(getattr(self, self.condition))

    @property
    def compares(self) -> bool:
        """Tell whether it needs a baseline."""
        return self.condition.startswith("difference") or self.condition == "not_worse_by"

    @property
    def name(self) -> str:
        """As it stands in the file: ``fact_recall at_least 0.75, confident``."""
        of = f"{self.metric} " if self.metric else ""
        quantile = "" if self.quantile is None else f"quantile {self.quantile:g} "
        sure = ", confident" if self.confident else ""
        return f"{of}{quantile}{self.condition} {self.threshold:g}{sure}"


class _Gates(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    gates: Annotated[list[Gate], Field(min_length=1)]


@dataclass(frozen=True)
class GateResult:
    """One gate checked: ``name`` as in the file, ``detail`` the figures or why there are none."""

    name: str
    passed: bool
    detail: str


def load_gates(path: Path = GATES) -> list[Gate]:
    """The gates in ``path``; a file that is none, or has no gates, is refused with its reason."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        gates = _Gates.model_validate(content).gates
    except OSError as error:
        raise FixableError(f"no gates in {path}", f"name a file like {GATES}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FixableError(f"{path} is not YAML: {error}", f"write it like {GATES}") from error
    except ValidationError as error:
        raise FixableError(f"{path}: {_first(error)}", f"write it like {GATES}") from error
    for gate in gates:
        if gate.metric:
            _check_metric(gate, path)
    return gates


def check_gates(path: Path, table: Table, comparison: Comparison | None = None) -> list[GateResult]:
    """Check every gate of the file ``path`` on the run of ``table``, in their order.

    A gate whose metric has no score in the run fails, and so does one that compares where
    ``comparison``, of this candidate with its baseline, is not given or has no pair for it.
    """
    return [_check(gate, table, comparison) for gate in load_gates(path)]


def _check(gate: Gate, table: Table, comparison: Comparison | None) -> GateResult:
    if not gate.metric:
        return _of_run(gate, table, comparison)
    if gate.compares:
        return _of_difference(gate, comparison)
    estimate = table.estimates.get(gate.metric)
    if estimate is None or estimate.n == 0:
        return GateResult(gate.name, False, NO_SCORE)
    if gate.quantile is not None:
        value = float(np.quantile(table.values(gate.metric), gate.quantile))
        estimate = Estimate(value, None, None, estimate.n)
    return _judged(gate, estimate)


def _of_run(gate: Gate, table: Table, comparison: Comparison | None) -> GateResult:
    """An answer without a score or a verdict is an error, a row without its pair is missing."""
    counts = table.counts
    detail = " ".join(f"{name}={number}" for name, number in counts.items())
    good = table.answered - table.unscored
    if gate.condition == "error_rate_at_most":
        missing = sum(counts.get(name, 0) for name in ("error", "unscored", "no_verdict"))
        holds = table.n > 0 and missing / table.n <= gate.threshold
        return GateResult(gate.name, holds, detail)
    if comparison:
        good, detail = min(good, comparison.pairs), f"{detail} pairs={comparison.pairs}"
    return GateResult(gate.name, good >= gate.threshold, detail)


def _of_difference(gate: Gate, comparison: Comparison | None) -> GateResult:
    if comparison is None:
        return GateResult(gate.name, False, "no baseline to compare with")
    metric_comparison = comparison.metric(gate.metric)
    if metric_comparison is None or metric_comparison.difference.n == 0:
        reason = f"no row has a score of it in this run and in {comparison.baseline.name}"
        return GateResult(gate.name, False, reason)
    return _judged(gate, metric_comparison.difference)


def _judged(gate: Gate, estimate: Estimate) -> GateResult:
    metric, threshold = METRICS[gate.metric], gate.threshold
    is_floor = gate.condition.endswith("at_least")
    if gate.condition == "not_worse_by":
        is_floor = metric.better == "higher"
        threshold = -threshold if is_floor else threshold
    end = estimate.low if is_floor else estimate.high
    value = end if gate.confident else estimate.value
    if value is None:
        detail = _detail(gate, metric, estimate, 0)
        return GateResult(gate.name, False, f"{detail}: too few rows for an interval")
    slack = value - threshold if is_floor else threshold - value
    holds, digits = slack >= -_ROUNDING, 0
    # What fails by little must not read as if it held.
    while not holds and digits < _MOST_DIGITS and round(value, digits) == round(threshold, digits):
        digits += 1
    return GateResult(gate.name, holds, _detail(gate, metric, estimate, digits))


def _detail(gate: Gate, metric: Metric, estimate: Estimate, digits: int) -> str:
    difference = estimate if gate.compares else None
    digits = max(digits, wording.digits_for(metric, estimate, difference=difference))
    figures = wording.with_interval(estimate, metric, digits, signs=gate.compares)
    return f"{figures}, n={estimate.n}"


def _check_metric(gate: Gate, path: Path) -> None:
    if gate.metric not in METRICS:
        names = ", ".join(METRICS)
        raise FixableError(f"{path}: no metric {gate.metric!r}", f"name one of: {names}")
    if gate.condition == "not_worse_by" and METRICS[gate.metric].better == "neither":
        what = f"{path}: {gate.metric} is better neither way, so never worse"
        raise FixableError(what, "use difference_at_least or difference_at_most")


def _first(error: ValidationError) -> str:
    """The first problem of the file in one line: where, what, and what stands there."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    what = "unknown field" if problem["type"] == "extra_forbidden" else problem["msg"]
    what = what.removeprefix("Value error, ")
    return f"{where or 'the file'}: {what}, got {problem['input']!r}"

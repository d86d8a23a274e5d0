"""The outputs of a line, and what the lines of a run come to: repeats first, then rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from .material import BASELINE_FIRST, CANDIDATE_FIRST
from .rules import SCORES, Preference, Unparsed, parse_preference, parse_verdict

SCORE_NAMES = tuple(f"judge_{score}" for score in SCORES)

Outputs = Mapping[str, Any]
"""One line's outputs, as the flow gives them."""
Winner = Literal["candidate", "baseline", "tie"]
Outcome = Literal["win", "loss", "tie", "disagreement"]

_WINNERS: dict[tuple[str, str], Winner] = {
    (BASELINE_FIRST, "1"): "baseline",
    (BASELINE_FIRST, "2"): "candidate",
    (CANDIDATE_FIRST, "1"): "candidate",
    (CANDIDATE_FIRST, "2"): "baseline",
}
_OUTCOMES: dict[str, Outcome] = {"candidate": "win", "baseline": "loss", "tie": "tie"}


def outputs_of(reply: str | None, mode: str, order: str = "") -> dict[str, Any]:
    """The outputs of one line.

    ``judge_better`` names the candidate or the baseline, not the place where the answer was shown.
    Of a reply that is no verdict ``judge_reason`` is the text, as it came.
    """
    pairwise = mode == "pairwise"
    verdict = parse_preference(reply) if pairwise else parse_verdict(reply)
    outputs: dict[str, Any] = dict.fromkeys((*SCORE_NAMES, "judge_better"))
    if isinstance(verdict, Unparsed):
        return outputs | {"judge_reason": verdict.text, "judge_unparsed": 1}
    if isinstance(verdict, Preference):
        better = verdict.better
        outputs["judge_better"] = better if better == "tie" else _WINNERS[order, better]
    else:
        outputs |= {f"judge_{score}": getattr(verdict, score) for score in SCORES}
    return outputs | {"judge_reason": verdict.reason, "judge_unparsed": 0}


@dataclass(frozen=True)
class RowScores:
    """One row over its repeats.

    ``scores`` are means over the ``judged`` repeats, null where there is none. ``spread`` is the
    sample standard deviation over repeats, averaged over the four scores; null below two repeats.
    """

    scores: dict[str, float | None]
    spread: float | None
    judged: int
    unparsed: int


def combine_repeats(repeats: Sequence[Outputs]) -> RowScores:
    """The lines of one row in ``score`` mode, one for each repeat, as one."""
    judged = [line for line in repeats if not line["judge_unparsed"]]
    values = {name: [float(line[name]) for line in judged] for name in SCORE_NAMES}
    return RowScores(
        scores={name: fmean(numbers) if numbers else None for name, numbers in values.items()},
        spread=fmean(map(stdev, values.values())) if len(judged) > 1 else None,
        judged=len(judged),
        unparsed=len(repeats) - len(judged),
    )


def combine_orders(baseline_first: Winner | None, candidate_first: Winner | None) -> Outcome | None:
    """One pair judged in both orders: a side wins only where both orders name it.

    A judge that prefers the first place, say, names a different side each time: ``disagreement``.
    Null where an order has no verdict, for then nothing is known of the pair.
    """
    if baseline_first is None or candidate_first is None:
        return None
    return _OUTCOMES[baseline_first] if baseline_first == candidate_first else "disagreement"


@dataclass(frozen=True)
class Line:
    """One line of a run: which row, which repeat and order of it, and its outputs."""

    row_id: str
    repeat: int
    order: str
    outputs: Outputs


def summarize(lines: Sequence[Line]) -> dict[str, float]:
    """The metrics of a run: means over repeats within a row, then over rows.

    A line without ``row_id`` is a row of its own. ``judge_unparsed`` counts lines,
    ``judge_unparsed_share`` is their share of the lines. A metric that no row has is left out.
    """
    unparsed = sum(line.outputs["judge_unparsed"] for line in lines)
    metrics: dict[str, float] = {
        "judge_unparsed": unparsed,
        "judge_unparsed_share": unparsed / len(lines) if lines else 0.0,
    }
    rows = _by_row(lines)
    scored = [[line.outputs for line in row if not line.order] for row in rows]
    metrics |= _score_metrics([combine_repeats(row) for row in scored if row])
    paired = [outcomes(line for line in row if line.order) for row in rows]
    return metrics | _pair_metrics([row for row in paired if row])


def outcomes(lines: Iterable[Line]) -> list[Outcome]:
    """The outcomes of one row in ``pairwise`` mode, one for each repeat judged in both orders."""
    pairs: dict[int, dict[str, Winner | None]] = {}
    for line in lines:
        pairs.setdefault(line.repeat, {})[line.order] = line.outputs["judge_better"]
    results = [
        combine_orders(pair.get(BASELINE_FIRST), pair.get(CANDIDATE_FIRST))
        for pair in pairs.values()
    ]
    return [outcome for outcome in results if outcome]


def _by_row(lines: Sequence[Line]) -> list[list[Line]]:
    rows: dict[str | int, list[Line]] = {}
    for number, line in enumerate(lines):
        rows.setdefault(line.row_id or number, []).append(line)
    return list(rows.values())


def _score_metrics(rows: Sequence[RowScores]) -> dict[str, float]:
    columns = {name: [row.scores[name] for row in rows] for name in SCORE_NAMES}
    columns["judge_spread"] = [row.spread for row in rows]
    known = {name: [v for v in column if v is not None] for name, column in columns.items()}
    return {name: fmean(values) for name, values in known.items() if values}


def _pair_metrics(rows: Sequence[Sequence[Outcome]]) -> dict[str, float]:
    if not rows:
        return {}
    names: dict[str, Outcome] = {
        "judge_win_rate": "win",
        "judge_loss_rate": "loss",
        "judge_tie_rate": "tie",
        "judge_disagreement": "disagreement",
    }
    return {
        name: fmean(row.count(outcome) / len(row) for row in rows)
        for name, outcome in names.items()
    }

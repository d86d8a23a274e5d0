"""Batch runs: repeats within rows first, both orders of a pair, and what a run shows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flows.evaluate_with_judge.judging.outputs import (
    Line,
    Outcome,
    Winner,
    combine_orders,
    combine_repeats,
    outputs_of,
    summarize,
)
from tests.flows.evaluate_with_judge.conftest import KEY, MODEL, Judge
from tests.flows.evaluate_with_judge.judge import grades, prefers, says
from tests.scripted.server import Server
from tests.scripted.steps import reply


def test_repeats_first_then_rows(judge: Judge, server: Server, client: Any) -> None:
    refused = reply({"error": {"message": "no luck"}}, 401)
    replies = [grades(5, 5, 5, 5), grades(3, 5, 5, 5), "No.", grades(1, 1, 1, 1), grades(11)]
    server.play(*map(says, replies), refused)
    rows = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("d", 0)]
    run = judge([{"row_id": row, "repeat": repeat} for row, repeat in rows])
    metrics = client.get_metrics(run)
    assert metrics == {
        "judge_correctness": (4 + 1) / 2,
        "judge_relevance": 3.0,
        "judge_coherence": 3.0,
        "judge_fluency": 3.0,
        "judge_spread": pytest.approx(math.sqrt(2) / 4),
        "judge_unparsed": 2,
        "judge_unparsed_share": 2 / 5,
    }
    details = client.get_details(run)
    reasons = dict(zip(rows, details["outputs.judge_reason"], strict=True))
    assert reasons["b", 0] == "No."
    assert reasons["c", 0] == grades(11)
    assert reasons["d", 0] == "(Failed)"


def test_pairs_by_an_azure_deployment(judge: Judge, server: Server, client: Any) -> None:
    places = ["2", "1", "1", "1", "tie", "tie", "1", "2", "2", "neither"]
    server.play(*(says(prefers(place)) for place in places))
    orders = ("baseline first", "candidate first")
    rows = [{"row_id": row, "order": order} for row in "abcde" for order in orders]
    run = judge(
        [row | {"other_answer": "5 days."} for row in rows],
        variant="${case.pairwise}",
        connections={"judge": {"connection": "judge-azure"}},
    )
    assert client.get_metrics(run) == {
        "judge_win_rate": 1 / 4,
        "judge_disagreement": 1 / 4,
        "judge_tie_rate": 1 / 4,
        "judge_loss_rate": 1 / 4,
        "judge_unparsed": 1,
        "judge_unparsed_share": 1 / 10,
    }
    request = server.received[0]
    assert request.path.startswith(f"/openai/deployments/{MODEL}/chat/completions?api-version=")
    assert request.headers["api-key"] == KEY
    # The worker process has the limits of patience.py too, instead of 600 s.
    assert request.headers["x-stainless-read-timeout"] == "120.0"


ORDERS: list[tuple[Winner | None, Winner | None, Outcome | None]] = [
    ("candidate", "candidate", "win"),
    ("baseline", "baseline", "loss"),
    ("tie", "tie", "tie"),
    ("candidate", "baseline", "disagreement"),
    ("tie", "candidate", "disagreement"),
    ("candidate", None, None),
    (None, None, None),
]


@pytest.mark.parametrize(("first", "second", "outcome"), ORDERS)
def test_both_orders_must_agree(
    first: Winner | None, second: Winner | None, outcome: Outcome | None
) -> None:
    assert combine_orders(first, second) == outcome


def test_a_row_of_which_nothing_was_read() -> None:
    row = combine_repeats([outputs_of("No.", "score")] * 2)
    assert set(row.scores.values()) == {None}
    assert (row.spread, row.judged, row.unparsed) == (None, 0, 2)


def test_one_repeat_has_no_spread() -> None:
    lines = [Line("a", 0, "", outputs_of(grades(), "score"))]
    assert combine_repeats([lines[0].outputs]).spread is None
    assert "judge_spread" not in summarize(lines)


def test_lines_without_a_name_are_rows_of_their_own() -> None:
    texts = [grades(5), grades(5), grades(1)]
    lines = [Line("", 0, "", outputs_of(text, "score")) for text in texts]
    assert summarize(lines)["judge_correctness"] == pytest.approx(11 / 3)
    one_row = [Line("a", number, "", line.outputs) for number, line in enumerate(lines[:2])]
    assert summarize([*one_row, lines[2]])["judge_correctness"] == 3


def test_repeats_of_a_pair_are_averaged_within_the_row() -> None:
    def pair(row: str, repeat: int, first: str, second: str) -> list[Line]:
        orders = (("baseline first", first), ("candidate first", second))
        return [
            Line(row, repeat, order, outputs_of(prefers(place), "pairwise", order))
            for order, place in orders
        ]

    lines = pair("a", 0, "2", "1") + pair("a", 1, "1", "1") + pair("b", 0, "2", "1")
    found = summarize(lines)
    assert found["judge_win_rate"] == 0.75
    assert found["judge_disagreement"] == 0.25

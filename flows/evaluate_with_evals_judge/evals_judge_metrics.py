"""The node after all lines: the metrics that ``pf run show-metrics`` prints.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import TYPE_CHECKING, Any

from promptflow.core import log_metric, tool

# promptflow loads a flow's modules from the flow folder, others as part of a package
if TYPE_CHECKING or __package__:
    from .evals_judging.scores import summarize
else:
    from evals_judging.scores import summarize


@tool  # type: ignore[untyped-decorator]
def metrics(scores: list[dict[str, Any]]) -> dict[str, float]:
    """Log and return the metrics over all lines that were judged."""
    summary = summarize(scores)
    for name, value in summary.items():
        log_metric(name, value)
    return summary

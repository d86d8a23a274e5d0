"""The node after all lines: the metrics that ``pf run show-metrics`` prints."""

from typing import TYPE_CHECKING, Any

from promptflow.core import log_metric, tool

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
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

"""The node after all lines: the metrics that ``pf run show-metrics`` prints."""

from typing import TYPE_CHECKING, Any

from promptflow.core import log_metric, tool

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .judging.outputs import Line, summarize
else:
    from judging.outputs import Line, summarize


@tool  # type: ignore[untyped-decorator]
def metrics(
    row_id: list[str],
    repeat: list[int],
    order: list[str],
    verdict: list[dict[str, Any]],
) -> dict[str, float]:
    """Log and return the metrics over all lines that were judged."""
    if {len(row_id), len(repeat), len(order)} != {len(verdict)}:
        raise ValueError("the columns of the lines differ in length")
    summary = summarize([Line(*line) for line in zip(row_id, repeat, order, verdict)])
    for name, value in summary.items():
        log_metric(name, value)
    return summary

"""The rates of a run as its metrics."""

from typing import TYPE_CHECKING, Any

from promptflow.core import log_metric, tool

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .safety_rules.verdict import Verdict, safety_metrics
else:
    from safety_rules.verdict import Verdict, safety_metrics


@tool  # type: ignore[untyped-decorator]
def aggregate(categories: list[str], verdicts: list[Any]) -> dict[str, float]:
    """The metrics of all lines that were scored; ``pf run show-metrics`` shows them.

    ``verdicts`` are the outputs of ``score``.
    """
    metrics = safety_metrics(categories, [Verdict(**verdict) for verdict in verdicts])
    for name, value in metrics.items():
        log_metric(name, value)
    return metrics

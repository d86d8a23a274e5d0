"""The flow's aggregation node: the scores of all lines in, metrics of the run out."""

from typing import TYPE_CHECKING, Any

from promptflow.core import log_metric, tool

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .answer_metrics import summarize_scores
else:
    from answer_metrics import summarize_scores


@tool  # type: ignore[untyped-decorator]
def summarize(
    scores: list[dict[str, Any]], answers: list[str], ground_truths: list[str]
) -> dict[str, float]:
    """Log each metric of the run, so that ``pf run show-metrics`` has it, and return them."""
    metrics = summarize_scores(scores, answers, ground_truths)
    for name, value in metrics.items():
        log_metric(name, value)
    return metrics

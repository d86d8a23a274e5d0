"""The flow's node for each line: an answer and what is known of the right one in, scores out."""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .answer_metrics import InputError, score_answer
else:
    from answer_metrics import InputError, score_answer


@tool  # type: ignore[untyped-decorator]
def score(
    answer: str,
    ground_truth: str = "",
    facts: Any = None,
    must_decline: Any = None,
    usage: Any = None,
) -> dict[str, Any]:
    """The line's scores by metric name; null where a metric does not apply."""
    try:
        return dict(score_answer(answer, ground_truth, facts, must_decline, usage))
    except InputError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

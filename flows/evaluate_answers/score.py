"""The flow's node for each line: an answer and what is known of the right one in, its scores out.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads a flow's modules from the flow folder, others as flows.evaluate_answers.*
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
    """The line's scores by metric name; null where a metric does not apply.

    Raises:
        UserErrorException: An input is not of its type, with one line that says which.
    """
    try:
        return dict(score_answer(answer, ground_truth, facts, must_decline, usage))
    except InputError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

"""The flow's first node: the texts of a line as the one message that the judge examines.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads a flow's modules from the flow folder, others as flows.evaluate_with_judge.*
if TYPE_CHECKING or __package__:
    from .judge_material import Material, MaterialError
    from .judge_patience import bound_retries
else:
    from judge_material import Material, MaterialError
    from judge_patience import bound_retries

# promptflow makes the client of the LLM node after it has loaded this module.
bound_retries()


@tool  # type: ignore[untyped-decorator]
def case(  # noqa: PLR0913, PLR0917  # a node's inputs are its parameters
    mode: str,
    question: str,
    answer: str,
    row_id: str = "",
    order: str = "",
    chat_history: Any = None,
    other_answer: str = "",
    ground_truth: str = "",
) -> dict[str, str]:
    """``mode`` as it is, and ``material``, a JSON object on one line.

    Raises:
        UserErrorException: the inputs do not belong together; one line with the fix.
    """
    material = Material(question, chat_history or [], answer, other_answer, ground_truth)
    try:
        return {"mode": mode, "material": material.render(mode, order, row_id)}
    except MaterialError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

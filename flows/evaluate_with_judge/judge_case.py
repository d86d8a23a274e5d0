"""The flow's first node: the texts of a line as the one message that the judge examines.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException
from promptflow.tools import aoai, common, openai

# promptflow loads a flow's modules from the flow folder, others as flows.evaluate_with_judge.*
if TYPE_CHECKING or __package__:
    from .judging import material, patience
else:
    from judging import material, patience

# promptflow makes the client of the LLM node after it has loaded this module.
for provider in (openai.OpenAI, aoai.AzureOpenAI):
    patience.bound_retries(provider, lambda chat: tool(common.handle_openai_error(tries=0)(chat)))


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
    """``mode`` as it is, and ``material``; inputs that do not belong together fail in one line."""
    texts = material.Material(question, chat_history or [], answer, other_answer, ground_truth)
    try:
        return {"mode": mode, "material": texts.render(mode, order, row_id)}
    except material.MaterialError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

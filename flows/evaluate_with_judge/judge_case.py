"""The flow's first node: the texts of a line as the one message that the judge examines."""

from typing import TYPE_CHECKING, Any

from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException
from promptflow.tools.aoai import AzureOpenAI
from promptflow.tools.common import handle_openai_error
from promptflow.tools.openai import OpenAI

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .judging import material, patience
else:
    from judging import material, patience

for provider in (OpenAI, AzureOpenAI):
    patience.bound_retries(provider, lambda chat: tool(handle_openai_error(tries=0)(chat)))


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

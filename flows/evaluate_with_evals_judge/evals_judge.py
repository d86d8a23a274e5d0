"""The flow's node for each line: the chosen judges of promptflow-evals, side by side.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Optional, Union

from promptflow.connections import AzureOpenAIConnection, OpenAIConnection
from promptflow.core import AzureOpenAIModelConfiguration, OpenAIModelConfiguration, tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads a flow's modules from the flow folder, others as part of a package
if TYPE_CHECKING or __package__:
    from .evals_judge_scores import EvaluatorError, Texts, as_outputs, ask_all, chosen
else:
    from evals_judge_scores import EvaluatorError, Texts, as_outputs, ask_all, chosen


@tool  # type: ignore[untyped-decorator]
def judges(  # noqa: PLR0913, PLR0917  # a node's inputs are its parameters
    connection: Union[OpenAIConnection, AzureOpenAIConnection],
    question: str,
    answer: str,
    ground_truth: str,
    judge_model: str,
    evaluators: str,
) -> dict[str, Optional[int]]:
    """The outputs of the line; null for a judge that was not chosen or gave no score.

    Raises:
        UserErrorException: an unknown judge or a blank text, with the fix; or the judge's endpoint
            failed, and the line with it.
    """
    try:
        names = chosen(evaluators)
        texts = Texts(question, answer, ground_truth)
        model = _configuration(connection, judge_model)
        return as_outputs(asyncio.run(ask_all(names, texts, model)))
    except EvaluatorError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None


def _configuration(connection: Any, judge_model: str) -> Any:
    if isinstance(connection, AzureOpenAIConnection):
        return AzureOpenAIModelConfiguration.from_connection(connection, judge_model)
    return OpenAIModelConfiguration.from_connection(connection, judge_model)

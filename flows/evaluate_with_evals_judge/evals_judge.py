"""The flow's node for each line: the chosen judges of Microsoft's package, side by side."""

from typing import TYPE_CHECKING, Optional, Union

from promptflow.connections import AzureOpenAIConnection, OpenAIConnection
from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .evals_judging.packages import EvaluatorError
    from .evals_judging.scores import Texts, judge_line
else:
    from evals_judging.packages import EvaluatorError
    from evals_judging.scores import Texts, judge_line


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

    An unknown judge, a blank text and an endpoint that fails fail the line, with one line.
    """
    try:
        texts = Texts(question, answer, ground_truth)
        return judge_line(evaluators, texts, connection, judge_model)
    except EvaluatorError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

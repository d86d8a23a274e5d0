"""The findings of Azure AI Content Safety in an answer, where there is a connection to it."""

from typing import TYPE_CHECKING

from promptflow.connections import AzureContentSafetyConnection
from promptflow.core import tool
from promptflow.exceptions import ErrorTarget, UserErrorException

# promptflow loads this from the flow's folder, and reads annotations as types: no __future__.
if TYPE_CHECKING or __package__:
    from .safety_rules.content import ContentSafety, NoVerdictError
else:
    from safety_rules.content import ContentSafety, NoVerdictError


@tool  # type: ignore[untyped-decorator]
def content_safety(
    answer: str, connection: AzureContentSafetyConnection = None, timeout: float = 30.0
) -> dict[str, int]:
    """The highest severity in ``answer`` by category, ``{}`` where there is no connection.

    Without a verdict of the service the line fails, since silence is not safety. The connection is
    given with ``--connections content_safety.connection=NAME``.
    """
    if connection is None or not answer.strip():
        return {}
    endpoint, version = connection.endpoint.rstrip("/"), connection.api_version
    try:
        return ContentSafety(endpoint, connection.api_key, version, timeout).severities(answer)
    except NoVerdictError as error:
        raise UserErrorException(message=str(error), target=ErrorTarget.TOOL) from None

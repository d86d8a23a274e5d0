"""A few questions to one deployment, asked as clients ask: by the chat client of the flow."""

from __future__ import annotations

from flows.chat.scoring_client import (
    Endpoint,
    EndpointError,
    EngineError,
    Generation,
    NotFoundError,
    ReplyError,
    Settings,
    ThrottledError,
    TimedOutError,
    UnavailableError,
)
from setup.azure.client.waiting import PAUSE, NotYetError, wait_until
from setup.common.console import progress_bar
from setup.recipe.azure import AzureRecipe

QUESTIONS = ("What is the capital of France?", "Say hello.")
_TOKENS = 32
_REPEATED = 4  # of the same letter are noise: what weights that are not numbers answer
PATIENCE = 45.0  # seconds
# One that has just come up may not be found for a moment, one with traffic may be busy.
_FOR_A_MOMENT = (NotFoundError, ThrottledError, UnavailableError)


class NoAnswerError(Exception):
    """The deployment does not answer, or answers noise; the message goes on from its name.

    Attributes:
        busy: It turned the question away or took too long: others keep it at work.
        wrong: It is the model, or what serves it, that is at fault.
    """

    def __init__(self, said: str, error: EndpointError | None = None) -> None:
        """``error`` is what the client met, None for noise."""
        super().__init__(said)
        self.busy = isinstance(error, ThrottledError | TimedOutError)
        self.wrong = error is None or isinstance(error, EngineError | ReplyError)


def ask_deployment(recipe: AzureRecipe, url: str, key: str, deployment: str) -> None:
    """Ask a deployment until every question has an answer, or raise NoAnswerError.

    The key goes into the header alone.
    """
    values = {
        "endpoint": url,
        "key": key,
        "deployment": deployment,
        "timeout": f"{recipe.endpoint.request_timeout_ms / 1000:g}",
    }
    endpoint = Endpoint(Settings.from_values(values))
    for question in QUESTIONS:
        with progress_bar(f"Asking {deployment}: {question}"):
            answer = _ask(endpoint, question)
        letters = "".join(answer.split())
        if len(letters) >= _REPEATED and len(set(letters)) == 1:
            raise NoAnswerError(f"answers {letters[:12]!r} to {question!r}")


def _ask(endpoint: Endpoint, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    misses: list[EndpointError] = []

    def answer() -> tuple[str] | None:
        try:
            return (endpoint.complete(messages, Generation(max_new_tokens=_TOKENS)).text,)
        except _FOR_A_MOMENT as error:
            misses.append(error)
            return None

    try:
        return wait_until(answer, PATIENCE, PAUSE, "")[0]
    except NotYetError:
        raise NoAnswerError(f"does not answer ({misses[-1].what})", misses[-1]) from None
    except EndpointError as error:
        raise NoAnswerError(f"does not answer ({error.what})", error) from None

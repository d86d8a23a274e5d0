"""A few questions to one deployment, asked as clients ask: by the chat client of the flow."""

from __future__ import annotations

from collections.abc import Sequence

from flows.chat import scoring_client as chat
from setup.azure.client import waiting
from setup.common.console import progress_bar
from setup.recipe.azure import AzureRecipe

QUESTIONS = ("What is the capital of France?", "Say hello.")
_TOKENS = 32
_REPEATED = 4  # of the same letter are noise: what weights that are not numbers answer
PATIENCE = 45.0  # seconds
# One that has just come up may not be found for a moment, one with traffic may be busy.
_FOR_A_MOMENT = (chat.NotFoundError, chat.ThrottledError, chat.UnavailableError)


class NoAnswerError(Exception):
    """The deployment does not answer, or answers noise; the message goes on from its name.

    Attributes:
        busy: It turned the question away or took too long: others keep it at work.
        wrong: It is the model, or what serves it, that is at fault.
        unread: It may have been asked in a way that it does not take.
    """

    def __init__(self, said: str, error: chat.EndpointError | None = None) -> None:
        """``error`` is what the client met, None for noise."""
        super().__init__(said)
        self.busy = isinstance(error, chat.ThrottledError | chat.TimedOutError)
        self.wrong = error is None or isinstance(error, chat.EngineError | chat.ReplyError)
        self.unread = isinstance(
            error,
            chat.RequestRefusedError | chat.ReplyError | chat.EngineError | chat.NotFoundError,
        )


def url_of(recipe: AzureRecipe, uri: str) -> str:
    """Return the URL that is asked: Azure names ``/score`` also where a server has another path."""
    is_other = recipe.endpoint.contract == "openai" and uri.rstrip("/").endswith("/score")
    return f"{uri.rstrip('/').removesuffix('/score')}/v1/chat/completions" if is_other else uri


def ask_deployment(
    recipe: AzureRecipe,
    url: str,
    key: str,
    deployment: str,
    questions: Sequence[str] = QUESTIONS,
) -> dict[str, str]:
    """Ask a deployment until every question has an answer, or raise NoAnswerError.

    Returns the keys of a connection that say how it is asked, as far as the recipe leaves that to
    be found out. The key goes into the header alone.
    """
    values = {
        "endpoint": url_of(recipe, url),
        "key": key,
        "deployment": deployment,
        "contract": recipe.endpoint.contract,
        "timeout": f"{recipe.endpoint.request_timeout_ms / 1000:g}",
    }
    endpoint = chat.Endpoint(chat.Settings.from_values(values))
    endpoint.forget()  # another version may be there than in an earlier step of this process
    for question in questions:
        with progress_bar(f"Asking {deployment}: {question}"):
            answer = _ask(endpoint, question)
        letters = "".join(answer.split())
        if len(letters) >= _REPEATED and len(set(letters)) == 1:
            raise NoAnswerError(f"answers {letters[:12]!r} to {question!r}")
    return endpoint.learnt()


def _ask(endpoint: chat.Endpoint, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    misses: list[chat.EndpointError] = []

    def answer() -> tuple[str] | None:
        try:
            return (endpoint.complete(messages, chat.Generation(max_new_tokens=_TOKENS)).text,)
        except _FOR_A_MOMENT as error:
            endpoint.forget()
            misses.append(error)
            return None

    try:
        return waiting.wait_until(answer, PATIENCE, waiting.PAUSE, "")[0]
    except waiting.NotYetError:
        raise NoAnswerError(f"does not answer ({misses[-1].what})", misses[-1]) from None
    except chat.EndpointError as error:
        raise NoAnswerError(f"does not answer ({error.what})", error) from None

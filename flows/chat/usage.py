"""The cost of an answer, kept in the record of a run beside it.

No ``from __future__ import annotations`` here: promptflow reads the annotations as types.
"""

from typing import Any, Optional

from promptflow.core import tool


class MeasuredText(str):
    """An answer that knows its tokens and seconds; to everyone else it is plain text.

    A node has one output, and the chat output must be text, or pieces of it when streamed. So what
    the endpoint says about an answer travels with the text to the node below, in one process.
    """

    __slots__ = ("usage",)
    usage: dict[str, Optional[float]]


def measured(text: str, tokens: dict[str, int], seconds: float) -> MeasuredText:
    """``text`` with the tokens the endpoint counted, where it did, and the seconds it took.

    JSON can carry half a character (an unpaired surrogate), which promptflow cannot write to a file
    and would fail the line for: it becomes U+FFFD.
    """
    answer = MeasuredText(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    answer.usage = {
        "prompt_tokens": tokens.get("prompt_tokens"),
        "completion_tokens": tokens.get("completion_tokens"),
        "seconds": round(seconds, 4),
    }
    return answer


@tool  # type: ignore[untyped-decorator]
def usage(answer: Any) -> dict[str, Any]:
    """``{"prompt_tokens", "completion_tokens", "seconds"}``, each null where nobody knows.

    A streamed answer is not touched: reading it here would keep its pieces from the reader.
    """
    unknown = dict.fromkeys(("prompt_tokens", "completion_tokens", "seconds"))
    return getattr(answer, "usage", unknown)

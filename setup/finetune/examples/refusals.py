"""Reasons for which no example can be made of a conversation."""

from __future__ import annotations


class NotTrainableError(ValueError):
    """A conversation no example can be made of; the message says why, ``fix`` what helps."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.fix = fix


class RefusedByTemplateError(NotTrainableError):
    """The chat template itself raised an error."""


class ToolsUnknownError(NotTrainableError):
    """The chat template does not write the tools of a conversation."""

    def __init__(self, why: str) -> None:
        super().__init__(
            why,
            "take the rows with tools out of data.source, or use a model whose chat template knows "
            "tools (model.source)",
        )


class TooLongError(NotTrainableError):
    """The last exchange alone is of ``tokens`` tokens, more than ``max_tokens``."""

    def __init__(self, tokens: int, max_tokens: int) -> None:
        super().__init__(f"its last exchange is longer than {max_tokens} tokens: {tokens}")
        self.tokens = tokens


class RewrittenError(NotTrainableError):
    """The chat template writes an answer otherwise once more turns follow."""


class JoinedError(RewrittenError):
    """A token of the prompt reaches over the place ``start`` where the model begins to answer."""

    def __init__(self, start: int) -> None:
        super().__init__("its first letters are one token with the end of the prompt")
        self.start = start

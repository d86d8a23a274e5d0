"""The body of ``POST /feedback``: an answer, all that was said before, and what of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from setup.recipe.local import NAME
from setup.serve.contract.messages import Message, Part

CONVERSATION_ID = r"^[\w.:-]{1,64}$"


class Rating(Part):
    """An opinion of an answer.

    The last one that comes for an ``id`` holds; one that says nothing takes it back.
    """

    id: str = Field(pattern=r"^[\w.:-]{1,128}$")
    conversation_id: Annotated[str, Field(pattern=CONVERSATION_ID)] | None = None
    deployment: str = Field(pattern=NAME)
    messages: list[Message] = Field(min_length=1)
    answer: str
    rating: Literal["up", "down"] | None = None
    comment: Annotated[str, Field(max_length=10_000)] = ""
    correction: str = ""

    @field_validator("messages")
    @classmethod
    def _end_with_a_question(cls, turns: list[Message]) -> list[Message]:
        if turns[-1].role != "user":
            raise ValueError("the last turn must be the user's: answer is the answer to it")
        return turns

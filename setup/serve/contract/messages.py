"""The turns of a conversation, as both contracts take them: text, calls of tools, their results.

What these classes do not declare is refused by name. llama.cpp accepts nearly anything in silence
(unknown roles, tools that its template has no place for), so all is checked before it is asked.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

# What asks for nothing, in a field that nobody reads.
NOTHING: tuple[Any, ...] = (None, [], {})
# But this one switches something on by being there.
_ASKS = {"web_search_options"}


class Part(BaseModel):
    """A part of a request: null is as absent, and what it does not declare is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        read = {field.alias or name for name, field in cls.model_fields.items()} | _ASKS
        return {
            name: content
            for name, content in value.items()
            if content is not None and (name in read or content not in NOTHING)
        }


class TextPart(Part):
    """A piece of a turn's text."""

    type: Literal["text"]
    text: str


_TEXT_PARTS = TypeAdapter(list[TextPart])


def _join_text_parts(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else part
        if kind != "text":
            raise ValueError(f"part {number} is {kind!r}, and the model reads text alone")
    return "".join(part.text for part in _TEXT_PARTS.validate_python(value))


FunctionName = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]


def _an_object(text: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("a call's arguments are the text of a JSON object")
    return text


class CalledFunction(Part):
    """The function of a call, and its arguments as the text of a JSON object."""

    name: FunctionName
    arguments: Annotated[str, AfterValidator(_an_object)]


class Call(Part):
    """A call of a tool, as an earlier answer held it."""

    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: CalledFunction


def _known_role(value: Any) -> Any:
    if value == "function":
        raise ValueError("a turn of role 'function' is refused: give it as 'tool'")
    return "system" if value == "developer" else value


Role = Literal["system", "user", "assistant", "tool"]
AnyRole = Literal["system", "developer", "user", "assistant", "tool"]
Text = Annotated[
    str,
    BeforeValidator(
        _join_text_parts,
        json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)],
    ),
]


class Message(Part):
    """One turn of a conversation; ``name`` is of the function whose result a ``tool`` turn is."""

    role: Annotated[Role, BeforeValidator(_known_role, json_schema_input_type=AnyRole)]
    content: Text | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _fields_of_its_role(self) -> Message:
        of_tool = {"tool_call_id": self.tool_call_id, "name": self.name}
        strange = [name for name, value in of_tool.items() if value is not None]
        if self.role != "tool" and strange:
            raise ValueError(f"{strange[0]}: a turn of role {self.role!r} has none here")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("tool_call_id: a turn of role 'tool' names the call it answers")
        if self.role != "assistant" and self.tool_calls:
            raise ValueError(f"tool_calls: a turn of role {self.role!r} has none")
        if self.content is None and not self.tool_calls:
            raise ValueError("content: Field required")
        return self

    def as_sent(self) -> dict[str, Any]:
        """The turn as the engine takes it."""
        turn = self.model_dump(exclude_none=True)
        if not turn.get("tool_calls"):
            turn.pop("tool_calls", None)
        return {"content": "", **turn}


def _calls_have_results(turns: list[Message]) -> list[Message]:
    """Refuse a result of no call, and calls whose results do not follow them."""
    waiting: dict[str, str] = {}
    for number, turn in enumerate(turns):
        if turn.role == "tool":
            name = waiting.pop(str(turn.tool_call_id), None)
            if name is None:
                raise ValueError(f"turn {number}: tool_call_id is of no call that it follows")
            if turn.name not in (None, name):
                raise ValueError(f"turn {number}: name is not of the function called, {name!r}")
        elif waiting:
            raise ValueError(f"turn {number} comes before the result of call {next(iter(waiting))}")
        waiting |= {call.id: call.function.name for call in turn.tool_calls or []}
    if waiting:
        raise ValueError(
            f"the result of call {next(iter(waiting))} is missing: a turn of role tool"
        )
    return turns


Messages = Annotated[list[Message], Field(min_length=1), AfterValidator(_calls_have_results)]


def uses_tools(turns: list[dict[str, Any]]) -> bool:
    """Tell whether there are calls or their results among ``turns``, as the engine takes them."""
    return any(turn.get("tool_calls") or turn["role"] == "tool" for turn in turns)

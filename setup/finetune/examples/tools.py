"""Tools in a conversation: what the chat template gets of them, and what it must have written.

A template that does not know tools leaves them out without a word: the model would learn to answer
from nothing. So the rendered text is held against what it should say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from setup.finetune.examples.refusals import NotTrainableError, ToolsUnknownError

if TYPE_CHECKING:
    from setup.finetune.examples.render import Rendered, Renderer

Message = dict[str, Any]
_MARK = "fdd3a-answer"
_OF_A_TOOL = ("tool_call_id", "name")


class Conversation(list[Message]):
    """The turns of a conversation, the tools that it offers, and if it is there once more."""

    def __init__(
        self, turns: Sequence[Message], tools: Sequence[Any] = (), is_copy: bool = False
    ) -> None:
        super().__init__(turns)
        self.tools, self.is_copy = list(tools), is_copy


def tools_of(turns: Sequence[Message]) -> list[Any]:
    """The tools that a conversation offers."""
    return turns.tools if isinstance(turns, Conversation) else []


def uses_tools(turns: Sequence[Message]) -> bool:
    """Tell whether a conversation offers, calls or answers for tools."""
    return bool(tools_of(turns)) or any(
        turn["role"] == "tool" or turn.get("tool_calls") for turn in turns
    )


def read_turn(message: Message) -> Message:
    """What a turn has of tools beside its text."""
    if message["role"] == "tool":
        return {name: message[name] for name in _OF_A_TOOL if message.get(name)}
    calls = message.get("tool_calls")
    return {"tool_calls": calls} if calls and message["role"] == "assistant" else {}


def for_template(turns: Sequence[Message]) -> list[Message]:
    """The turns as chat templates take them: no weight, arguments as objects, answers by name."""
    names: dict[Any, str] = {}
    made = []
    for turn in turns:
        plain = {"role": turn["role"], "content": turn["content"]}
        if calls := turn.get("tool_calls"):
            plain["tool_calls"] = [_call(call) for call in calls]
            names = {call.get("id"): call["function"]["name"] for call in calls}
        elif turn["role"] == "tool":
            plain |= {name: turn[name] for name in _OF_A_TOOL if name in turn}
            only = next(iter(names.values())) if len(names) == 1 else None
            if name := turn.get("name") or names.get(turn.get("tool_call_id"), only):
                plain["name"] = name
        made.append(plain)
    return made


def _unwritten(turn: Message, written: str) -> str:
    """What of a turn that calls tools is not in ``written``, "" where all of it is."""
    for call in turn["tool_calls"]:
        function = _call(call)["function"]
        arguments = function["arguments"]
        for said in (function["name"], *_leaves(arguments)):
            if not any(form in written for form in _forms(said)):
                return str(said)
    content = turn["content"].strip()
    return "" if content in written else str(content)


def refuse_unknown(
    turns: Sequence[Message], kept: list[Message], text: str, renderer: Renderer
) -> None:
    """See that ``text``, of what was kept of ``turns``, has the offers and answers of tools.

    Raises:
        NotTrainableError: It has not, or holds a token that only the template may write.
    """
    if renderer.holds_control(_written_out(turns)):
        raise NotTrainableError("a tool or a call of one contains a special token of the model")
    if tools_of(turns) and text == renderer.offering([]).text(kept):
        raise ToolsUnknownError("the chat template does not show the tools that are offered")
    answers = sum(turn["role"] == "tool" for turn in kept)
    marked = [turn | {"content": _MARK} if turn["role"] == "tool" else turn for turn in kept]
    # A mark, for "7" may be in the text without being said by the tool.
    if answers and renderer.text(marked).count(_MARK) < answers:
        raise ToolsUnknownError("the chat template leaves out what a tool answers")


def stop_of_calls(turns: list[Message], rendered: Rendered, first: int, renderer: Renderer) -> int:
    """The token that ends the last of ``turns``, which begins with token ``first``.

    Such a turn may hold special tokens of its own: it is the first of those behind the last thing
    said.

    Raises:
        NotTrainableError: There is none, or a part of a call is not in the text.
    """
    until = renderer.text(turns)
    end = len(until) if rendered.text.startswith(until) else 0
    stop = None
    for token in range(len(rendered) - 1, first - 1, -1):
        begin, until_here = rendered.offsets[token]
        if until_here > end:
            continue
        if rendered.ids[token] in renderer.control_ids:
            stop = token
        elif stop is not None or rendered.text[begin:until_here].strip():
            break
    if stop is None:
        raise NotTrainableError("the chat template ends a call of a tool without a stop token")
    written = rendered.text[rendered.offsets[first][0] : rendered.offsets[stop][0]]
    if missing := _unwritten(turns[-1], written):
        raise ToolsUnknownError(
            f"the chat template does not write a call of a tool: {missing[:40]!r} is missing"
        )
    return stop


def _written_out(turns: Sequence[Message]) -> str:
    """All that the template writes of calls and offers, as one text."""
    calls = [turn["tool_calls"] for turn in turns if turn.get("tool_calls")]
    return json.dumps([calls, tools_of(turns)], ensure_ascii=False)


def _call(call: Message) -> Message:
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = json.loads(arguments)
    arguments = {} if arguments is None else arguments
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _forms(value: Any) -> Iterator[str]:
    """The ways in which a template may write a value: as it is, or within JSON."""
    yield str(value)
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        yield text[1:-1] if isinstance(value, str) else text

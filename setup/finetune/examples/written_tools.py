"""The tools in a rendered text, held against what it should say of them.

A template that does not know tools leaves them out without a word: the model would learn to answer
from nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from setup.finetune.examples.chat_template import Rendered, Renderer
from setup.finetune.examples.refusals import NotTrainableError, ToolsUnknownError
from setup.finetune.examples.tools import Message, call_of, tools_of

_MARK = "fdd3a-answer"


def _unwritten(turn: Message, written: str) -> str:
    """The part of a turn that calls tools which is not in ``written``, "" where all of it is."""
    for call in turn["tool_calls"]:
        function = call_of(call)["function"]
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
        if rendered.ids[token] in renderer.special:
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

"""JSON schemas and tools: the engine holds an answer to them, or the request is refused.

Of a grammar that it cannot take, llama.cpp tells its log alone and lets the model say anything. So
each one is tried on a few tokens first, and an answer is read before it is vouched for.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.contract.grammars import HEAD, check_json, grammar_for, holds_json
from setup.serve.contract.messages import uses_tools
from setup.serve.contract.tool_calls import CallForm, Wish
from setup.serve.engine import Engine

_MARK = "~#~"
_TRIED_AT_MOST = 256
# llguidance's own words, without the place in the grammar and the schema, which follow.
_WORDS = re.compile(
    r"llg error: (?:at [^:]*: )?(?:failed to compile JSON schema: )?(.+?)(?=\n\s*\d+ \||\n<|\Z)",
    re.DOTALL,
)


async def see_obeyed(engine: Engine, body: dict[str, Any], wish: Wish | None) -> CallForm | None:
    """Refuse, with 400, what the engine would leave out of ``body`` in silence.

    Returns the form in which an answer may call the tools of ``wish``, None where it may call none.
    """
    if "logit_bias" in body:
        known = await engine.vocabulary()
        unknown = next((token for token in body["logit_bias"] if int(token) >= known), None)
        if unknown is not None:
            field = f"logit_bias.{unknown}"
            raise ApiError(400, f"{field}: the model's token ids are below {known}", param=field)
    form = await _told_tools(engine, body, wish)
    if str(body.get("grammar", "")).startswith(HEAD):
        await _try(engine, body["grammar"], "tools" if form else "")
    return form


async def _told_tools(engine: Engine, body: dict[str, Any], wish: Wish | None) -> CallForm | None:
    """Tell the template of the tools, and hold the answer to the way in which it calls them."""
    if wish is None and not uses_tools(body["messages"]):
        return None
    field, form = "tools" if wish else "messages", await engine.call_form()
    if form is None or (not form.results and uses_tools(body["messages"])):
        lacks = "has no place for tools" if form is None else "has no place for what a tool returns"
        message = f"{field}: the chat template of this model {lacks}, so they are refused"
        raise ApiError(400, message, code="unsupported_parameter", param=field)
    if wish is None:
        return None
    body["chat_template_kwargs"] = {"tools": wish.told}
    if not wish.schemas:
        return None
    if wish.otherwise is not None and form.mark.startswith("{"):
        message = "response_format: this model's calls cannot be told from JSON, so not with tools"
        raise ApiError(400, message, code="unsupported_parameter", param="response_format")
    for name, schema in wish.schemas.items():
        await _try(engine, grammar_for(schema), f"tools: {name}")
    body["grammar"] = form.grammar(wish)
    return form


async def _try(engine: Engine, grammar: str, place: str) -> None:
    """Refuse a grammar that the engine does not take; quick for one that it has seen before."""
    async with engine.trying:
        if grammar not in engine.tried:
            if len(engine.tried) >= _TRIED_AT_MOST:
                engine.tried.clear()
            engine.tried[grammar] = await _complaint(engine, grammar)
        complaint = engine.tried[grammar]
    if complaint:
        message = f"the JSON schema cannot be obeyed, so it is refused: {complaint}"
        param = place.partition(":")[0] or None
        message = f"{place}: {message}" if place else message
        raise ApiError(400, message, code="unsupported_schema", param=param)


async def _complaint(engine: Engine, grammar: str) -> str:
    """Nothing where the answer begins with a mark that stands before the rest, and goes on."""
    before = engine.log_size
    marked = grammar.replace("start: ", f'start: "{_MARK}" answered\nanswered: ', 1)
    body = {"prompt": "x", "n_predict": 8, "temperature": 0, "grammar": marked}
    text = str((await engine.post("/completion", body))["content"])
    try:
        if holds_json({"grammar": grammar}):
            check_json(text.removeprefix(_MARK), cut=True)
        return "" if text.startswith(_MARK) else await _logged(engine, before)
    except EngineError:
        return await _logged(engine, before)


async def _logged(engine: Engine, before: int) -> str:
    for _ in range(50):
        log = engine.log_since(before)
        if words := _WORDS.search(log):
            return " ".join(words[1].split())[:200]
        await asyncio.sleep(0.02)  # the engine answers a moment before it writes
    return "the engine does not say why"

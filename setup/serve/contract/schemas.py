"""JSON schemas and tools: the engine holds an answer to them, or the request is refused.

Of a grammar that it cannot take, llama.cpp tells its log alone and lets the model say anything. So
each one is tried on a few tokens first, and an answer is read before it is vouched for.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from setup.serve.contract.error_reply import ApiError, EngineError
from setup.serve.contract.fit import check_json
from setup.serve.contract.grammars import HEAD, grammar_for, holds_json
from setup.serve.contract.messages import uses_tools
from setup.serve.contract.tool_calls import CallForm, Wish
from setup.serve.engine import Engine

_MARK = "~#~"
_TRIED_AT_MOST = 256
_A_MOMENT = 0.02  # seconds: the engine answers before it writes to its log
# llguidance's own words, without the place in the grammar and the schema, which follow.
_WORDS = re.compile(
    r"llg error: (?:at [^:]*: )?(?:failed to compile JSON schema: )?(.+?)(?=\n\s*\d+ \||\n<|\Z)",
    re.DOTALL,
)
_GBNF_WORDS = re.compile(r"error parsing grammar: (.+)")
# What of llguidance's words nobody who writes a schema knows.
_ADVICE = {
    "coerce_one_of": "oneOf where two alternatives may both fit; anyOf is obeyed",
    "NoExtensionBias": "there is nothing that it allows",
}


async def see_obeyed(
    engine: Engine, body: dict[str, Any], wish: Wish | None, constraint: str = ""
) -> CallForm | None:
    """Refuse, with 400, what the engine would leave out of ``body`` in silence.

    ``constraint`` is the field of the request that the body's grammar was made of.
    Returns the form in which an answer may call the tools of ``wish``, None where it may call none.
    """
    if "logit_bias" in body:
        known = await engine.vocabulary()
        unknown = next((token for token in body["logit_bias"] if int(token) >= known), None)
        if unknown is not None:
            field = f"logit_bias.{unknown}"
            raise ApiError(400, f"{field}: the model's token ids are below {known}", param=field)
    form = await _told_tools(engine, body, wish)
    if "grammar" in body:
        await _try(engine, body["grammar"], "tools" if form else constraint)
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
    if complaint and not grammar.startswith(HEAD):
        message = f"{place}: llama.cpp cannot read it as GBNF: {complaint}"
        raise ApiError(400, message, code="invalid_value", param=place)
    if complaint:
        message = f"{place}: the JSON schema cannot be obeyed, so it is refused: {complaint}"
        param = place.partition(":")[0]
        raise ApiError(400, message, code="unsupported_schema", param=param)


async def _complaint(engine: Engine, grammar: str) -> str:
    if not grammar.startswith(HEAD):
        return await _gbnf_complaint(engine, grammar)
    marked = grammar.replace("start: ", f'start: "{_MARK}" answered\nanswered: ', 1)
    body = {"prompt": "x", "n_predict": 8, "temperature": 0, "grammar": marked}
    for _ in range(2):  # the log may tell of another answer, but hardly twice
        before = engine.log_size
        text = str((await engine.post("/completion", body))["content"])
        if not _is_held(text, grammar):
            break
        await asyncio.sleep(_A_MOMENT)
        if not _WORDS.search(engine.log_since(before)):
            return ""
    return await _logged(engine, before, _WORDS)


async def _gbnf_complaint(engine: Engine, grammar: str) -> str:
    before = engine.log_size
    try:
        await engine.post("/completion", {"prompt": "x", "n_predict": 1, "grammar": grammar})
    except EngineError as error:
        if error.status != 400:
            raise
        return await _logged(engine, before, _GBNF_WORDS)
    return ""


def _is_held(text: str, grammar: str) -> bool:
    """Tell whether an answer begins with the mark, which stands before the rest, and goes on."""
    if not text.startswith(_MARK):
        return False
    if holds_json(grammar):
        try:
            check_json(text.removeprefix(_MARK), cut=True)
        except EngineError:
            return False
    return True


async def _logged(engine: Engine, before: int, words: re.Pattern[str]) -> str:
    for _ in range(50):
        log = engine.log_since(before)
        if said := words.search(log):
            known = (advice for mark, advice in _ADVICE.items() if mark in said[1])
            return next(known, " ".join(said[1].split())[:200])
        await asyncio.sleep(_A_MOMENT)
    return "the engine does not say why"

"""Ask the chat agent, serve it as Foundry hosts agents, or open a page on it.

``python -m flows.chat_agent ask|serve|page``, in the environment that ``make agents`` makes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from typing import Any

from agent_framework import Agent, Message

from flows.chat.scoring_client import EndpointError
from flows.chat_agent.chat_client import chat_agent
from flows.chat_agent.connection import connection_values


def main() -> None:
    """Run one of the three commands; a failure is one line and exit 1."""
    example = 'Example: python -m flows.chat_agent ask "How long can I return a lamp?"'
    parser = argparse.ArgumentParser(prog="python -m flows.chat_agent", epilog=example)
    parser.add_argument("command", choices=("ask", "serve", "page"))
    parser.add_argument("question", nargs="?", help="for ask; without it rows of JSON from stdin")
    parser.add_argument("--connection", default="phi", help="as setup connect names it")
    parser.add_argument("--system", default="", help="text before every conversation")
    parser.add_argument("--workers", type=int, default=16, help="of ask: rows asked at a time")
    parser.add_argument("--host", default="0.0.0.0", help="of serve, whose port is $PORT or 8088")  # noqa: S104
    parser.add_argument("--port", type=int, default=8090, help="of page, on 127.0.0.1")
    parser.add_argument("--no-browser", action="store_true", help="of page: only serve it")
    options = parser.parse_args()
    logging.getLogger("agent_framework").setLevel(logging.ERROR)
    try:
        agent = chat_agent(connection_values(options.connection), options.system)
        {"ask": _ask, "serve": _serve, "page": _page}[options.command](agent, options)
    except EndpointError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _ask(agent: Agent, options: argparse.Namespace) -> None:
    if options.question:
        asyncio.run(_print_pieces(agent, options.question))
    elif asyncio.run(_answer_rows(agent, options.workers)):
        sys.exit(1)


async def _print_pieces(agent: Agent, question: str) -> None:
    try:
        async for update in agent.run(question, stream=True):
            _say(update.text)
    except Exception as error:  # noqa: BLE001 - the framework wraps ours in its own
        sys.exit(str(error))
    _say("\n")


async def _answer_rows(agent: Agent, workers: int) -> int:
    """Print a line of JSON for each row, in the order of their answers; returns how many failed."""
    slots, failed = asyncio.Semaphore(workers), 0

    async def answer(number: int, row: dict[str, Any]) -> dict[str, Any]:
        messages = [Message("user", [row["question"]])]
        for turn in reversed(row.get("chat_history") or []):
            texts = {"user": turn["inputs"]["question"], "assistant": turn["outputs"]["answer"]}
            messages[:0] = [Message(role, [text]) for role, text in texts.items()]
        async with slots:
            try:
                response = await agent.run(messages)
            except Exception as error:  # noqa: BLE001 - a failed row stays a failed row
                return {"line_number": number, "error": str(error)}
        usage = dict(response.usage_details or {})
        return {"line_number": number, "answer": response.text, "usage": usage}

    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    for done in asyncio.as_completed([answer(number, row) for number, row in enumerate(rows)]):
        line = await done
        failed += "error" in line
        _say(f"{json.dumps(line)}\n")
    return failed


def _serve(agent: Agent, options: argparse.Namespace) -> None:
    from agent_framework_foundry_hosting import ResponsesHostServer

    with tempfile.TemporaryDirectory() as state:
        # Unless Foundry keeps them, conversations are gone with the server, and in no log.
        os.environ.setdefault("AGENTSERVER_STATE_ROOT", state)
        traced = "APPLICATIONINSIGHTS_CONNECTION_STRING" in os.environ
        quiet = {} if traced else {"configure_observability": None}
        ResponsesHostServer(
            agent, prepare_options=_all_fields, unsupported_options="error", **quiet
        ).run(host=options.host)


def _all_fields(request: Any, chosen: dict[str, Any]) -> dict[str, Any]:
    """Add the fields that the host does not pass on, so that the client can refuse them by name."""
    form = (request.request.get("text") or {}).get("format") or {"type": "text"}
    structured = None if form["type"] == "text" else form
    return {**chosen, "tools": request.request.get("tools"), "response_format": structured}


def _page(agent: Agent, options: argparse.Namespace) -> None:
    from agent_framework.devui import serve

    browser = not options.no_browser
    serve([agent], port=options.port, host="127.0.0.1", auto_open=browser, auth_enabled=False)


if __name__ == "__main__":
    main()

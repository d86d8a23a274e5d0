"""Ask the chat agent, serve it as Foundry hosts agents, or open a page on it: ``make agents``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from agent_framework import Agent, Message
from agent_framework.exceptions import AgentFrameworkException

from flows.chat.scoring_client.conversation import turns_of
from flows.chat.scoring_client.tracing import collector
from flows.chat_agent.chat_client import ScoringChatClient


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
    args = parser.parse_args()
    logging.getLogger("agent_framework").setLevel(50 if args.command == "ask" else 40)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    try:
        client = ScoringChatClient(args.connection)
        agent = Agent(client, args.system or None, id="chat", name="chat")
        collector.trace_all("finetune-phi-agent", hosted=args.command == "serve")
        if args.command == "ask":
            sys.exit(asyncio.run(_ask(agent, args)))
        (_serve if args.command == "serve" else _page)(agent, args)
    except AgentFrameworkException as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


async def _ask(agent: Agent, args: argparse.Namespace) -> bool:
    """Print the answer as it comes; of rows a line of JSON each. True where one failed."""
    if args.question:
        async for update in agent.run(args.question, stream=True):
            sys.stdout.write(update.text)
        return not sys.stdout.write("\n")
    rows = [line for line in sys.stdin if line.strip()]
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(args.workers))
    return any(await asyncio.gather(*(_answer(agent, *row) for row in enumerate(rows))))


async def _answer(agent: Agent, number: int, line: str) -> bool:
    try:
        row = json.loads(line)
        turns = turns_of(row.get("chat_history"))
        said = [pair for turn in turns for pair in zip(("user", "assistant"), turn)]
        messages = [Message(role, [text]) for role, text in (*said, ("user", row["question"]))]
        reply = await agent.run(messages, options=row.get("options"))
        told = {"answer": reply.text, "usage": dict(reply.usage_details or {})}
    except Exception as error:  # noqa: BLE001 - a failed row stays a failed row
        kind = "" if isinstance(error, AgentFrameworkException) else f"{type(error).__name__}: "
        told = {"error": f"{kind}{error}"}
    sys.stdout.write(json.dumps({"line_number": number, **told}) + "\n")
    return "error" in told


def _serve(agent: Agent, args: argparse.Namespace) -> None:
    from agent_framework_foundry_hosting import ResponsesHostServer

    with tempfile.TemporaryDirectory() as state:
        # Unless Foundry keeps them, conversations are gone with the server, and in no log.
        os.environ.setdefault("AGENTSERVER_STATE_ROOT", state)
        traced = "APPLICATIONINSIGHTS_CONNECTION_STRING" in os.environ
        quiet = {} if traced else {"configure_observability": None}
        ResponsesHostServer(agent, **quiet).run(host=args.host)


def _page(agent: Agent, args: argparse.Namespace) -> None:
    from agent_framework.devui import serve

    place = {"host": "127.0.0.1", "port": args.port, "auth_enabled": False}
    serve([agent], auto_open=not args.no_browser, **place)


if __name__ == "__main__":
    main()

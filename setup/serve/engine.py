"""A deployment's engine process seen from the endpoint: start, ask, stop."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from setup.common.paths import REPOSITORY
from setup.serve import tracing
from setup.serve.contract import tool_calls as tools
from setup.serve.contract.error_reply import EngineError
from setup.serve.contract.folding import PROBES, Taken, judge
from setup.serve.settings import DeploymentSettings

_COMPLETIONS, _TEMPLATE = "/v1/chat/completions", "/apply-template"


class Engine:
    """One running llama.cpp process that speaks HTTP on a loopback port with a key of its own.

    Whatever asks it raises EngineError where it answers with an error, or dies while answering.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession, log: Path
    ) -> None:
        self._process, self._session, self._log = process, session, log
        self._vocabulary = 0
        self._taken = Taken()
        self._form: list[tools.CallForm | None] = []
        self.tried: dict[str, str] = {}
        self.trying = asyncio.Lock()

    @classmethod
    async def start(cls, name: str, settings: DeploymentSettings, folder: Path) -> Engine:
        """Load the model; returns when it is ready to answer.

        EngineError where it does not come up within ``settings.start_timeout`` seconds.
        """
        key, log = secrets.token_urlsafe(24), folder / f"engine-{name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "setup.serve.engine_process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=REPOSITORY,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # it exists on Windows
            )
        order = json.dumps(engine_order(name, settings, key)).encode() + b"\n"
        try:
            if process.stdin is None or process.stdout is None:
                raise ValueError("the engine process has no pipes")
            process.stdin.write(order)
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), settings.start_timeout)
            url = str(json.loads(line)["url"])
        except BaseException as error:
            # Also when the one who asked for it has gone: no half-started engine stays behind.
            await _end(process)
            if not isinstance(error, (asyncio.TimeoutError, ValueError, ConnectionError)):
                raise
            slow = isinstance(error, asyncio.TimeoutError)
            reason = f"not ready after {settings.start_timeout:g} s" if slow else _last_line(log)
            raise EngineError(424, f"{settings.model_path} did not load: {reason}") from None
        engine = cls(process, open_session(url, key), log)
        engine._taken = await engine._ask_template()
        return engine

    @property
    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.returncode is None

    @property
    def log_size(self) -> int:
        """Bytes of its log."""
        return self._log.stat().st_size

    def log_since(self, size: int) -> str:
        """Return the part of its log after the first ``size`` bytes."""
        with self._log.open("rb") as file:
            file.seek(size)
            return file.read().decode("utf-8", "replace")

    async def wait(self) -> str:
        """Wait for the process to end; returns the last line it left in its log."""
        await self._process.wait()
        return _last_line(self._log)

    async def stands_still(self, limit: float) -> bool:
        """Tell whether its loop has taken up nothing for ``limit`` seconds.

        Some grammars, of few letters, have more ways on than it will ever have counted.
        """
        try:
            async with asyncio.timeout(limit):
                with suppress(EngineError):  # it answers, or its end is seen elsewhere
                    await self.post("/slots", None)
        except TimeoutError:
            return True
        return False

    def kill(self) -> None:
        """End the process without asking it."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def post(self, route: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Ask the engine and return its reply; GET where there is no ``body``."""
        async with self._ask(route, body) as response:
            return dict(await response.json(content_type=None))

    async def vocabulary(self) -> int:
        """The number of tokens that the model knows; their ids are those below it."""
        if not self._vocabulary:
            reply = await self.post("/v1/models", None)
            self._vocabulary = int(reply["data"][0]["meta"]["n_vocab"])
        return self._vocabulary

    async def call_form(self) -> tools.CallForm | None:
        """The form in which the chat template writes calls of tools, None where it does not."""
        if not self._form:
            kwargs = {"tools": [tools.PROBE_TOOL]}
            prompts = await self._prompts(tools.PROBES, {"chat_template_kwargs": kwargs})
            self._form = [tools.form_of(prompts)]
        return self._form[0]

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole chat completion; cancelling the call frees the engine's slot."""
        body = self._folded(body) | {"stream": False}
        with tracing.engine_call(body) as call:
            completion = await self.post(_COMPLETIONS, body)
            if call:
                call.answered(completion)
        return completion

    async def prompt(self, messages: list[dict[str, Any]]) -> str:
        """The text that ``messages`` make in the model's chat template."""
        reply = await self.post(_TEMPLATE, self._folded({"messages": messages}))
        return str(reply["prompt"])

    @asynccontextmanager
    async def stream(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The server-sent events of a chat completion as the engine writes them.

        Whoever reads them sees to the stops, and ends it there: see ``answering.stops``.
        """
        body = self._folded(body) | {"stream": True}
        with tracing.engine_call(body) as call:
            if body.pop("stop", None):
                body["timings_per_token"] = True
            async with self._ask(_COMPLETIONS, body) as response:
                pieces = response.content.iter_any()
                yield call.watched(pieces) if call else pieces

    async def stop(self) -> None:
        """End the process; whoever still waits for an answer gets an EngineError."""
        await self._session.close()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            await _end(self._process)

    def _folded(self, body: dict[str, Any]) -> dict[str, Any]:
        """``body`` with turns that the chat template takes, as training folds them."""
        return {**body, "messages": self._taken.fold(body["messages"])}

    async def _ask_template(self) -> Taken:
        """Find what the chat template takes. llama.cpp helps itself without a system role.

        But with another text in between than ours, and so with another prompt than was trained.
        """
        prompts = await self._prompts(PROBES, {})
        abilities = (await self.post("/props", None)).get("chat_template_caps", {})
        return judge(prompts, abilities.get("supports_system_role"))

    async def _prompts(
        self, conversations: Mapping[str, list[dict[str, Any]]], fields: dict[str, Any]
    ) -> dict[str, str | None]:
        """The prompt of each conversation, None where the template refuses it."""
        prompts: dict[str, str | None] = {}
        for name, turns in conversations.items():
            try:
                prompts[name] = str(
                    (await self.post(_TEMPLATE, {"messages": turns, **fields}))["prompt"]
                )
            except (EngineError, KeyError):
                prompts[name] = None
        return prompts

    @asynccontextmanager
    async def _ask(
        self, route: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        method, headers = "GET" if body is None else "POST", tracing.headers()
        try:
            async with self._session.request(method, route, json=body, headers=headers) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, ValueError, RuntimeError) as error:
            raise EngineError(502, f"the engine failed ({type(error).__name__})") from error


def open_session(url: str, key: str) -> aiohttp.ClientSession:
    """Connections to the engine at ``url``, without limits of their own and each for one question.

    A kept one would occupy a thread of llama.cpp until it is closed, so that new ones wait; and it
    may be closed just as it is used again. A new one to the same machine takes about a millisecond.
    """
    return aiohttp.ClientSession(
        url,
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
    )


def engine_order(name: str, settings: DeploymentSettings, key: str) -> dict[str, Any]:
    """Return the order an engine process reads on stdin, see ``engine_process.start_engine``."""
    order = settings.model_dump(include={"model_path", "context_window", "slots"})
    return {"name": name, "key": key, "threads": settings.engine_threads, **order}


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _refusal(status: int, body: bytes) -> EngineError:
    try:
        error = json.loads(body)["error"]
        return EngineError(status, str(error["message"]), str(error.get("type", "")))
    except (ValueError, KeyError, TypeError):
        return EngineError(status, f"the engine answered {status}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"

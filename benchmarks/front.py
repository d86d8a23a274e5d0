"""Our endpoint in front of an engine that runs already: ``python -m benchmarks.front FOLDER URL``.

Two processes of the same engine differ by up to a tenth in speed for as long as they live. To
measure what the endpoint itself costs, one engine is asked directly and through it. The key of the
engine comes on stdin.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from setup.serve.engine import Engine, open_session
from setup.serve.server import serve
from setup.serve.settings import DeploymentSettings


class AttachedEngine(Engine):
    """An engine that somebody else started and will stop."""

    def __init__(self, url: str, key: str) -> None:
        process: Any = None  # nothing here asks for it
        super().__init__(process, open_session(url, key), Path())

    @property
    def alive(self) -> bool:
        """Always, here."""
        return True

    async def wait(self) -> str:
        """For ever."""
        await asyncio.Event().wait()
        return ""

    async def stop(self) -> None:
        """Leave it running."""
        await self._session.close()


def main() -> None:
    """Serve FOLDER with the engine at URL behind every deployment."""
    folder, url, key = Path(sys.argv[1]), sys.argv[2], sys.stdin.readline().strip()

    async def attach(_name: str, _settings: DeploymentSettings, _folder: Path) -> Engine:
        return AttachedEngine(url, key)

    Engine.start = attach  # type: ignore[method-assign,assignment]
    asyncio.run(serve(folder))


if __name__ == "__main__":
    main()

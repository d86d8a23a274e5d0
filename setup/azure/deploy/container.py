"""The environment of a GGUF deployment: an image of llama.cpp behind the local endpoint's routes.

Its version is the start of the SHA-256 of what goes into the image, so that the same image is found
and never built twice.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import nothing_printed
from setup.common.console import progress_bar
from setup.common.paths import REPOSITORY

if TYPE_CHECKING:
    from azure.ai.ml.entities import Environment

NAME = "gguf-scoring"
_PORT = 8080
_VERSION = 16  # hex digits
_SCORING = Path("setup/serve/container")
_AT_THE_TOP = ("Dockerfile", "requirements.txt")
# What the local endpoint imports, and nothing of what trains, exports or deploys.
_MODULES = (
    "setup/__init__.py",
    "setup/common/__init__.py",
    "setup/common/errors.py",
    "setup/common/feedback_file.py",
    "setup/common/paths.py",
    "setup/recipe/__init__.py",
    "setup/recipe/local.py",
    "setup/serve/container/*.py",
    "setup/serve/*.py",
    "setup/serve/contract/*.py",
    "setup/serve/pages/*.*",
)


class Container:
    """The container of one deployment."""

    def __init__(self, session: AzureSession, deployment: str) -> None:
        self._session, self._recipe = session, session.recipe
        self._ml = session.ml()
        self._deployment = deployment

    @property
    def variables(self) -> dict[str, str]:
        """Return what the container is told; setup/serve/container/serve.py reads it."""
        settings = self._recipe.endpoint
        return {
            "DEPLOYMENT": self._deployment,
            "CONTEXT_WINDOW": str(self._recipe.model.context_window),
            "SLOTS": str(settings.max_concurrent_requests),
            "REQUEST_TIMEOUT": f"{settings.request_timeout_ms / 1000:g}",
            "START_TIMEOUT": str(settings.readiness.longest),
        }

    def find(self) -> str:
        """The id of the environment, empty where the workspace has it not."""
        get = self._ml.environments.get
        environment = self._session.look_for(
            f"looking for environment {NAME}", get, NAME, context_version()
        )
        return str(environment.id) if environment else ""

    def ensure(self) -> str:
        """The id of the environment, made if it is not there."""
        if environment := self.find():
            return environment
        with (
            tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder,
            self._session.errors(f"environment {NAME}"),
            progress_bar(f"Uploading environment {NAME}"),
            nothing_printed(),
        ):
            context = Path(folder) / NAME  # the name stays in the environment's address
            write_context(context)
            return str(self._ml.environments.create_or_update(_described(context)).id)


def write_context(folder: Path) -> None:
    """Write what ``docker build`` needs into a folder."""
    for place, source in _files().items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@cache
def context_version() -> str:
    """The environment's version."""
    digest = hashlib.sha256()
    for place, source in _files().items():
        content = source.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{place}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:_VERSION]


def _files() -> dict[str, Path]:
    """Return the files by their place in the build context, in a fixed order."""
    places = {name: REPOSITORY / _SCORING / name for name in _AT_THE_TOP}
    for pattern in _MODULES:
        for path in sorted(REPOSITORY.glob(pattern)):
            places[path.relative_to(REPOSITORY).as_posix()] = path
    return places


def _described(context: Path) -> Environment:
    from azure.ai.ml.entities import BuildContext, Environment

    # Azure ML takes no "/" for a route.
    routes = {"liveness": "/live", "readiness": "/health", "scoring": "/score"}
    return Environment(
        name=NAME,
        version=context_version(),
        description="llama.cpp behind /score and /v1/chat/completions",
        build=BuildContext(path=context, dockerfile_path="Dockerfile"),
        os_type="Linux",
        inference_config={
            f"{name}_route": {"path": path, "port": _PORT} for name, path in routes.items()
        },
    )

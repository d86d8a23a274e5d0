"""The environment of a deployment in a container of ours: llama.cpp, or vLLM.

Its version is the start of the SHA-256 of what goes into the image, so that the same image is found
and never built twice.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import nothing_printed
from setup.common.console import progress_bar
from setup.common.paths import REPOSITORY

if TYPE_CHECKING:
    from azure.ai.ml.entities import Environment

_PORT = 8080
_VERSION = 16  # hex digits


@dataclass(frozen=True)
class Image:
    """An image of ours: what it is built of, and where it is asked.

    ``folder`` holds the files ``at_the_top`` of the build context; ``modules`` are patterns of
    files that keep their place in the repository.
    """

    name: str
    description: str
    folder: Path
    at_the_top: tuple[str, ...]
    routes: Mapping[str, str]  # Azure ML takes no "/" for one
    modules: tuple[str, ...] = ()


IMAGES = {
    "gguf": Image(
        "gguf-scoring",
        "llama.cpp behind /score and /v1/chat/completions",
        Path("setup/serve/container"),
        ("Dockerfile", "requirements.txt"),
        {"liveness": "/live", "readiness": "/health", "scoring": "/score"},
        # What the local endpoint imports, and nothing of what trains, exports or deploys.
        (
            "setup/__init__.py",
            "setup/common/__init__.py",
            "setup/common/errors.py",
            "setup/common/feedback_file.py",
            "setup/common/paths.py",
            "setup/recipe/__init__.py",
            "setup/recipe/local.py",
            "setup/serve/container/*.py",
            "setup/serve/*.py",
            "setup/serve/access/*.py",
            "setup/serve/answering/*.py",
            "setup/serve/contract/*.py",
            "setup/serve/pages/*.*",
        ),
    ),
    # vLLM listens when the model is loaded: until then both probes fail, and must be patient.
    "vllm": Image(
        "vllm-scoring",
        "vLLM behind /v1/chat/completions",
        Path("setup/serve/container/vllm"),
        ("Dockerfile", "serve_vllm.py"),
        {"liveness": "/health", "readiness": "/health", "scoring": "/v1/chat/completions"},
    ),
}


class Container:
    """The container of one deployment."""

    def __init__(self, session: AzureSession, deployment: str) -> None:
        self._session, self._recipe = session, session.recipe
        self._image = IMAGES[session.recipe.endpoint.kind]
        self._ml = session.ml()
        self._deployment = deployment

    @property
    def variables(self) -> dict[str, str]:
        """Return what the container is told: the file that starts its server says what by."""
        settings = self._recipe.endpoint
        return {
            "DEPLOYMENT": self._deployment,
            "MODEL": self._recipe.registry.model,
            "CONTEXT_WINDOW": str(self._recipe.model.context_window),
            "SLOTS": str(settings.max_concurrent_requests),
            "REQUEST_TIMEOUT": f"{settings.request_timeout_ms / 1000:g}",
            "START_TIMEOUT": str(settings.readiness.longest),
        }

    @property
    def environment(self) -> str:
        """Its environment, as NAME:VERSION."""
        return f"{self._image.name}:{context_version(self._recipe.endpoint.kind)}"

    def find(self) -> str:
        """The id of the environment, empty where the workspace has it not."""
        get = self._ml.environments.get
        name, _, version = self.environment.partition(":")
        doing = f"looking for environment {name}"
        environment = self._session.look_for(doing, get, name, version)
        return str(environment.id) if environment else ""

    def ensure(self) -> str:
        """The id of the environment, made if it is not there."""
        if environment := self.find():
            return environment
        with (
            tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder,
            self._session.errors(f"environment {self._image.name}"),
            progress_bar(f"Uploading environment {self._image.name}"),
            nothing_printed(),
        ):
            kind = self._recipe.endpoint.kind
            context = Path(folder) / self._image.name  # stays in the environment's address
            write_context(context, kind)
            return str(self._ml.environments.create_or_update(_described(kind, context)).id)


def write_context(folder: Path, kind: str = "gguf") -> None:
    """Write what ``docker build`` needs into a folder."""
    for place, source in _files(IMAGES[kind]).items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@cache
def context_version(kind: str) -> str:
    """The environment's version."""
    digest = hashlib.sha256()
    for place, source in _files(IMAGES[kind]).items():
        content = source.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{place}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:_VERSION]


def _files(image: Image) -> dict[str, Path]:
    """Return the files by their place in the build context, in a fixed order."""
    places = {name: REPOSITORY / image.folder / name for name in image.at_the_top}
    for pattern in image.modules:
        for path in sorted(REPOSITORY.glob(pattern)):
            places[path.relative_to(REPOSITORY).as_posix()] = path
    return places


def _described(kind: str, context: Path) -> Environment:
    from azure.ai.ml.entities import BuildContext, Environment

    image = IMAGES[kind]
    return Environment(
        name=image.name,
        version=context_version(kind),
        description=image.description,
        build=BuildContext(path=context, dockerfile_path="Dockerfile"),
        os_type="Linux",
        inference_config={
            f"{name}_route": {"path": path, "port": _PORT} for name, path in image.routes.items()
        },
    )

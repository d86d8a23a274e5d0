"""The versions of a registered model.

Importing MLflow takes seconds, and `deploy` asks for the champion at every start: what was read is
kept in ``versions.json`` and holds until the database file changes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from setup.common import paths
from setup.common.errors import FixableError
from setup.local.registry import finished, store
from setup.weights.adapter import WEIGHTS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
NOTE = "note"


@dataclass(frozen=True)
class Version:
    """One registered version.

    Losses are in nats per token, ``seconds`` is the time training took, ``created`` is UTC;
    ``folder`` holds the model's files and ``note`` says why it became the champion, or not;
    ``data_source`` is what its recipe called the data, empty where that is not known; ``origin``
    says where an adapter comes from that was not trained here.
    """

    model: str
    number: int
    champion: bool
    created: datetime
    held_out_before: float
    held_out_after: float
    general_before: float
    general_after: float
    train_rows: int
    epochs: float
    seconds: float
    fingerprint: str
    base_source: str
    base_sha256: str
    held_out_sha256: str
    run_id: str
    folder: Path
    note: str
    data_source: str = ""
    origin: str = ""

    @property
    def adapter(self) -> Path:
        """The folder with peft's ``adapter_config.json`` and ``adapter_model.safetensors``."""
        return self.folder / finished.ADAPTER

    @property
    def weights(self) -> Path:
        """The adapter's matrices, in safetensors' format."""
        return self.adapter / WEIGHTS

    @property
    def tokenizer(self) -> Path:
        """The folder with the tokenizer and its chat template."""
        return self.folder / finished.TOKENIZER

    def as_dict(self) -> dict[str, Any]:
        """Return the version as JSON values, for ``--json``."""
        plain = {"created": self.created.isoformat(), "folder": str(self.folder)}
        return asdict(self) | plain | {"adapter": str(self.adapter)}


_VERSION = TypeAdapter(Version)
_KEPT = TypeAdapter(dict[str, list[Version]])


def list_versions(model_name: str) -> list[Version]:
    """The versions of ``model_name``, oldest first; none where there is no registry.

    FixableError where the registry is there and cannot be read.
    """
    if not store.database_path().is_file():
        return []
    kept_in, stamp = paths.registry_folder() / "versions.json", _stamp()
    content, kept = paths.read_json(kept_in) or {}, {}
    if content.get("stamp") == stamp:
        with suppress(ValidationError):
            kept = _KEPT.validate_python(content.get("models"))
    if model_name not in kept:
        with store.open_registry() as client:
            kept[model_name] = read_versions(client, model_name)
        models = {name: [version.as_dict() for version in read] for name, read in kept.items()}
        # A registry that can only be read is read again the next time.
        with suppress(OSError):
            paths.write_private(kept_in, {"stamp": stamp, "models": models})
    return kept[model_name]


def get_version(model_name: str, which: str) -> Version:
    """The version ``which`` of ``model_name``: a number, or ``champion``.

    FixableError where there is none, its files are gone, or the registry cannot be read.
    """
    version = find_version(list_versions(model_name), model_name, which)
    if not version.weights.is_file():
        what = f"version {version.number} of {model_name} has lost its files: no {version.weights}"
        raise FixableError(what, "restore your copy of the registry, or fine-tune and register")
    return version


def find_version(versions: list[Version], model_name: str, which: str) -> Version:
    """The one of ``versions`` that ``which`` names; FixableError with what exists otherwise."""
    for version in versions:
        if which == str(version.number) or (which == CHAMPION and version.champion):
            return version
    if not versions:
        what = f"no version of {model_name} is registered in {paths.registry_folder()}"
        raise FixableError(what, "python -m setup finetune --recipe NAME")
    numbers = ", ".join(str(version.number) for version in versions)
    fix = (
        f"python -m setup promote {versions[-1].number} --recipe NAME"
        if which == CHAMPION
        else "name another"
    )
    missing = CHAMPION if which == CHAMPION else f"version {which}"
    raise FixableError(f"{model_name} has no {missing}; it has {numbers}", fix)


def trained_window(version: Version) -> int | None:
    """The ``model.context_window`` of the run that became ``version``; None where it is lost."""
    run = store.artifacts_folder() / version.model / version.run_id
    try:
        recipe = yaml.safe_load((run / "artifacts" / finished.RECIPE).read_text(encoding="utf-8"))
        window = recipe["model"]["context_window"]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        return None
    return window if isinstance(window, int) else None


def read_versions(client: MlflowClient, model_name: str) -> list[Version]:
    """Read the versions MLflow knows, oldest first, without those that somebody else made."""
    entries = client.search_model_versions(f"name = '{model_name}'")
    if not entries:
        return []
    champion = client.get_registered_model(model_name).aliases.get(CHAMPION)
    versions = [_read_version(entry, champion) for entry in entries]
    return sorted((v for v in versions if v is not None), key=lambda version: version.number)


def _read_version(entry: ModelVersion, champion: str | int | None) -> Version | None:
    about = {
        "model": entry.name,
        "number": entry.version,
        "champion": champion is not None and str(champion) == str(entry.version),
        "created": datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        "run_id": entry.run_id,
        # From where the registry lies now: MLflow keeps the path it once had.
        "folder": store.artifacts_folder() / entry.tags.get("folder", ""),
        NOTE: entry.tags.get(NOTE, ""),
    }
    try:
        return _VERSION.validate_python(entry.tags | about)
    except ValidationError:
        return None


def _stamp() -> str:
    """A text of every transaction's own: SQLite counts them in the first 100 bytes of the file."""
    path = store.database_path()
    with path.open("rb") as file:
        header = file.read(100).hex()
    status = path.stat()
    return f"{path}:{status.st_mtime_ns}:{status.st_size}:{header}"

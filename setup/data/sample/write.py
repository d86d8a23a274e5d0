"""The sample's files: what the generator says they hold, and whether they do."""

from __future__ import annotations

import json
from pathlib import Path

from setup.common.errors import FixableError

from .generate import build


def render_sample(seed: int) -> dict[str, bytes]:
    """The content of `train.jsonl` and `test.jsonl`, by file name."""
    return {
        f"{split}.jsonl": "".join(
            json.dumps(conversation.row(split), ensure_ascii=False) + "\n"
            for conversation in conversations
        ).encode("utf-8")
        for split, conversations in build(seed).items()
    }


def write_sample(seed: int, out: Path) -> list[Path]:
    """Writes both files into `out` and returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in render_sample(seed).items():
        (out / name).write_bytes(content)
        paths.append(out / name)
    return paths


def check_sample(seed: int, out: Path) -> list[Path]:
    """The paths of both files in `out`.

    Raises:
        FixableError: a file is missing, or not byte for byte what the generator writes.
    """
    paths = []
    for name, content in render_sample(seed).items():
        path = out / name
        if not path.is_file() or path.read_bytes() != content:
            raise FixableError(
                f"{path} is not what the generator writes with seed {seed}",
                fix=f'python -m setup.data.sample --seed {seed} --out "{out}"',
            )
        paths.append(path)
    return paths

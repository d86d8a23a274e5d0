"""python -m setup.data.sample: writes the sample conversations, or checks the committed ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from setup.common.errors import FixableError
from setup.data.plan import SAMPLE_DIR

from .generate import DEFAULT_SEED
from .write import check_sample, write_sample


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.check:
            paths, verb = check_sample(options.seed, options.out), "unchanged"
        else:
            paths, verb = write_sample(options.seed, options.out), "written"
    except FixableError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    for path in paths:
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

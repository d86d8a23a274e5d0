"""The command ``python -m evaluation``."""

from __future__ import annotations

from evaluation.ask.watch import Interrupted
from evaluation.cli.main import app
from setup.cli.options import run_app, show_error
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import MAKE_ROOM


def main() -> None:
    """Run the command; a full disk is one line as well, and Ctrl-C says how a run goes on."""
    try:
        run_app(app)
    except OSError as error:
        where = error.filename or "the runs folder"
        show_error(FixableError(f"{where}: {error.strerror or error}", MAKE_ROOM))
        raise SystemExit(1) from None
    except Interrupted:
        console.err.print("interrupted; go on with: python -m evaluation run --resume")
        raise SystemExit(console.INTERRUPTED) from None


if __name__ == "__main__":
    main()

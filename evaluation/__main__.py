"""``python -m evaluation``: run, compare, report, gate."""

from __future__ import annotations

from evaluation.cli.main import main

if __name__ == "__main__":
    main()

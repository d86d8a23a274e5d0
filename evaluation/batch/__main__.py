"""``python -m evaluation.batch``: ``pf run create`` with the lines on threads of one process."""

from __future__ import annotations

from evaluation.batch.command import main

if __name__ == "__main__":
    main()

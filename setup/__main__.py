"""``python -m setup``: from data to a connection the flows can use, step by step."""

from __future__ import annotations

from setup.cli.main import main

if __name__ == "__main__":
    main()
